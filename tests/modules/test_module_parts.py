"""What programs are made of: frozen parts, copies, LMs, histories, positional calls, reserved options of a call."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import pytest

from homefire.engine.callbacks import BaseCallback
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError, InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module, Predictor
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.trace import record


class Uncopyable:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Program(Module):
    def __init__(self) -> None:  # does not call super().__init__(), as many do not
        self.first = ChainOfThought("a -> b")
        self.steps: list[Any] = [Predict("b -> c"), threading.Lock(), Uncopyable()]
        self.by_kind = {"x": (Predict("c -> d"),)}
        self.again = self.steps[0]

    def forward(self, a: str, loud: bool = False) -> Prediction:
        return self.first(a=a.upper() if loud else a)


def test_frozen_parts_are_not_for_optimizers_but_have_paths_and_state() -> None:
    program = Program()
    program.first._compiled = True
    open_paths = ["steps[0]", "by_kind['x'][0]"]
    assert [path for path, _ in program.named_predictors()] == [path for path, _ in program.named_parameters()] == open_paths
    assert program.parameters() == program.predictors() and len(program.predictors()) == 2
    assert [path for path, _ in program.named_predictors(frozen=True)] == ["first.predict", *open_paths]
    assert list(program.dump_state()) == ["first.predict", *open_paths]
    program.set_lm(ScriptedLM([]))
    assert program.first.predict.lm is None
    assert [path for path, _ in program.first.named_predictors()] == ["predict"]
    with context(lm=ScriptedLM(['{"reasoning": "r", "b": "x"}'])), record() as trace:
        program(a="1")
    assert trace.steps[0].path == "first.predict"
    program.set_lm(None)
    state = program.dump_state()
    del state["first.predict"]
    program.load_state(state)  # as DSPy saves it
    with pytest.raises(InputError, match="this one has"):
        Program().load_state(state)


def test_a_program_shows_its_predictors() -> None:
    program = Program()
    assert repr(program) == "first.predict = Predict(a -> reasoning, b)\nsteps[0] = Predict(b -> c)\nby_kind['x'][0] = Predict(c -> d)"
    assert repr(Module()) == "Module()"


def test_modules_in_a_program_by_their_class() -> None:
    program = Program()
    program.first._compiled = True
    every = ["self", "first", "first.predict", "steps[0]", "by_kind['x'][0]"]
    assert [path for path, _ in program.named_sub_modules()] == every
    assert [path for path, _ in program.named_sub_modules(type_=ChainOfThought)] == ["first"]
    assert [path for path, _ in program.named_sub_modules(skip_compiled=True)] == ["self", *every[3:]]


def test_callbacks_of_a_module_may_be_given_when_it_is_made() -> None:
    heard: list[str] = []

    class Ears(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append(type(instance).__name__)

    class Heard(Module):
        def __init__(self) -> None:
            super().__init__(callbacks=[Ears()])

        def forward(self) -> Prediction:
            return Prediction()

    Heard()()
    assert heard == ["Heard"]
    with pytest.raises(ConfigError, match="is no callback"):
        Module(callbacks=[print])  # type: ignore[list-item]


def test_copies_share_only_what_cannot_be_copied() -> None:
    program = Program()
    program.steps[0].demos = [Example(b="1", c="2")]
    copied = program.deepcopy()
    assert copied.steps[0] is not program.steps[0] and copied.again is copied.steps[0]
    assert copied.by_kind["x"][0] is not program.by_kind["x"][0]
    assert copied.steps[1] is program.steps[1] and copied.steps[2] is program.steps[2]
    copied.steps[0].demos[0].b = "changed"
    assert program.steps[0].demos[0].b == "1"
    assert copied.reset_copy().steps[0].demos == [] and len(copied.steps[0].demos) == 1


def test_a_program_that_holds_itself_is_copied() -> None:
    program = Program()
    program.steps.append(program)
    copied = program.deepcopy()
    assert copied.steps[-1] is copied and len(copied.predictors()) == 3


def test_predictors_are_replaced_in_their_places() -> None:
    program = Program()

    def other(predictor: Predictor) -> Predictor:
        return Predict(predictor.signature.with_instructions("New."))

    assert program.map_named_predictors(other) is program
    assert [predictor.signature.instructions for predictor in program.predictors()] == ["New."] * 3
    assert program.again is program.steps[0]


def test_the_lm_of_a_program() -> None:
    program, lm = Program(), ScriptedLM([])
    with pytest.raises(ConfigError, match="No LM is set"):
        program.get_lm()
    with context(lm=lm):
        assert program.get_lm() is lm
        program.steps[0].lm = ScriptedLM([])
        with pytest.raises(ConfigError, match="several LMs"):
            program.get_lm()
    program.set_lm(lm)
    assert program.get_lm() is lm


class Hears(BaseCallback):
    def __init__(self) -> None:
        self.inputs: list[Any] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.inputs.append(inputs)


def test_a_module_takes_what_its_forward_takes() -> None:
    program, hears = Program(), Hears()
    program.callbacks = [hears]
    lm = ScriptedLM(['{"reasoning": "r", "b": "x"}'] * 3)
    with context(lm=lm):
        program("one", loud=True)
        asyncio.run(program.acall("two"))
        program(a="three")
        with pytest.raises(TypeError):
            program("one", True, "more")
    assert [request.messages[-1].content for request in lm.scripted.requests] == ["a: ONE", "a: two", "a: three"]
    assert hears.inputs == [{"a": "one", "loud": True}, {"a": "two"}, {"a": "three"}, {"args": ("one", True, "more")}]


def test_a_predictor_takes_inputs_by_name() -> None:
    for call in (lambda: Predict("a, b -> c")("x"), lambda: asyncio.run(Predict("a, b -> c").acall("x"))):
        with pytest.raises(InputError, match=r"Write program\(a=\.\.\., b=\.\.\.\)"):
            call()


def test_the_history_of_a_module_is_its_own() -> None:
    program, other = Program(), Predict("b -> c")
    lm = ScriptedLM(['{"reasoning": "r", "b": "x"}', '{"c": "y"}', '{"reasoning": "r", "b": "z"}', '{"c": "y"}'])
    with context(lm=lm):
        program(a="1")
        other(b="2")
        program(a="3")
        with context(disable_history=True):
            other(b="4")
    assert [entry.messages[-1].content for entry in program.history] == ["a: 1", "a: 3"]
    assert [entry["outputs"] for entry in other.history] == [['{"c": "y"}']]
    file = io.StringIO()
    program.inspect_history(1, file)
    assert "a: 3" in file.getvalue() and "a: 1" not in file.getvalue()
    assert program.deepcopy().history == []


def test_options_of_one_call() -> None:
    predict = Predict("q -> answer", temperature=0.5)
    predict.demos = [Example(q="old", answer="old")]
    lm, other = ScriptedLM([]), ScriptedLM(['{"answer": "a"}', '{"n": 1}', '{"answer": "b"}'])
    predict.lm = lm
    predict(q="1", lm=other, demos=[{"q": "new", "answer": "new"}], config={"rollout_id": 3, "temperature": 1.0})
    assert predict(q="2", lm=other, signature="q -> n: int").n == 1
    predict(q="3", lm=other, demos=[])
    first, second, third = other.scripted.requests
    assert (first.sampling.rollout_id, first.sampling.temperature, second.sampling.temperature) == (3, 1.0, 0.5)
    assert [message.content for message in first.messages[1:]] == ["q: new", '{"answer": "new"}', "q: 1"]
    assert len(third.messages) == 2 and len(predict.demos) == 1 and list(predict.signature.output_fields) == ["answer"]


def test_wrong_options_show_the_call() -> None:
    predict = Predict("q -> answer")
    for name, value, said in [
        ("config", 1, r"config=\{'temperature': 1.0"),
        ("lm", "gpt", r"lm=homefire.LM\('gpt'\)"),
        ("demos", {"q": "1"}, r"demos=\[homefire.Example"),
    ]:
        with pytest.raises(InputError, match=said):
            predict(q="1", **{name: value})


def test_config_and_reset() -> None:
    predict = Predict("q -> answer", temperature=0.5)
    predict.update_config(max_tokens=7)
    assert predict.get_config() == {"temperature": 0.5, "max_tokens": 7}
    predict.demos, predict.lm = [Example(q="1")], ScriptedLM([])
    predict.reset()
    assert (predict.demos, predict.lm, predict.config) == ([], None, {"temperature": 0.5, "max_tokens": 7})


class WithDefault(Signature):
    question: str = InputField()
    tags: list[str] = InputField(default=["none"])
    answer: str = OutputField()


def test_inputs_with_defaults_may_be_left_out() -> None:
    lm = ScriptedLM(['{"answer": "a"}'] * 2)
    with context(lm=lm):
        Predict(WithDefault)(question="1")
        Predict(WithDefault)(question="1", tags=["x"])
    assert [request.messages[-1].content.split("tags: ")[1] for request in lm.scripted.requests] == ["\n[1] none", "\n[1] x"]


def test_inputs_of_other_types_are_told_once_each() -> None:
    lm = ScriptedLM(lambda request: '{"answer": "a"}')
    predict = Predict("n: int, names: list[str], text, ratio: float, kind: Literal['a', 'b'] -> answer")
    right = {"n": 1, "names": ["x"], "text": "t", "ratio": 1, "kind": "a"}
    with context(lm=lm):
        predict(**right)
        for name, value, said in [
            ("n", "3", "'n' is '3', a str; the signature says int"),
            ("n", True, "'n' is True, a bool"),
            ("names", "x", r"'names' is 'x', a str; the signature says list\[str\]"),
            ("names", [1], "'names'"),
            ("text", ["x"], "'text' is \\['x'\\], a list; the signature says str. Write text: list\\[str\\] there"),
            ("kind", "c", "'kind' is 'c'"),
        ]:
            with pytest.warns(UserWarning, match=said):
                predict(**{**right, name: value})
        with context(warn_on_type_mismatch=False):
            predict(**{**right, "n": "3"})
