"""The gate: whether a new version is good enough to be served.

Knows no adapter and no program; it compares two evaluations of the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from homefire.errors import InputError
from homefire.optimizers.evaluate import EvaluationResult
from homefire.optimizers.statistics import mcnemar, paired_permutation


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the gate says."""

    promoted: bool
    gain: float
    """Mean score of the new version less that of the old one."""
    p_value: float
    """How likely a difference of at least this size is if both were equally good."""
    reason: str
    """What decided, in words."""

    @property
    def sentence(self) -> str:
        """The decision with its reason."""
        return f"{'Promoted' if self.promoted else 'Not promoted'}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a new version must show.

    Raises:
        InputError: a value is out of its range.
    """

    min_gain: float = 0.0
    """The gain must be above this."""
    max_p: float = 0.05
    """The p value must be at most this; 1 switches the test off."""

    def __post_init__(self) -> None:
        if not 0 < self.max_p <= 1:
            raise InputError(f"max_p is {self.max_p}; it must be above 0 and at most 1.")

    def decide(self, before: EvaluationResult, after: EvaluationResult) -> Decision:
        """Compares two versions on the same examples in the same order.

        Raises:
            InputError: they were not evaluated on the same examples.
        """
        if [row.example for row in before.rows] != [row.example for row in after.rows]:
            raise InputError("The two evaluations are not of the same examples, so they cannot be compared.")
        return self.compare([row.score for row in before.rows], [row.score for row in after.rows], "held-out examples")

    def compare(self, before: Sequence[float], after: Sequence[float], what: str) -> Decision:
        """Compares the scores of two versions, in the same order.

        Args:
            before: Of the old version.
            after: Of the new one.
            what: What was scored, in words: "held-out examples".

        Raises:
            InputError: they differ in length, or there are none.
        """
        if not before or len(before) != len(after):
            raise InputError(f"There are {len(before)} scores before and {len(after)} after; expected one of each for every example.")
        gain = fmean(after) - fmean(before)
        p_value = _p_value(before, after)
        seen = f"{fmean(before):.3f} before, {fmean(after):.3f} after, on {len(after)} {what} (p = {p_value:.2g})"
        if gain <= self.min_gain:
            reason = f"the gain of {gain:+.3f} is not above {self.min_gain:g}; {seen}."
            return Decision(promoted=False, gain=gain, p_value=p_value, reason=reason)
        if p_value > self.max_p:
            reason = f"the gain of {gain:+.3f} may be luck; {seen}. More {what} would tell."
            return Decision(promoted=False, gain=gain, p_value=p_value, reason=reason)
        return Decision(promoted=True, gain=gain, p_value=p_value, reason=f"{seen}.")


def _p_value(before: Sequence[float], after: Sequence[float]) -> float:
    if all(score in (0.0, 1.0) for score in (*before, *after)):
        return mcnemar([score == 1 for score in before], [score == 1 for score in after]).p_value
    return paired_permutation(before, after, seed=0)
