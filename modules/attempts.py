"""One of several attempts of a program: sampling of its own, advice to its predictors, and a trace that is kept only if it is chosen.

Knows no program and no reward; what holds for an attempt is a context variable, so that no copy of the program is needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from homefire.engine.request import Sampling
from homefire.modules.signature import InputField, Signature
from homefire.modules.trace import Trace, ambient_trace, current_trace

ATTEMPT_TEMPERATURE = 1.0
"""Drawn colder, attempts would be too much alike."""


@dataclass(frozen=True, slots=True)
class Advice:
    """An input that a predictor has in one attempt only."""

    name: str
    description: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What holds for all calls of an attempt."""

    number: int
    """Counts from 0; calls that have a seed are drawn with it so much higher."""
    rollout: str
    """Tells its calls apart from those of other attempts, also of attempts inside attempts."""
    advice: Mapping[int, Advice] = field(default_factory=dict)
    """For predictors, by their id."""

    def sampling(self, wanted: Sampling, *, drawn: bool) -> Sampling:
        """The sampling of a call in this attempt; `drawn` says that the call itself names a temperature, which then stays."""
        base = wanted.rollout_id
        return replace(
            wanted,
            temperature=wanted.temperature if drawn else max(wanted.temperature, ATTEMPT_TEMPERATURE),
            rollout_id=self.rollout if base is None else f"{base}/{self.rollout}",
            seed=None if wanted.seed is None else wanted.seed + self.number,
        )


_attempt: ContextVar[Attempt | None] = ContextVar("homefire_attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt that is being made here."""
    return _attempt.get()


@contextmanager
def attempted(number: int, advice: Mapping[int, Advice] | None = None) -> Iterator[Trace]:
    """What runs in the block is one attempt; its steps go into a trace of its own, which `keep` puts into the one around it.

    Args:
        number: Which attempt it is, from 0.
        advice: For predictors, by their id; also for the predictors that other attempts around this one advise.
    """
    outer, around = current_attempt(), current_trace()
    rollout = str(number) if outer is None else f"{outer.rollout}.{number}"
    offset = number if outer is None else 1000 * outer.number + number
    told = {**(outer.advice if outer is not None else {}), **(advice or {})}
    trace = Trace()
    if around is not None:
        trace._paths.update(around._paths)
    token = _attempt.set(Attempt(number=offset, rollout=rollout, advice=told))
    try:
        with ambient_trace.block(trace):
            yield trace
    finally:
        _attempt.reset(token)


def keep(trace: Trace) -> None:
    """Puts the steps of a chosen attempt into the trace that is being recorded, if there is one."""
    around = current_trace()
    if around is None:
        return
    for step in trace.calls:
        step.prediction._trace_id = around.id
        around.add(replace(step, id=around.new_id()))


Names = tuple[tuple[str, str], ...]
_advised: weakref.WeakKeyDictionary[type[Signature], dict[Names, type[Signature]]] = weakref.WeakKeyDictionary()


def advised(signature: type[Signature], names: Names) -> type[Signature]:
    """The signature with inputs for pieces of advice, each a name and a description; one class, so that formats prepare it once."""
    known = _advised.setdefault(signature, {})
    if names not in known:
        made = signature
        for name, description in names:
            made = made.append(name, InputField(desc=description), str)
        known[names] = made
    return known[names]
