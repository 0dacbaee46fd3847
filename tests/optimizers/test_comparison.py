"""compare: the same examples, paired, with the test that fits the scores."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.optimizers.comparison import compare
from homefire.optimizers.evaluation_result import EvaluationResult
from homefire.optimizers.evaluation_row import Row


def result(scores: list[float], first: int = 0) -> EvaluationResult:
    rows = [
        Row(example=Example(q=f"example {n}", a=n).with_inputs("q"), prediction=Prediction(a=score), score=score)
        for n, score in enumerate(scores, first)
    ]
    return EvaluationResult(rows=tuple(rows), seconds=1.0)


def test_right_and_wrong_are_compared_by_mcnemar() -> None:
    before, after = result([0.0] * 8 + [1.0] * 4), result([1.0] * 7 + [0.0] + [1.0] * 3 + [0.0])
    found = compare(before, after)
    assert found.difference == pytest.approx(0.5)
    assert (len(found.better), len(found.worse), len(found.changed)) == (7, 1, 8)
    assert found.p_value == pytest.approx(2 * (1 + 8) / 2**8)  # at most 1 of 8 changes the other way, on both sides
    assert 0 < found.interval.low < 0.5 < found.interval.high < 1
    assert "exact McNemar" in found.sentence and "33.3% before, 83.3% after: +50.0 points" in found.sentence
    assert "may be luck" in found.sentence


def test_scores_in_between_are_compared_by_signs() -> None:
    before = result([0.1 * n for n in range(10)])
    after = result([min(0.1 * n + 0.05, 1.0) for n in range(10)])
    found = compare(before, after)
    assert found.test == "paired permutation test"
    assert found.p_value == pytest.approx(2 / 2**10)
    assert found.interval.low == pytest.approx(0.05) and "hardly luck" in found.sentence


def test_equal_runs_do_not_differ() -> None:
    one = result([1.0, 0.0, 1.0])
    found = compare(one, one)
    assert (found.difference, found.p_value, found.changed) == (0.0, 1.0, [])
    assert found.interval.low < 0 < found.interval.high
    assert "3 examples; 0 better, 0 worse" in " ".join(str(found).split())


def test_order_does_not_matter_and_repeated_examples_are_paired() -> None:
    before = result([1.0, 0.0, 0.5, 0.5])
    rows = [*before.rows, before.rows[0]]
    shuffled = random.Random(1).sample(rows, len(rows))
    found = compare(EvaluationResult(rows=tuple(rows), seconds=1), EvaluationResult(rows=tuple(shuffled), seconds=1))
    assert found.difference == 0 and len(found.pairs) == 5


def test_a_result_that_was_saved_is_compared_with_one_that_was_not(tmp_path: Path) -> None:
    before = result([1.0, 0.0])
    assert compare(EvaluationResult.load(before.to_json(tmp_path / "before.json")), result([1.0, 1.0])).difference == 0.5


def test_other_examples_are_refused() -> None:
    with pytest.raises(InputError, match=r"1 of 3 examples are only in the first, 1 of 3 only in the second. One of them: .*example 0"):
        compare(result([1.0] * 3), result([1.0] * 3, first=1))
    with pytest.raises(InputError, match="1 of 3 examples are only in the first, 0 of 2 only in the second"):
        compare(result([1.0] * 3), result([1.0] * 2))
    with pytest.raises(InputError, match="cannot be compared"):
        compare(result([]), result([]))


def test_the_table_shows_what_changed_most(capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(result([0.0, 0.5, 1.0, 0.2]), result([1.0, 0.5, 0.6, 0.1]))
    shown = str(found)
    assert shown.index("example 0") < shown.index("example 2") < shown.index("example 3") and "example 1" not in shown
    found.show(1)
    assert "2 more changed" in capsys.readouterr().out
