"""Modules: programs made of predictors and of other modules.

Knows no engine; a module is plain Python whose attributes are searched for predictors.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from homefire.engine.callbacks import BaseCallback, by_name, observed
from homefire.engine.history import History, HistoryEntry, print_entries
from homefire.engine.lm import LM
from homefire.engine.lm_options import checked_callbacks
from homefire.engine.usage import UsageTracker, track_usage
from homefire.errors import ConfigError, InputError
from homefire.modules.assertions import MAX_BACKTRACKS, arun_again, run_again
from homefire.modules.example import Example, Prediction
from homefire.modules.field_stream import FieldDelta, Restarted, astream, stream
from homefire.modules.given_inputs import check_by_name
from homefire.modules.parallel import run_examples
from homefire.modules.savable import Savable, found_in, put_in_place
from homefire.modules.saved_program import save_program as _save_program
from homefire.modules.saved_state import parts_of, read_state, state_of, write_state
from homefire.modules.settings import check_lm, current, patience_of
from homefire.modules.signature import Signature
from homefire.modules.trace import current_trace, marked, record


class Module(Savable):
    """Base of all programs. Write `forward(self, **inputs) -> Prediction` and call the module itself."""

    callbacks: Sequence[BaseCallback] = ()
    """Who hears of this module's calls, beside the callbacks of the settings."""
    max_backtracks: int = MAX_BACKTRACKS
    """Times that an assertion in this module's forward has one call made again."""
    _compiled: bool = False
    """Frozen: where this is set, optimizers leave a module in a larger program alone."""

    def __init__(self, callbacks: Sequence[BaseCallback] | None = None) -> None:
        if callbacks:
            self.callbacks = checked_callbacks(callbacks)

    def __repr__(self) -> str:
        """The predictors with their signatures, each on a line under its path."""
        lines = [f"{path} = {predictor!r}" for path, predictor in self.named_predictors(frozen=True)]
        return "\n".join(lines) or f"{type(self).__name__}()"

    def forward(self, *positional: Any, **inputs: Any) -> Prediction:
        """What the program does."""
        raise TypeError(f"{type(self).__name__} does not say what it does. Write `def forward(self, ...): ...` in it.")

    def __call__(self, *positional: Any, **inputs: Any) -> Prediction:
        trace = current_trace()
        if trace is not None:
            trace.name(self, self.named_predictors(frozen=True))
        given = self._named(positional, inputs) if positional else inputs
        with observed("module", self, given, self.callbacks) as call:
            if current().track_usage:
                with track_usage() as usage:
                    prediction = _with_usage(self._with_assertions(positional, inputs), usage)
            else:
                prediction = self._with_assertions(positional, inputs)
            call.give(marked(prediction))
        return prediction

    async def aforward(self, *positional: Any, **inputs: Any) -> Prediction:
        """What the program does, awaited. Unless a program says otherwise, `forward` runs on a thread of its own."""
        return await asyncio.to_thread(self.forward, *positional, **inputs)

    async def acall(self, *positional: Any, **inputs: Any) -> Prediction:
        """As calling the module, awaited; cancelling the task cancels what is in flight."""
        trace = current_trace()
        if trace is not None:
            trace.name(self, self.named_predictors(frozen=True))
        given = self._named(positional, inputs) if positional else inputs
        with observed("module", self, given, self.callbacks) as call:
            if current().track_usage:
                with track_usage() as usage:
                    prediction = _with_usage(await self._awith_assertions(positional, inputs), usage)
            else:
                prediction = await self._awith_assertions(positional, inputs)
            call.give(marked(prediction))
        return prediction

    def _named(self, positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        check_by_name(self.forward, self._input_names(), type(self).__name__)
        return by_name(self.forward, positional, inputs)

    def _input_names(self) -> Sequence[str]:
        """What the program takes, as far as its first predictor tells."""
        return next((list(one.signature.input_fields) for one in self.predictors()), ())

    def _with_assertions(self, positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> Prediction:
        return run_again(self.max_backtracks, lambda: self.forward(*positional, **inputs))

    async def _awith_assertions(self, positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> Prediction:
        return await arun_again(self.max_backtracks, lambda: self.aforward(*positional, **inputs))

    def stream(self, **inputs: Any) -> Iterator[FieldDelta | Restarted | Prediction]:
        """Runs the program and yields the pieces of its outputs as they are written, the prediction last.

        >>> for piece in program.stream(question="Why is the sky blue?"):  # doctest: +SKIP
        ...     if isinstance(piece, FieldDelta):
        ...         print(piece.text, end="")

        Raises:
            Exception: what the program raises.
        """

        def call() -> Prediction:
            with record():
                return self(**inputs)

        return stream(call)

    def astream(self, **inputs: Any) -> AsyncIterator[FieldDelta | Restarted | Prediction]:
        """As `stream`, for `async for`."""

        async def call() -> Prediction:
            with record():
                return await self.acall(**inputs)

        return astream(call)

    def named_predictors(self, *, frozen: bool = False) -> list[tuple[str, Predictor]]:
        """Every predictor once, under its dotted path: `answer`, `steps[0].predict`, `by_kind['a']`; `self` where this is one.

        Args:
            frozen: Whether to name also those in modules that are `_compiled`, which optimizers leave alone.
        """
        return [(path or "self", part) for path, part in self._parts("", set(), frozen) if isinstance(part, Predictor)]

    def predictors(self) -> list[Predictor]:
        """Every predictor once, in the order of `named_predictors`."""
        return [predictor for _, predictor in self.named_predictors()]

    def named_sub_modules(self, type_: type[Module] | None = None, skip_compiled: bool = False) -> list[tuple[str, Module]]:
        """This module, as `self`, and every module in it, under dotted paths.

        Args:
            type_: Only modules of this class.
            skip_compiled: Whether to leave out those in modules that are `_compiled`.
        """
        parts = self._parts("", set(), not skip_compiled)
        return [(path or "self", part) for path, part in parts if isinstance(part, type_ or Module)]

    named_parameters, parameters = named_predictors, predictors

    def map_named_predictors(self, func: Callable[[Predictor], Predictor]) -> Self:
        """Puts what the function makes of each predictor in its place; returns the module."""
        new = {id(predictor): func(predictor) for predictor in self.predictors()}
        for _, part in self.named_sub_modules():
            for name, value in part.__dict__.items():
                part.__dict__[name] = put_in_place(value, lambda old: new.get(id(old), old))
        return self

    def set_lm(self, lm: LM | None) -> None:
        """Makes every predictor use this LM; None lets them use that of the settings.

        Raises:
            ConfigError: it is no LM.
        """
        check_lm(lm, "program.set_lm(homefire.LM({name!r}))")
        for predictor in self.predictors():
            predictor.lm = lm

    def get_lm(self) -> LM:
        """The LM that all predictors use.

        Raises:
            ConfigError: none is set, or they use several.
        """
        used = {id(lm): lm for predictor in self.predictors() if (lm := predictor.lm or current().lm) is not None}
        if len(used) > 1:
            raise ConfigError(
                f"The program uses several LMs: {', '.join(map(str, used.values()))}. Ask one predictor: program.predictors()[0].lm."
            )
        if not used:
            raise ConfigError("No LM is set. Write program.set_lm(homefire.LM()), or homefire.configure(lm=homefire.LM()).")
        return next(iter(used.values()))

    def deepcopy(self) -> Self:
        """A copy that shares nothing that calls or optimizers change; LMs, indexes and what cannot be copied, such as locks, are shared."""
        return copy.deepcopy(self)

    def reset_copy(self) -> Self:
        """A copy whose predictors have no demos and no LM."""
        made = self.deepcopy()
        for predictor in made.predictors():
            predictor.reset()
        return made

    def batch(
        self,
        examples: Sequence[Example | Mapping[str, Any]],
        num_threads: int | None = None,
        max_errors: int | None = None,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: float | None = None,
        straggler_limit: int = 3,
        *,
        threads: int | None = None,
    ) -> Any:
        """Runs the module on the inputs of every example, in parallel.

        Args:
            examples: Examples that know their inputs, or mappings of inputs.
            num_threads: Most calls at once; by default as many as the engines batch.
            max_errors: Failed examples after which the rest is given up; by default only when all of the first ten fail.
            return_failed_examples: Whether to return the failed examples and their errors too.
            provide_traceback: Whether to show failures with their tracebacks.
            disable_progress_bar: Whether to show no progress on a terminal.
            timeout: Seconds after which the last examples are begun a second time; by default never, for an engine here gains nothing.
            straggler_limit: Most examples that are begun a second time.
            threads: Another name of `num_threads`.

        Returns:
            Predictions in the order of the examples, None for those that failed; or a tuple of these, the failed examples and the errors.

        Raises:
            ValueError: no example knows its inputs.
            TooManyFailures: see `max_errors`; it has what there is.
            EngineError: and other failures that every example would meet.
        """
        patience = patience_of(max_errors, provide_traceback, timeout, straggler_limit)
        workers = threads or num_threads or current().num_threads or self.useful_threads()
        outcomes = run_examples(self, examples, workers, patience, hidden=disable_progress_bar)
        return outcomes.with_failures(examples) if return_failed_examples else outcomes.results

    @property
    def history(self) -> list[HistoryEntry]:
        """The last calls of the predictors in this module, the oldest first; those of copies are their own."""
        entries = [entry for _, predictor in self.named_predictors(frozen=True) for entry in predictor._history.entries()]
        return sorted(entries, key=lambda entry: entry.time)

    def inspect_history(self, n: int = 1, file: TextIO | None = None) -> None:
        """Prints the last `n` calls of this module, to standard output if no file is given."""
        print_entries(self.history, n, file)

    def useful_threads(self) -> int:
        """Calls that are worth having in flight: as many as the engines behind the predictors batch."""
        return max((predictor.language_model().max_batch for _, predictor in self.named_predictors(frozen=True)), default=8)

    def dump_state(self) -> dict[str, Any]:
        """What optimizers change: instructions, demos and LM of every predictor, as JSON values."""
        return {path: predictor.dump_own_state() for path, predictor in self.named_predictors(frozen=True)}

    def load_state(self, state: Mapping[str, Any], *, allow_endpoint: bool = False, allow_unsafe_lm_state: bool = False) -> None:
        """Puts a dumped state into a program of the same shape; the program stays as it was where that fails.

        Args:
            state: What `dump_state` gave.
            allow_endpoint: See `load`.
            allow_unsafe_lm_state: Another name of `allow_endpoint`.

        Raises:
            InputError: the predictors or their fields are not the same.
        """
        own = dict(self.named_predictors(frozen=True))
        open_ = {path for path, _ in self.named_predictors()}
        if set(state) - set(own) or open_ - set(state):
            theirs, ours = ", ".join(sorted(state)), ", ".join(sorted(own))
            said = f"The saved program has the predictors {theirs}, but this one has {ours}"
            raise InputError(f"{said}. Make one of the saved program's class, and write that_program.load(...).")
        allowed = allow_endpoint or allow_unsafe_lm_state
        ready = [own[path].ready_state(one, allow_endpoint=allowed) for path, one in state.items()]
        for take_over in ready:
            take_over()

    def save(
        self,
        path: str | Path,
        save_program: bool = False,
        modules_to_serialize: Sequence[Any] | None = None,
        *,
        allow_pickle: bool = False,
    ) -> None:
        """Writes the state as JSON, atomically; or the whole program into a folder, for `homefire.load`.

        Args:
            path: The file, or the folder.
            save_program: Whether to save the program itself: its classes by name, and all attributes, none of them as code.
            modules_to_serialize: Pickles the program instead, with the code of these modules; `[]` pickles what cannot be imported.
            allow_pickle: Whether the state may be pickled, for a file that ends in `.pkl`.

        Raises:
            InputError: a pickle that was not allowed, or a program with an attribute that only a pickle can hold.
        """
        if save_program:
            _save_program(self, Path(path), modules_to_serialize)
        elif modules_to_serialize is not None:
            raise InputError(
                "modules_to_serialize is for whole programs. Write program.save('folder', save_program=True, modules_to_serialize=[...])."
            )
        else:
            write_state(Path(path), self.dump_state(), allow_pickle=allow_pickle)

    def load(
        self, path: str | Path, allow_pickle: bool = False, *, allow_endpoint: bool = False, allow_unsafe_lm_state: bool = False
    ) -> None:
        """Reads the state that `save` wrote, or DSPy; no code runs.

        Args:
            path: The file.
            allow_pickle: Whether a file that ends in `.pkl` may run code.
            allow_endpoint: Whether to take addresses of servers from the file, which then decides where prompts go.
            allow_unsafe_lm_state: Another name of `allow_endpoint`.

        Raises:
            InputError: no such file, not a saved program, or one of another shape.
        """
        state = read_state(Path(path), allow_pickle=allow_pickle)
        self.load_state(state, allow_endpoint=allow_endpoint, allow_unsafe_lm_state=allow_unsafe_lm_state)

    def _parts(self, path: str, seen: set[int], frozen: bool) -> Iterator[tuple[str, Module]]:
        if id(self) in seen or (path and self._compiled and not frozen):
            return
        seen.add(id(self))
        yield path, self
        for name, value in self.__dict__.items():
            for inner_path, part in found_in(value, f"{path}.{name}" if path else name, Module):
                yield from part._parts(inner_path, seen, frozen)


class Predictor(Module):
    """A module that makes one call, and that optimizers change: its instructions, demos and LM."""

    def __init__(self, signature: type[Signature], config: Mapping[str, Any]) -> None:
        self.signature = signature
        self.config = dict(config)
        self.demos: list[Example] = []
        self.lm: LM | None = None
        self._history = History()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.signature.signature})"

    def __getstate__(self) -> dict[str, Any]:
        """All but the calls that were made, which copies and files do without."""
        return {name: value for name, value in self.__dict__.items() if name != "_history"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._history = History()

    def language_model(self) -> LM:
        """The LM of this predictor, otherwise the one of the settings.

        Raises:
            ConfigError: there is neither.
        """
        lm = self.lm or current().lm
        if lm is None:
            raise ConfigError("No LM is set. Begin with: homefire.configure(lm=homefire.LM()), which takes the default local model.")
        return lm

    def reset(self) -> None:
        """Takes away demos and LM; instructions and sampling stay."""
        self.demos, self.lm = [], None

    def update_config(self, **config: Any) -> None:
        """Changes the sampling of this predictor."""
        self.config = {**self.config, **config}

    def get_config(self) -> dict[str, Any]:
        """The sampling of this predictor, over the LM's own."""
        return dict(self.config)

    def dump_own_state(self) -> dict[str, Any]:
        """Instructions, demos, and the name of the model and adapter, as JSON values."""
        return state_of(self.signature, self.demos, self.config, self.lm)

    def ready_state(self, state: Mapping[str, Any], *, allow_endpoint: bool = False) -> Callable[[], None]:
        """Reads what `dump_own_state` gave, and returns what takes it over; types stay those of the code."""
        parts = parts_of(state, self.signature, allow_endpoint=allow_endpoint)

        def take_over() -> None:
            self.signature, self.demos, self.config, self.lm = parts

        return take_over

    def _with_assertions(self, positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> Prediction:
        return self.forward(*positional, **inputs)

    async def _awith_assertions(self, positional: tuple[Any, ...], inputs: Mapping[str, Any]) -> Prediction:
        return await self.aforward(*positional, **inputs)


def _with_usage(prediction: Prediction, usage: UsageTracker) -> Prediction:
    if isinstance(prediction, Prediction):  # a user's forward may return something else
        prediction._usage = usage.get_total_tokens()
    return prediction
