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
