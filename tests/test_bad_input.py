"""Whatever is handed in wrongly is an error or a warning that shows the right call; and one failing example takes no other with it.

The signatures, tools and metrics here are what users write in their first hour.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.engine.request import Request


class Answer(homefire.Signature):
    """Answer the question."""

    question: str = homefire.InputField()
    context: list[str] = homefire.InputField()
    answer: str = homefire.OutputField()


def untyped(town):  # type: ignore[no-untyped-def]
    return town


def measured(town: str) -> int:
    return len(town)


DEVSET = [homefire.Example(question=str(number), context=[], answer="x").with_inputs("question", "context") for number in range(3)]


def evaluated(metric: Any) -> Any:
    return homefire.Evaluate(devset=DEVSET, metric=metric, display_progress=False)(homefire.Predict(Answer))


def state_of_another(folder: Path) -> Any:
    homefire.Predict("text -> label").save(folder / "other.json")
    return homefire.ChainOfThought(Answer).load(folder / "other.json")


def pickled(folder: Path) -> Any:
    (folder / "program.pkl").write_bytes(b"")
    return homefire.Predict(Answer).load(folder / "program.pkl")


METRIC = "def metric(example, prediction, trace=None): return"
ERRORS = {
    "a missing input": (lambda _: homefire.Predict(Answer)(question="?"), "Write predict(question=..., context=...)."),
    "a missing input of an agent": (lambda _: homefire.ReAct(Answer, tools=[measured])(), "Write agent(question=..., context=...)."),
    "a missing input of code": (lambda _: homefire.ProgramOfThought(Answer)(), "Write program(question=..., context=...)."),
    "inputs by position": (lambda _: homefire.Predict(Answer)("?", []), "Write program(question=..., context=...)."),
    "inputs by position, inside": (lambda _: homefire.ChainOfThought(Answer)("?"), "Write program(question=..., context=...)."),
    "examples that are none": (lambda _: homefire.Predict(Answer).batch(["?"]), "expected homefire.Example(...).with_inputs(...)"),
    "a text for an LM": (lambda _: homefire.configure(lm="smollm2"), "lm=homefire.LM('smollm2')"),
    "a text for a program's LM": (lambda _: homefire.Predict(Answer).set_lm("x"), "program.set_lm(homefire.LM('x'))"),
    "a number for a model": (lambda _: homefire.LM(5), "as in LM('5')"),  # type: ignore[arg-type]
    "no tools": (lambda _: homefire.ReAct(Answer, tools=None), "Write tools=[...]"),  # type: ignore[arg-type]
    "a name twice": (lambda _: homefire.Predict("text, text -> label"), "Give one another name, such as text_2."),
    "a reserved name": (lambda _: homefire.Predict("config -> label"), "Give it another name, such as config_text."),
    "an unknown type": (lambda _: homefire.Predict("text -> city: Town"), "custom_types={'Town': ...}"),
    "a misspelt type": (lambda _: homefire.Predict("text -> names: lst[str]"), "did you mean 'list'?"),
    "no arrow": (lambda _: homefire.Predict("text"), "as in `question, context: list[str] -> answer: float`"),
    "a result for a tool": (lambda _: homefire.ReAct(Answer, tools=[untyped("Bern")]), "Write Tool(my_function)"),
    "a state of another program": (state_of_another, "write that_program.load(...)"),
    "a pickle": (pickled, "allow_pickle=True)"),
    "a metric that raises": (lambda _: evaluated(lambda example, prediction: 1 / 0), METRIC),
    "a metric that says a word": (lambda _: evaluated(lambda example, prediction: "good"), METRIC),
    "a metric without return": (lambda _: evaluated(lambda example, prediction: None), METRIC),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_shows_the_right_call(case: str, tmp_path: Path) -> None:
    call, shown = ERRORS[case]
    with homefire.context(lm=homefire.ScriptedLM(lambda request: '{"answer": "x"}')), pytest.raises(homefire.HomefireError) as caught:
        call(tmp_path)
    assert shown in str(caught.value)


def test_an_lm_that_was_never_configured() -> None:
    with homefire.context(lm=None), pytest.raises(homefire.ConfigError, match=r"homefire\.configure\(lm=homefire\.LM\(\)\)"):
        homefire.Predict(Answer)(question="?", context=[])


WARNINGS = {
    "an input too many": (lambda: homefire.Predict(Answer)(question="?", context=[], size=3), "Write predict(question=..., context=...)."),
    "another type": (lambda: homefire.Predict(Answer)(question="?", context="text"), "Write context: str there."),
    "an output called like a method": (
        lambda: homefire.Predict("text -> items: list[str]"),
        "Write prediction['items'], or name it items_found.",
    ),
    "a tool without types": (lambda: homefire.Tool(untyped), "def untyped(town: str): ..."),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_warning_shows_the_right_call_and_where_it_was_made(case: str) -> None:
    call, shown = WARNINGS[case]
    with homefire.context(lm=homefire.ScriptedLM(['{"answer": "x"}'])), pytest.warns(UserWarning) as warned:
        call()
    assert len(warned) == 1 and shown in str(warned[0].message)
    assert warned[0].filename == __file__


def one_fails(request: Request) -> str:
    return "broken" if "question: 1" in request.messages[-1].content else json.dumps({"answer": "x"})


def test_one_failing_example_takes_no_other_with_it() -> None:
    program = homefire.Predict(Answer)
    with homefire.context(lm=homefire.ScriptedLM(one_fails)):
        assert [made and made.answer for made in program.batch(DEVSET)] == ["x", None, "x"]
        made, failed, errors = homefire.Parallel(return_failed_examples=True)([(program, example) for example in DEVSET])
        result = evaluated(lambda example, prediction: example.answer == prediction.answer)
    assert [one and one.answer for one in made] == ["x", None, "x"]
    assert (len(failed), [type(error) for error in errors]) == (1, [homefire.ParseError])
    assert [row.score for row in result.rows] == [1, 0, 1]
    assert result.rows[1].error is not None and result.rows[1].error.startswith("ParseError")
