"""The gate: a gain that may be luck is not promoted."""

from __future__ import annotations

import pytest

from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.optimizers.evaluate import EvaluationResult, Row
from homefire.optimizers.gate import Gate


def result(scores: list[float], name: str = "x") -> EvaluationResult:
    rows = tuple(Row(example=Example(n=f"{name}{i}"), prediction=Prediction(), score=score) for i, score in enumerate(scores))
    return EvaluationResult(rows=rows, seconds=1.0)


def test_a_clear_gain_is_promoted() -> None:
    decision = Gate().decide(result([0.0] * 10 + [1.0] * 10), result([1.0] * 20))
    assert decision.promoted and decision.gain == 0.5 and decision.p_value < 0.01
    assert decision.sentence.startswith("Promoted: 0.500 before, 1.000 after, on 20 held-out examples")


def test_a_gain_that_may_be_luck_is_not() -> None:
    decision = Gate().decide(result([0.0, 1.0, 1.0]), result([1.0, 1.0, 1.0]))
    assert not decision.promoted and "may be luck" in decision.sentence
    assert Gate(max_p=1.0).decide(result([0.0, 1.0, 1.0]), result([1.0, 1.0, 1.0])).promoted


def test_no_gain_or_a_loss_is_not() -> None:
    assert not Gate(max_p=1.0).decide(result([1.0, 0.0]), result([0.0, 1.0])).promoted
    assert not Gate(max_p=1.0, min_gain=0.5).decide(result([0.0, 1.0]), result([1.0, 1.0])).promoted


def test_real_scores_are_tested_by_permutation() -> None:
    decision = Gate().decide(result([0.1 * (i % 3) for i in range(30)]), result([0.1 * (i % 3) + 0.05 for i in range(30)]))
    assert decision.promoted and 0 < decision.p_value < 0.05


def test_scores_alone_are_compared_too() -> None:
    decision = Gate().compare([0.0] * 10 + [1.0] * 10, [1.0] * 20, "held-out questions")
    assert decision.promoted and "1.000 after, on 20 held-out questions" in decision.sentence
    for before, after in (([], []), ([1.0], [1.0, 0.0])):
        with pytest.raises(InputError, match="expected one of each"):
            Gate().compare(before, after, "questions")


def test_other_examples_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="same examples"):
        Gate().decide(result([1.0]), result([1.0], "y"))
    with pytest.raises(InputError, match="max_p is 0"):
        Gate(max_p=0)
