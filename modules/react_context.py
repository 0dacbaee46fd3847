"""The steps of an agent so far, as a model reads them, and made shorter where the model's context has no room for them.

Knows no tool. Nothing is lost: only the prompt is shortened, the oldest observations first, and it says what was left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homefire.engine.request import Request
from homefire.modules.module import Predictor
from homefire.modules.settings import current

SHORT_OBSERVATION = 200
"""Characters that are left of an observation that is shortened."""
_LAST = (1_000, 200, 50)
"""Characters that are left of the newest observations, when nothing else is left to shorten."""
_ROOM = 256
"""Tokens that are kept free for an answer, where the context has room for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an agent."""

    index: int
    thought: str
    calls: tuple[str, ...]
    """Each call as text."""
    observations: tuple[str, ...]

    def text(self, most: int | None = None) -> str:
        """The step as a model reads it, its observations cut off behind so many characters."""
        lines = [f"Thought {self.index}: {self.thought}"]
        for number, (call, observation) in enumerate(zip(self.calls, self.observations, strict=True), 1):
            place = f"{self.index}" if len(self.calls) == 1 else f"{self.index}.{number}"
            lines += [f"Call {place}: {call}", f"Observation {place}: {_shortened(observation, most)}"]
        return "\n".join(lines)


def steps_text(steps: Sequence[Step], notices: Sequence[str] = ()) -> str:
    """All steps in full, and what is to be said after them."""
    return _joined([step.text() for step in steps], notices)


def fitting_text(predictor: Predictor, inputs: Mapping[str, Any], steps: Sequence[Step], notices: Sequence[str] = ()) -> tuple[str, bool]:
    """The steps as text that leaves room for an answer.

    Args:
        predictor: Who is to be called with the text as its input `trajectory`.
        inputs: Its other inputs.
        steps: The steps so far.
        notices: What is to be said after them.

    Returns:
        The text, the longest of those that fit, and whether something was left out. Where even the shortest does not fit, that one.
    """
    full = steps_text(steps, notices)
    if not steps:
        return full, False
    fits = _measure(predictor, inputs)
    if fits(full):
        return full, False
    ways = list(_shorter(steps, notices))
    first, last = 0, len(ways) - 1
    while first < last:
        middle = (first + last) // 2
        if fits(ways[middle]):
            last = middle
        else:
            first = middle + 1
    return ways[first], True


def _measure(predictor: Predictor, inputs: Mapping[str, Any]) -> Callable[[str], bool]:
    """Says whether the prompt with a text as `trajectory` leaves room for an answer."""
    lm, dialect, signature = predictor.language_model(), current().format, predictor.signature
    engine = lm.engine()
    reserve = dialect.reserve(signature)
    room = min(lm.sampling().max_tokens, _ROOM, engine.info.context // 4)
    free = engine.info.context - reserve - room
    demos = [demo.toDict() for demo in predictor.demos]

    def fits(text: str) -> bool:
        messages = dialect.render(signature, demos, {**inputs, "trajectory": text})
        if sum(len(message.content.encode()) + 16 for message in messages) <= free:
            return True  # a token has at least one byte
        return engine.count_tokens(Request(messages=messages, reserve=reserve)) <= free

    return fits


def _shorter(steps: Sequence[Step], notices: Sequence[str]) -> Iterator[str]:
    """Texts of the steps, each shorter than the one before it."""
    newest = len(steps) - 1
    for count in range(1, newest + 1):
        yield _joined([step.text(SHORT_OBSERVATION if place < count else None) for place, step in enumerate(steps)], notices)
    for dropped in range(1, newest + 1):
        kept = steps[dropped:]
        yield _joined(
            [_left_out(dropped), *(step.text(SHORT_OBSERVATION if step is not kept[-1] else None) for step in kept)],
            notices,
        )
    ahead = [_left_out(newest)] if newest else []
    for most in _LAST:
        yield _joined([*ahead, steps[-1].text(most)], notices)
    yield "(left out)"


def _left_out(steps: int) -> str:
    return f"({'The first step is' if steps == 1 else f'The first {steps} steps are'} left out for lack of room.)"


def _joined(parts: Sequence[str], notices: Sequence[str]) -> str:
    said = [*parts, *(f"({notice})" for notice in notices)]
    return "\n" + "\n".join(said) if said else "(no steps yet)"


def _shortened(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else f"{text[:most]} [{len(text) - most} characters left out]"
