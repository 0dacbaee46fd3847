"""Modules: dotted paths, copies, saved state."""

from __future__ import annotations

import enum
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic import Field as PydanticField

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.trace import record


class Inner(Module):
    def __init__(self) -> None:
        self.think = ChainOfThought("a -> b")


class Outer(Module):
    def __init__(self) -> None:
        self.first = Predict("a -> b: int", temperature=0.1)
        self.steps = [Predict("b -> c"), Inner()]
        self.by_kind = {"x": Predict("c -> d")}
        self.again = self.first

    def forward(self, a: str) -> Prediction:
        return self.first(a=a)


def test_paths_name_every_predictor_once() -> None:
    program = Outer()
    assert [path for path, _ in program.named_predictors()] == ["first", "steps[0]", "steps[1].think.predict", "by_kind['x']"]
    assert program.named_sub_modules()[0] == ("self", program)
    assert program.predictors()[0] is program.first


def test_set_lm_and_deepcopy() -> None:
    program, lm = Outer(), ScriptedLM([])
    program.set_lm(lm)
    assert all(predictor.lm is lm for predictor in program.predictors())
    copied = program.deepcopy()
    copied.first.demos.append(Example(a="1", b=1))
    assert program.first.demos == [] and copied.first.lm is lm and copied.again is copied.first


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match="does not say what it does"):
        Inner()(a="x")


def test_save_and_load(tmp_path: Path) -> None:
    program = Outer()
    program.first.signature = program.first.signature.with_instructions("Count.").with_updated_fields("b", desc="how many")
    program.first.demos = [Example(a="é", b=1)]
    program.save(tmp_path / "program.json")
    loaded = Outer()
    loaded.load(tmp_path / "program.json")
    assert loaded.dump_state() == program.dump_state()
    assert loaded.first.signature.equals(program.first.signature)
    assert loaded.first.demos == program.first.demos


class Kind(enum.Enum):
    CAT = "cat"


class Aliased(BaseModel):
    name: str = PydanticField(alias="fullName")


def test_demos_of_any_type_are_saved_and_serve_again(tmp_path: Path) -> None:
    program = Predict("a -> kind: Kind, who: Aliased", temperature=0.5)
    program.demos = [Example(a="x", kind=Kind.CAT, who=Aliased(fullName="Tom"))]
    program.save(tmp_path / "program.json")
    loaded = Predict("a -> kind: Kind, who: Aliased")
    loaded.load(tmp_path / "program.json")
    assert loaded.config == {"temperature": 0.5}
    loaded.lm = ScriptedLM(['{"kind": "cat", "who": {"fullName": "Kit"}}'])
    assert loaded(a="y").who.name == "Kit"
    assert loaded.lm.scripted.requests[0].messages[2].content == '{"kind": "cat", "who": {"fullName": "Tom"}}'


def test_two_programs_in_one_trace_keep_their_paths() -> None:
    first, second = ChainOfThought("a -> b"), Outer()
    lm = ScriptedLM(['{"reasoning": "r", "b": "x"}', '{"b": 1}', '{"b": "y"}'])
    alone = Predict("a -> b")
    with context(lm=lm), record() as trace:
        first(a="1")
        second(a="2")
        alone(a="3")
    assert [step.path for step in trace.steps] == ["predict", "first", "self"]


def test_what_does_not_fit_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "program.json"
    with pytest.raises(InputError, match="no saved program"):
        Outer().load(path)
    path.write_text("{")
    with pytest.raises(InputError, match="not a program"):
        Outer().load(path)
    Predict("a -> b").save(path)
    with pytest.raises(InputError, match="this one has"):
        Outer().load(path)
    with pytest.raises(InputError, match="has the fields a, b"):
        Predict("a -> c").load(path)
