"""Traces: what every step of a program saw and answered, under the dotted path of its predictor.

Knows no engine, no optimizer and no disk; steps are recorded only inside `record()` and where the settings have a trace.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

from homefire.engine.ambient import Ambient
from homefire.engine.request import Completion, Message
from homefire.engine.threads import carry_into_threads
from homefire.engine.usage import ModelUsage
from homefire.modules.example import Prediction
from homefire.modules.signature import Signature

T = TypeVar("T")

MOST_STEPS = 10_000
"""Steps of one trace that are kept where nobody says how many; the oldest go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of one predictor. It also unpacks as `predictor, inputs, prediction`."""

    path: str
    """Dotted path of the predictor in the program that was called, `self` for a predictor called alone."""
    signature: type[Signature]
    inputs: Mapping[str, Any]
    """As they were when the call was made."""
    prediction: Prediction
    """Without fields where the call failed."""
    messages: tuple[Message, ...]
    completions: tuple[Completion, ...]
    """All that the call took, with what closed an answer that was cut off; empty where the labels of an example supplied the outputs."""
    model: str
    adapter: str | None = None
    """The LoRA adapter and its version, as NAME@3."""
    answer: str = ""
    """The answer's whole text, in the form that the format asks for."""
    id: str = ""
    """Of this step, in all traces."""
    call_id: str | None = None
    """Of the call as callbacks and spans know it; None where nobody hears."""
    started: float = 0.0
    """Seconds since 1970."""
    seconds: float = 0.0
    error: str | None = None
    """Type and message of what failed."""
    predictor: Any = field(default=None, repr=False, compare=False)
    """Who made the call; None where the step was read from a file and no program was given."""

    @property
    def usage(self) -> ModelUsage:
        """Tokens and seconds that the models took."""
        sums, info = ModelUsage(), self.prediction._info
        if self.completions:
            sums.calls = max(1, info.calls)
            sums.cache_hits = int(info.from_cache)
            if not info.from_cache:
                sums.prompt_tokens = self.completions[0].prompt_tokens
                sums.cached_tokens = self.completions[0].cached_tokens
                sums.completion_tokens = sum(one.completion_tokens or len(one.token_ids) for one in self.completions)
                sums.seconds = self.seconds
        return sums

    def __iter__(self) -> Iterator[Any]:
        yield from (self.predictor, self.inputs, self.prediction)

    def __getitem__(self, index: int) -> Any:
        return (self.predictor, self.inputs, self.prediction)[index]

    def __len__(self) -> int:
        return 3


@dataclass(slots=True)
class Trace:
    """The steps of one run, in the order in which they ended. It is also a sequence of `predictor, inputs, prediction`."""

    steps: list[Step] = field(default_factory=list)
    """Calls that were answered."""
    failures: list[Step] = field(default_factory=list)
    """Calls that failed, each with its error."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    most: int | None = None
    """Steps that are kept; the oldest go. None keeps all."""
    outer: Trace | None = field(default=None, repr=False)
    """The trace around this one, which learns the same steps under the paths of its own program."""
    _paths: dict[int, str] = field(default_factory=dict, repr=False)
    _named: list[object] = field(default_factory=list, repr=False)
    _numbers: Iterator[int] = field(default_factory=count, repr=False)

    @property
    def calls(self) -> list[Step]:
        """All steps, answered or failed, in the order in which they began."""
        return sorted((*self.steps, *self.failures), key=lambda step: step.started)

    def name(self, program: object, predictors: Sequence[tuple[str, object]]) -> None:
        """Learns the paths of a program's predictors; those of a program that a known one calls keep the paths they have."""
        new = [(path, predictor) for path, predictor in predictors if id(predictor) not in self._paths]
        if new:
            self._named.append(program)  # kept alive, so that no other object takes over an id
            self._paths.update((id(predictor), path or "self") for path, predictor in new)
        if self.outer is not None:
            self.outer.name(program, predictors)

    def path_of(self, predictor: object) -> str:
        """The dotted path of a predictor, `self` for one that no program has."""
        return self._paths.get(id(predictor), "self")

    def new_id(self) -> str:
        """An id for a step that is to be added."""
        return f"{self.id}-{next(self._numbers)}"

    def add(self, step: Step) -> None:
        """Takes a step under the path that its predictor has here."""
        kept = self.steps if step.error is None else self.failures
        kept.append(step)
        if self.most is not None and len(kept) > self.most:
            del kept[: len(kept) - self.most]
        if self.outer is not None:
            path = self.outer.path_of(step.predictor)
            self.outer.add(step if path == step.path else replace(step, path=path))

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __getitem__(self, index: int) -> Step:
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    def __bool__(self) -> bool:
        return True


ambient_trace: Ambient[Trace | None] = Ambient("trace", None)
"""The trace that is being recorded; `record` and the settings set it."""
_labels: ContextVar[Mapping[str, Any] | None] = ContextVar("homefire_labels", default=None)


def current_trace() -> Trace | None:
    """The trace that is being recorded, inside `record`."""
    return ambient_trace.get()


def current_labels() -> Mapping[str, Any] | None:
    """Known outputs of the example that is running, inside `supplied_by`."""
    return _labels.get()


@contextmanager
def record() -> Iterator[Trace]:
    """Records every step that runs inside the block, those of threads and tasks that it starts included.

    Inside another such block both traces have the steps.
    """
    carry_into_threads()
    trace = Trace(outer=current_trace())
    with ambient_trace.block(trace):
        yield trace


@contextmanager
def supplied_by(labels: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block a predictor whose outputs are all among these labels answers with them, and runs no model."""
    token = _labels.set(labels)
    try:
        yield
    finally:
        _labels.reset(token)


def marked(made: T) -> T:
    """What a program answered; a prediction knows from now on which trace has it."""
    trace = current_trace()
    if trace is not None and isinstance(made, Prediction):
        made._trace_id = trace.id
    return made


def snapshot(value: Any) -> Any:
    """The value as it is now: lists and dictionaries are copied, what they hold included; other values are taken as they are."""
    kind = type(value)
    if kind is dict:
        return {key: snapshot(item) for key, item in value.items()}
    if kind is list:
        return [snapshot(item) for item in value]
    return value


def began(seconds: float) -> float:
    """When something began that has taken so many seconds until now, in seconds since 1970."""
    return time.time() - seconds
