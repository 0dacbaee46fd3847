"""Judges: verdicts of a scripted model for the arithmetic, of the real one for the types."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import homefire
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.settings import context
from homefire.optimizers.evaluate import Evaluate
from homefire.optimizers.judge_metrics import CompleteAndGrounded, SemanticF1, harmonic
from homefire.retrieval.passage import Passage

EXAMPLE = Example(question="Who won?", response="The Broncos won in 2016.").with_inputs("question")
PREDICTION = Prediction(response="The Broncos.", context=[Passage(id="1", text="The Broncos won.", source="x"), "They lost."])


def written(**values: object) -> str:
    return json.dumps({"reasoning": "so it is", **values})


@pytest.mark.parametrize(("precision", "recall", "score"), [(1.0, 0.5, 2 / 3), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)])
def test_semantic_f1_is_the_harmonic_mean(precision: float, recall: float, score: float) -> None:
    metric = SemanticF1()
    metric.set_lm(ScriptedLM([written(recall=recall, precision=precision)] * 2))
    assert metric(EXAMPLE, PREDICTION) == pytest.approx(score)
    assert metric(EXAMPLE, PREDICTION, []) is (score >= 0.66)


def test_the_judge_sees_the_question_the_reference_and_the_response() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return written(
            recall=0.5, precision=0.5, ground_truth_ideas=["won in 2016"], response_ideas=["Broncos"], shared="none", completeness=0.5
        )

    for metric in (SemanticF1(), SemanticF1(decompositional=True)):
        metric.set_lm(ScriptedLM(answer))
        assert metric(EXAMPLE, PREDICTION) == 0.5
    for request in asked:
        assert all(text in request.messages[-1].content for text in ("Who won?", "The Broncos won in 2016.", "The Broncos."))
    assert "response_ideas" in str(asked[1].messages) and "response_ideas" not in str(asked[0].messages)


def test_complete_and_grounded_asks_twice() -> None:
    def answer(request: Request) -> str:
        if "They lost." in request.messages[-1].content:
            assert "The Broncos won." in request.messages[-1].content and "2016" not in request.messages[-1].content
            return written(groundedness=0.25)
        return written(completeness=1.0)

    metric = CompleteAndGrounded(threshold=0.4)
    metric.set_lm(ScriptedLM(answer))
    assert metric(EXAMPLE, PREDICTION) == pytest.approx(0.4)
    assert metric(EXAMPLE, PREDICTION, trace=()) is True
    assert [path for path, _ in metric.named_predictors()] == ["completeness.predict", "groundedness.predict"]


def test_what_a_judge_needs_is_named() -> None:
    with pytest.raises(InputError, match=r"reads the field 'response'; the example has question, answer.*example.copy\(response="):
        SemanticF1()(Example(question="q", answer="a"), PREDICTION)
    with pytest.raises(InputError, match=r"there is none. Return it: homefire.Prediction\(response=..., context="):
        CompleteAndGrounded()(EXAMPLE, Prediction(response="x"))
    with pytest.raises(InputError, match="threshold is 66; a score between 0 and 1"):
        SemanticF1(threshold=66)


def test_harmonic_mean() -> None:
    assert [harmonic(0, 0), harmonic(1, 1), harmonic(0.5, 1), harmonic(2, -1)] == [0, 1, pytest.approx(2 / 3), 0]


def test_usage_and_evaluate_work_with_a_judge() -> None:
    lm = ScriptedLM(lambda request: written(recall=1.0, precision=0.5) if "ground_truth" in str(request.messages) else '{"response": "x"}')
    with context(lm=lm, track_usage=True):
        result = Evaluate([EXAMPLE] * 3, SemanticF1(), display_progress=False)(homefire.Predict("question -> response"))
    assert result.mean == pytest.approx(2 / 3) and result.metric == "SemanticF1"
    assert all(len(row.steps) == 1 for row in result.rows)  # the judge's steps are not the program's


def test_the_real_model_gives_readable_verdicts(smollm2: Path, tmp_path: Path) -> None:
    devset = [Example(question=f"What is {n} plus {n}?", response=f"It is {2 * n}.").with_inputs("question") for n in (2, 3)]
    with context(lm=homefire.LM(str(smollm2), max_tokens=16)):
        result = Evaluate(devset, SemanticF1(), display_progress=False)(homefire.Predict("question -> response"))
        verdict = CompleteAndGrounded().forward(example=devset[0], pred=Prediction(response="It is 4.", context=["Two plus two is four."]))
    assert [row.error for row in result.rows] == [None, None]
    assert all(0 <= row.score <= 1 for row in result.rows)
    assert all(type(verdict[name]) is float and 0 <= verdict[name] <= 1 for name in ("score", "completeness", "groundedness"))
    loaded = homefire.EvaluationResult.load(result.to_json(tmp_path / "result.json"))
    assert homefire.compare(loaded, result).difference == 0
