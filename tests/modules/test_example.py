"""Examples and predictions as records."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import BaseModel

from homefire.modules.example import Example, Prediction


class Point(BaseModel):
    x: int


def test_fields_as_attributes_and_items() -> None:
    example = Example({"a": 1}, b=2)
    example.c = 3
    example["d"] = 4
    assert (example.a, example["b"], example.c, example.get("d"), example.get("e", 5)) == (1, 2, 3, 4, 5)
    assert list(example) == ["a", "b", "c", "d"] and len(example) == 4 and "a" in example and "z" not in example
    assert {**example} == {"a": 1, "b": 2, "c": 3, "d": 4}
    with pytest.raises(AttributeError, match="no field 'z'; it has 'a'"):
        _ = example.z


def test_inputs_and_labels() -> None:
    example = Example(q="?", a="!").with_inputs("q")
    assert (example.inputs().toDict(), example.labels().toDict()) == ({"q": "?"}, {"a": "!"})
    with pytest.raises(ValueError, match="with_inputs"):
        Example(q="?").inputs()


def test_copies_do_not_share() -> None:
    example = Example(a=1).with_inputs("a")
    changed = example.copy(a=2)
    assert (example.a, changed.a, changed.inputs().toDict()) == (1, 2, {"a": 2})
    assert example.without("a").toDict() == {}
    assert copy.deepcopy(example) == example == pickle.loads(pickle.dumps(example))
    assert hash(Example(a=[1])) == hash(Example(a=[1]))


def test_plain_values() -> None:
    assert Example(p=Point(x=1), inner=Example(a=[Point(x=2)]), d={"k": Point(x=3)}).toDict() == {
        "p": {"x": 1},
        "inner": {"a": [{"x": 2}]},
        "d": {"k": {"x": 3}},
    }


def test_a_prediction_with_a_score_is_a_number() -> None:
    good, bad = Prediction(score=0.75), Prediction(score=0)
    assert float(good) == 0.75 and good > bad and good >= 0.5 and bad < 1 and bad <= good
    assert good + bad == 0.75 and sum([good, bad]) == 0.75 and good / 3 == 0.25
    assert bool(good) and not bool(bad) and bool(Prediction(answer=""))
    with pytest.raises(TypeError, match="no field 'score'"):
        float(Prediction(answer="x"))


def test_a_prediction_is_its_own_completion() -> None:
    prediction = Prediction(answer="x")
    assert prediction.completions == (prediction,)
    assert prediction.copy(answer="y").answer == "y" and prediction.info.calls == 0


def test_fields_of_dspys_own_are_kept_but_not_counted() -> None:
    example = Example(a=1, dspy_uuid="u").with_inputs("a")
    assert len(example) == 1 and list(example.keys()) == ["a"] and list(example.items(include_dspy=True)) == [("a", 1), ("dspy_uuid", "u")]
    assert list(example) == ["a", "dspy_uuid"] and example.toDict() == {"a": 1, "dspy_uuid": "u"} and {**example} == {"a": 1}
    assert example.copy(a=2).dspy_uuid == "u" and list(example.values()) == [1]
    assert example.inputs().toDict() == {"a": 1} and example.labels().toDict() == {}
    assert Example(a=1) != example


def test_fields_can_be_deleted_and_base_fields_overridden() -> None:
    example = Example(Example(a=1, b=2), b=3)
    del example["a"]
    assert example.toDict() == {"b": 3} and Example({"a": 1}, a=2).a == 2


def test_completions_of_a_prediction() -> None:
    several = Prediction.from_completions([{"answer": "a"}, {"answer": "b"}])
    assert (several.answer, several.completions.answer, several.completions[1].answer) == ("a", ["a", "b"], "b")
    for again in (copy.deepcopy(several), pickle.loads(pickle.dumps(several)), several.copy()):
        assert again.completions.answer == ["a", "b"] and again == several
    assert pickle.loads(pickle.dumps(several.completions)) == several.completions


def test_usage_and_numbers() -> None:
    prediction = Prediction(score=0.5)
    prediction.set_lm_usage({"m": {"prompt_tokens": 3}})
    assert prediction.get_lm_usage() == {"m": {"prompt_tokens": 3}}
    assert 1 / prediction == 2 and prediction < 1 < prediction + 1
