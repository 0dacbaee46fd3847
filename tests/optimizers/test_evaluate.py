"""Evaluate: rows in order, failures as rows, systems that fail at once."""

from __future__ import annotations

from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import EngineError, EvaluationError, InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.optimizers.evaluate import Evaluate
from homefire.optimizers.metrics import field_match


def examples(count: int) -> list[Example]:
    return [Example(n=str(i), even=i % 2 == 0).with_inputs("n") for i in range(count)]


def even(request: Request) -> str:
    number = int(request.messages[-1].content.removeprefix("n: "))
    return f'{{"even": {str(number % 2 == 0 or number == 3).lower()}}}'


def evaluate(script: Any, count: int = 8, **options: Any) -> Any:
    with context(lm=ScriptedLM(script)):
        return Evaluate(examples(count), field_match("even"), display_progress=False, **options)(Predict("n -> even: bool"))


def test_scores_and_rows_in_order() -> None:
    result = evaluate(even)
    assert [row.example.n for row in result.rows] == [str(i) for i in range(8)]
    assert [row.score for row in result.rows] == [1, 1, 1, 0, 1, 1, 1, 1]
    assert (result.score, float(result), result.valid) == (87.5, 87.5, 8)
    assert result.interval.low < 0.875 < result.interval.high
    assert result.results[3][1].even is True
    assert result.rows[0].completion_tokens == len('{"even": true}')


def test_a_failing_example_is_a_row() -> None:
    def script(request: Request) -> str:
        return "not json" if request.messages[-1].content == "n: 2" else even(request)

    result = evaluate(script, failure_score=-1.0)
    failed = result.rows[2]
    assert failed.prediction is None and failed.invalid and failed.score == -1
    assert failed.error is not None and "ParseError" in failed.error
    assert result.valid == 7


def test_a_failing_metric_is_a_row_that_says_so() -> None:
    def metric(example: Example, prediction: Prediction) -> float:
        return 1 / int(example.n)

    with context(lm=ScriptedLM(even)):
        result = Evaluate(examples(3), metric, display_progress=False)(Predict("n -> even: bool"))
    assert result.rows[0].error == "The metric failed: ZeroDivisionError: division by zero"
    assert result.rows[1].score == 1
    assert result.rows[0].prediction is not None


def test_a_failing_system_stops_at_once() -> None:
    with pytest.raises(EngineError, match="no memory"):
        evaluate([EngineError("no memory")] * 8)


def test_a_program_that_always_fails_stops_early() -> None:
    with pytest.raises(EvaluationError, match="All of the first 10 examples failed"):
        evaluate(lambda request: "nothing", count=100, num_threads=1)


def test_max_errors_stops() -> None:
    def script(request: Request) -> str:
        return even(request) if request.messages[-1].content == "n: 0" else "nothing"

    with pytest.raises(EvaluationError, match="3 examples failed, the most that max_errors allows"):
        evaluate(script, count=100, num_threads=1, max_errors=3)


def test_metrics_may_return_predictions_and_numbers() -> None:
    with context(lm=ScriptedLM(even)):
        program = Predict("n -> even: bool")
        scored = Evaluate(examples(2), lambda example, prediction: Prediction(score=0.25, feedback="so so"), display_progress=False)(
            program
        )
        with pytest.raises(EvaluationError, match="returned 'good'"):
            Evaluate(examples(2), lambda example, prediction: "good", display_progress=False)(program)
    assert scored.mean == 0.25


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to evaluate"):
        Evaluate([], field_match("a"))(Predict("a -> b"))
    with pytest.raises(InputError, match="does not know its inputs"):
        Evaluate([Example(a=1)], field_match("a"))(Predict("a -> b"))
    with pytest.raises(InputError, match="Example 0 is"):
        Evaluate([{"a": 1}], field_match("a"))(Predict("a -> b"))  # type: ignore[list-item]
