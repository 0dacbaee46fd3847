"""Traces: what every step of a program saw and answered, under the dotted path of its predictor.

Knows no engine and no optimizer; steps are recorded only inside `record()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from homefire.engine.request import Completion, Message
from homefire.modules.example import Prediction
from homefire.modules.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of one predictor."""

    path: str
    """Dotted path of the predictor in the program that was called, `self` for a predictor called alone."""
    signature: type[Signature]
    inputs: Mapping[str, Any]
    prediction: Prediction
    messages: tuple[Message, ...]
    completions: tuple[Completion, ...]
    """All that the call took, with what closed an answer that was cut off; empty where the labels of an example supplied the outputs."""
    model: str


@dataclass(slots=True)
class Trace:
    """The steps of one run, in the order in which they ended."""

    steps: list[Step] = field(default_factory=list)
    _paths: dict[int, str] = field(default_factory=dict)
    _named: list[object] = field(default_factory=list)

    def name(self, program: object, predictors: Sequence[tuple[str, object]]) -> None:
        """Learns the paths of a program's predictors; those of a program that a known one calls keep the paths they have."""
        new = [(path, predictor) for path, predictor in predictors if id(predictor) not in self._paths]
        if new:
            self._named.append(program)  # kept alive, so that no other object takes over an id
            self._paths.update((id(predictor), path or "self") for path, predictor in new)

    def path_of(self, predictor: object) -> str:
        """The dotted path of a predictor, `self` for one that no program has."""
        return self._paths.get(id(predictor), "self")


_trace: ContextVar[Trace | None] = ContextVar("homefire_trace", default=None)
_labels: ContextVar[Mapping[str, Any] | None] = ContextVar("homefire_labels", default=None)


def current_trace() -> Trace | None:
    """The trace that is being recorded, inside `record`."""
    return _trace.get()


def current_labels() -> Mapping[str, Any] | None:
    """Known outputs of the example that is running, inside `supplied_by`."""
    return _labels.get()


@contextmanager
def record() -> Iterator[Trace]:
    """Records every step that runs inside the block."""
    trace = Trace()
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


@contextmanager
def supplied_by(labels: Mapping[str, Any]) -> Iterator[None]:
    """Inside the block a predictor whose outputs are all among these labels answers with them, and runs no model."""
    token = _labels.set(labels)
    try:
        yield
    finally:
        _labels.reset(token)
