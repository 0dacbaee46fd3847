"""Modules: programs made of predictors and of other modules.

Knows no engine; a module is plain Python whose attributes are searched for predictors.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic_core import to_jsonable_python

from homefire.configs.home import write_atomic
from homefire.engine.callbacks import BaseCallback, observed
from homefire.engine.lm import LM
from homefire.engine.usage import UsageTracker, track_usage
from homefire.errors import ConfigError, InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.field_stream import FieldDelta, Restarted, astream, stream
from homefire.modules.parallel import run_in_threads
from homefire.modules.settings import current
from homefire.modules.signature import Signature
from homefire.modules.trace import current_trace, record


class Module:
    """Base of all programs. Write `forward(self, **inputs) -> Prediction` and call the module itself."""

    callbacks: Sequence[BaseCallback] = ()
    """Who hears of this module's calls, beside the callbacks of the settings."""

    def forward(self, **inputs: Any) -> Prediction:
        """What the program does."""
        raise TypeError(f"{type(self).__name__} does not say what it does. Write `def forward(self, ...): ...` in it.")

    def __call__(self, **inputs: Any) -> Prediction:
        trace = current_trace()
        if trace is not None:
            trace.name(self, self.named_predictors())
        with observed("module", self, inputs, self.callbacks) as call:
            if current().track_usage:
                with track_usage() as usage:
                    prediction = _with_usage(self.forward(**inputs), usage)
            else:
                prediction = self.forward(**inputs)
            call.give(prediction)
        return prediction

    async def aforward(self, **inputs: Any) -> Prediction:
        """What the program does, awaited. Unless a program says otherwise, `forward` runs on a thread of its own."""
        return await asyncio.to_thread(self.forward, **inputs)

    async def acall(self, **inputs: Any) -> Prediction:
        """As calling the module, awaited; cancelling the task cancels what is in flight."""
        trace = current_trace()
        if trace is not None:
            trace.name(self, self.named_predictors())
        with observed("module", self, inputs, self.callbacks) as call:
            if current().track_usage:
                with track_usage() as usage:
                    prediction = _with_usage(await self.aforward(**inputs), usage)
            else:
                prediction = await self.aforward(**inputs)
            call.give(prediction)
        return prediction

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

    def named_predictors(self) -> list[tuple[str, Predictor]]:
        """Every predictor once, under its dotted path: `answer`, `steps[0].predict`, `by_kind['a']`."""
        return [(path, part) for path, part in self._parts("", set()) if isinstance(part, Predictor)]

    def predictors(self) -> list[Predictor]:
        """Every predictor once, in the order of `named_predictors`."""
        return [predictor for _, predictor in self.named_predictors()]

    def named_sub_modules(self) -> list[tuple[str, Module]]:
        """This module, as `self`, and every module in it, under dotted paths."""
        return [(path or "self", part) for path, part in self._parts("", set())]

    def set_lm(self, lm: LM) -> None:
        """Makes every predictor use this LM."""
        for predictor in self.predictors():
            predictor.lm = lm

    def deepcopy(self) -> Self:
        """A copy that shares nothing that calls or optimizers change; LMs are shared, for an engine is not copied."""
        return copy.deepcopy(self)

    def batch(self, examples: Sequence[Example], *, threads: int | None = None) -> list[Prediction]:
        """Runs the module on the inputs of every example, in parallel; the predictions come in the same order.

        Raises:
            Exception: the first failure; what is in flight is cancelled.
        """
        return run_in_threads([partial(self, **example.inputs()) for example in examples], threads or self.useful_threads())

    def useful_threads(self) -> int:
        """Calls that are worth having in flight: as many as the engines behind the predictors batch."""
        return max((predictor.language_model().max_batch for predictor in self.predictors()), default=8)

    def dump_state(self) -> dict[str, Any]:
        """What optimizers change: instructions, demos and LM of every predictor, as JSON values."""
        return {path: predictor.dump_own_state() for path, predictor in self.named_predictors()}

    def load_state(self, state: Mapping[str, Any], *, allow_endpoint: bool = False) -> None:
        """Puts a dumped state into a program of the same shape.

        Args:
            state: What `dump_state` gave.
            allow_endpoint: Whether to take addresses of servers from the state, see `LM.from_state`.

        Raises:
            InputError: the predictors are not the same.
        """
        own = dict(self.named_predictors())
        if set(state) != set(own):
            raise InputError(f"The saved program has the predictors {', '.join(sorted(state))}, but this one has {', '.join(sorted(own))}.")
        for path, predictor in own.items():
            predictor.load_own_state(state[path], allow_endpoint=allow_endpoint)

    def save(self, path: str | Path) -> None:
        """Writes the state as JSON, atomically."""
        write_atomic(Path(path), json.dumps({"homefire": 1, "predictors": self.dump_state()}, ensure_ascii=False, indent=2))

    def load(self, path: str | Path, *, allow_endpoint: bool = False) -> None:
        """Reads what `save` wrote; no code runs.

        Args:
            path: The file.
            allow_endpoint: Whether to take addresses of servers from the file, which then decides where prompts go.

        Raises:
            InputError: no such file, not a saved program, or one of another shape.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            state = saved["predictors"]
        except FileNotFoundError:
            raise InputError(f"There is no saved program at {path}.") from None
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{path} is not a program that `save` wrote.") from None
        self.load_state(state, allow_endpoint=allow_endpoint)

    def _parts(self, path: str, seen: set[int]) -> Iterator[tuple[str, Module]]:
        if id(self) in seen:
            return
        seen.add(id(self))
        yield path, self
        for name, value in vars(self).items():
            for inner_path, part in _modules_in(f"{path}.{name}" if path else name, value):
                yield from part._parts(inner_path, seen)


class Predictor(Module):
    """A module that makes one call, and that optimizers change: its instructions, demos and LM."""

    def __init__(self, signature: type[Signature], config: Mapping[str, Any]) -> None:
        self.signature = signature
        self.config = dict(config)
        self.demos: list[Example] = []
        self.lm: LM | None = None

    def language_model(self) -> LM:
        """The LM of this predictor, otherwise the one of the settings.

        Raises:
            ConfigError: there is neither.
        """
        lm = self.lm or current().lm
        if lm is None:
            raise ConfigError("No LM is set. Begin with: homefire.configure(lm=homefire.LM()), which takes the default local model.")
        return lm

    def dump_own_state(self) -> dict[str, Any]:
        """Instructions, demos, and the name of the model and adapter, as JSON values."""
        fields = [{"name": field.name, "description": field.description} for field in self.signature.fields.values()]
        return {
            "signature": {"instructions": self.signature.instructions, "fields": fields},
            "demos": [to_jsonable_python(demo.toDict(), by_alias=True) for demo in self.demos],
            "config": to_jsonable_python(self.config),
            "lm": None if self.lm is None else self.lm.dump_state(),
        }

    def load_own_state(self, state: Mapping[str, Any], *, allow_endpoint: bool = False) -> None:
        """Takes over what `dump_own_state` gave; types stay those of the code."""
        names = [field["name"] for field in state["signature"]["fields"]]
        if names != list(self.signature.fields):
            raise InputError(
                f"The saved signature has the fields {', '.join(names)}, but the program's has {', '.join(self.signature.fields)}."
            )
        signature = self.signature.with_instructions(state["signature"]["instructions"])
        for field in state["signature"]["fields"]:
            signature = signature.with_updated_fields(field["name"], desc=field["description"])
        self.signature = signature
        self.demos = [Example(demo) for demo in state["demos"]]
        self.config = dict(state["config"])
        self.lm = None if state["lm"] is None else LM.from_state(state["lm"], allow_endpoint=allow_endpoint)


def _with_usage(prediction: Prediction, usage: UsageTracker) -> Prediction:
    prediction._usage = usage.get_total_tokens()
    return prediction


def _modules_in(path: str, value: Any) -> Iterator[tuple[str, Module]]:
    match value:
        case Module():
            yield path, value
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _modules_in(f"{path}[{index}]", item)
        case dict():
            for key, item in value.items():
                yield from _modules_in(f"{path}[{key!r}]", item)
