"""Intervals and paired tests for scores, so that a gain is told apart from luck.

Knows no program and no metric: it takes numbers, one per example, and needs nothing beyond the standard library.

Methods: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927); Q. McNemar, Note on the
sampling error of the difference between correlated proportions or percentages, Psychometrika 12 (1947); B. Efron and R. Tibshirani, An
Introduction to the Bootstrap (1993), chapters 13 and 15; A. Agresti and Y. Min, Simple improved confidence intervals for comparing
matched proportions, Statistics in Medicine 24 (2005); B. Phipson and G. K. Smyth, Permutation p-values should never be zero,
Stat. Appl. Genet. Mol. Biol. 9 (2010).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist, fmean

from homefire.errors import InputError

_EXACT_UP_TO = 12


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that covers the true value in a share `level` of all repetitions of the experiment."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedOutcome:
    """What changed between two runs on the same examples, where an example is right or wrong."""

    mended: int
    """Examples that were wrong before and are right after."""
    broken: int
    """Examples that were right before and are wrong after."""
    p_value: float
    """How likely a change at least as lopsided is if both runs were equally good; two-sided, exact."""


def wilson(successes: int, total: int, *, level: float = 0.95) -> Interval:
    """Interval for a proportion, good for few trials and near 0 and 1 (Wilson 1927).

    Raises:
        InputError: `successes` is not within 0 and `total`, `total` is below 1, or `level` is not between 0 and 1.
    """
    _check_level(level)
    if total < 1 or not 0 <= successes <= total:
        raise InputError(f"{successes} successes of {total} trials; at least 1 trial and between 0 and that many successes are expected.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == total else min(1.0, centre + half)
    return Interval(low, high, level)


def bootstrap_mean(scores: Sequence[float], *, seed: int, level: float = 0.95, resamples: int = 2000) -> Interval:
    """Percentile interval for the mean of scores that are more than right and wrong (Efron and Tibshirani 1993, chapter 13).

    Give it the differences of two runs on the same examples for the interval of a gain. Scores that are all equal give an interval of no
    width: the sample says nothing about how they vary.

    Raises:
        InputError: there are no scores, or `level` is not between 0 and 1.
    """
    _check_level(level)
    if not scores:
        raise InputError("An interval for the mean of no scores was asked for; at least 1 score is expected.")
    random_source = random.Random(seed)
    means = sorted(fmean(random_source.choices(scores, k=len(scores))) for _ in range(resamples))
    tail = (1 - level) / 2
    return Interval(_quantile(means, tail), _quantile(means, 1 - tail), level)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> PairedOutcome:
    """Exact test of two runs on the same examples: only the examples that changed tell (McNemar 1947, in its binomial form).

    Args:
        before: whether each example was right, in order.
        after: the same examples in the same order.

    Raises:
        InputError: the runs differ in length.
    """
    _check_paired(before, after)
    mended = sum(1 for old, new in zip(before, after, strict=True) if new and not old)
    broken = sum(1 for old, new in zip(before, after, strict=True) if old and not new)
    return PairedOutcome(mended=mended, broken=broken, p_value=_sign_test(mended, broken))


def paired_difference(before: Sequence[bool], after: Sequence[bool], *, level: float = 0.95) -> Interval:
    """Interval for how much larger a share is after than before, on the same examples (Agresti and Min 2005).

    Raises:
        InputError: the runs differ in length, there are no examples, or `level` is not between 0 and 1.
    """
    _check_level(level)
    outcome = mcnemar(before, after)
    if not before:
        raise InputError("An interval for the difference of no examples was asked for; at least 1 example is expected.")
    total, mended, broken = len(before) + 2, outcome.mended + 0.5, outcome.broken + 0.5
    centre = (mended - broken) / total
    z = NormalDist().inv_cdf((1 + level) / 2)
    half = z * math.sqrt(mended + broken - (mended - broken) ** 2 / total) / total
    return Interval(max(-1.0, centre - half), min(1.0, centre + half), level)


def paired_permutation(before: Sequence[float], after: Sequence[float], *, seed: int, resamples: int = 10_000) -> float:
    """Two-sided p value that the mean score of two runs on the same examples differs by chance (sign flips of the differences).

    Exact for up to 12 examples that differ; beyond that drawn, with the observed signs counted in, so that it is never 0 (Phipson and
    Smyth 2010).

    Raises:
        InputError: the runs differ in length.
    """
    _check_paired(before, after)
    differences = [new - old for old, new in zip(before, after, strict=True) if new != old]
    if not differences:
        return 1.0
    observed = abs(math.fsum(differences))
    bar = observed - 1e-9 * math.fsum(abs(difference) for difference in differences)
    if len(differences) <= _EXACT_UP_TO:
        signed = product(*((difference, -difference) for difference in differences))
        extreme = sum(abs(math.fsum(combination)) >= bar for combination in signed)
        return extreme / (1 << len(differences))
    random_source = random.Random(seed)
    extreme = 0
    for _ in range(resamples):
        bits = random_source.getrandbits(len(differences))
        flipped = sum(difference if bits >> place & 1 else -difference for place, difference in enumerate(differences))
        extreme += abs(flipped) >= bar
    return (extreme + 1) / (resamples + 1)


def _sign_test(mended: int, broken: int) -> float:
    changed = mended + broken
    fewer = min(mended, broken)
    tail = sum(math.comb(changed, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / (1 << changed))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two neighbours in order."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level is {level}; a share between 0 and 1 is expected, such as 0.95.")


def _check_paired(before: Sequence[object], after: Sequence[object]) -> None:
    if len(before) != len(after):
        raise InputError(f"{len(before)} scores before and {len(after)} after; a paired test needs the same examples in the same order.")
