"""Intervals and paired tests against published and brute-force values."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.errors import InputError
from homefire.optimizers.statistics import bootstrap_mean, mcnemar, paired_difference, paired_permutation, wilson


@pytest.mark.parametrize(
    ("successes", "total", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 148, 0.0624, 0.1605), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_against_published_values(successes: int, total: int, low: float, high: float) -> None:
    interval = wilson(successes, total)
    assert [interval.low, interval.high] == pytest.approx([low, high], abs=1e-4)


@given(st.integers(1, 2000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_mirrors(total: int, share: float, level: float) -> None:
    successes = round(share * total)
    interval = wilson(successes, total, level=level)
    mirrored = wilson(total - successes, total, level=level)
    assert 0 <= interval.low <= successes / total <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-9)


@given(st.integers(1, 500))
def test_wilson_ends_solve_the_score_equation(total: int) -> None:
    successes = total // 3
    interval = wilson(successes, total)
    for end in (interval.low, interval.high):
        if 0 < end < 1:
            assert abs(successes / total - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / total), rel=1e-5)


@pytest.mark.parametrize(("successes", "total", "level"), [(0, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)])
def test_wilson_refuses(successes: int, total: int, level: float) -> None:
    with pytest.raises(InputError):
        wilson(successes, total, level=level)


def outcomes(mended: int, broken: int, same: int) -> tuple[list[bool], list[bool]]:
    before = [False] * mended + [True] * broken + [True] * same
    return before, [True] * mended + [False] * broken + [True] * same


@pytest.mark.parametrize(
    ("mended", "broken", "p"), [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (10, 1, 0.01171875), (3, 3, 1.0), (6, 16, 0.0524788)]
)
def test_mcnemar_against_the_binomial(mended: int, broken: int, p: float) -> None:
    outcome = mcnemar(*outcomes(mended, broken, 7))
    assert (outcome.mended, outcome.broken) == (mended, broken)
    assert outcome.p_value == pytest.approx(p, rel=1e-5)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 50))
def test_mcnemar_is_a_symmetric_probability(mended: int, broken: int, same: int) -> None:
    before, after = outcomes(mended, broken, same)
    p = mcnemar(before, after).p_value
    assert 0 < p <= 1
    assert p == mcnemar(after, before).p_value


def test_mcnemar_with_thousands_of_changes() -> None:
    assert 0 < mcnemar(*outcomes(1600, 1400, 0)).p_value < 0.001


def test_paired_tests_want_the_same_examples() -> None:
    with pytest.raises(InputError, match="same examples"):
        mcnemar([True], [True, False])
    with pytest.raises(InputError, match="same examples"):
        paired_permutation([1.0], [], seed=0)


def paired_runs(mended: int, broken: int, same: int) -> tuple[list[bool], list[bool]]:
    return [False] * mended + [True] * broken + [True] * same, [True] * mended + [False] * broken + [True] * same


def test_paired_difference_worked_out_by_hand() -> None:
    interval = paired_difference(*paired_runs(9, 1, 10))
    centre = (9.5 - 1.5) / 22
    half = 1.959964 * math.sqrt(11 - 64 / 22) / 22
    assert [interval.low, interval.high] == pytest.approx([centre - half, centre + half], abs=1e-6)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_paired_difference_mirrors(mended: int, broken: int, same: int) -> None:
    before, after = paired_runs(mended, broken, same)
    interval, mirrored = paired_difference(before, after), paired_difference(after, before)
    assert -1 <= interval.low < (mended - broken) / (len(before) + 2) < interval.high <= 1
    assert interval.low == pytest.approx(-mirrored.high)


def test_paired_difference_covers_as_often_as_it_says() -> None:
    source, covered = random.Random(0), 0
    for _ in range(1000):
        drawn = source.choices(["mended", "broken", "same"], [0.2, 0.1, 0.7], k=60)
        interval = paired_difference(*paired_runs(*(drawn.count(kind) for kind in ("mended", "broken", "same"))))
        covered += interval.low <= 0.1 <= interval.high
    assert 0.93 <= covered / 1000 <= 0.985


def test_paired_difference_needs_examples() -> None:
    with pytest.raises(InputError, match="difference of no examples"):
        paired_difference([], [])


def test_bootstrap_agrees_with_the_normal_interval() -> None:
    rng = random.Random(3)
    scores = [rng.gauss(0.6, 0.2) for _ in range(400)]
    mean = sum(scores) / 400
    interval = bootstrap_mean(scores, seed=0)
    assert interval.low == pytest.approx(mean - 1.96 * 0.01, abs=0.004)
    assert interval.high == pytest.approx(mean + 1.96 * 0.01, abs=0.004)
    assert interval == bootstrap_mean(scores, seed=0)
    assert interval != bootstrap_mean(scores, seed=1)


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20))
def test_bootstrap_stays_within_the_scores(scores: list[float]) -> None:
    interval = bootstrap_mean(scores, seed=0, resamples=50)
    assert min(scores) - 1e-9 <= interval.low <= interval.high <= max(scores) + 1e-9


def test_bootstrap_needs_scores() -> None:
    with pytest.raises(InputError, match="no scores"):
        bootstrap_mean([], seed=0)


@given(st.lists(st.sampled_from([-0.5, -0.25, 0.25, 0.5, 1.0]), min_size=1, max_size=8))
def test_permutation_is_exact_for_few_examples(differences: list[float]) -> None:
    observed = abs(sum(differences))
    flips = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(value >= observed for value in flips) / len(flips)
    assert paired_permutation([0.0] * len(differences), differences, seed=0) == expected


def test_permutation_of_right_and_wrong_is_mcnemar() -> None:
    before, after = outcomes(9, 2, 30)
    drawn = paired_permutation([float(x) for x in before], [float(x) for x in after], seed=0)
    assert drawn == pytest.approx(mcnemar(before, after).p_value)
    many = outcomes(30, 14, 10)
    drawn = paired_permutation([float(x) for x in many[0]], [float(x) for x in many[1]], seed=0)
    assert drawn == pytest.approx(mcnemar(*many).p_value, abs=0.008)


def test_permutation_without_differences_and_never_zero() -> None:
    assert paired_permutation([1.0, 2.0], [1.0, 2.0], seed=0) == 1.0
    assert paired_permutation([0.0] * 50, [1.0] * 50, seed=0, resamples=999) == pytest.approx(0.001)
