"""What the user names on the command line: signatures, programs and functions in files, and what can be wrong with them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from homefire.errors import InputError, SignatureError
from homefire.modules.predict import Predict
from homefire.user_code import fields_of, load_function, load_program

LATER = """
def make():
    return {}["x"]

def seven():
    return 7

import homefire

class Needs(homefire.Module):
    def __init__(self, k):
        pass
"""
PROGRAM = """
    from typing import Literal
    import homefire

    class Mail(homefire.Signature):
        text: str = homefire.InputField()
        label: Literal["ham", "spam"] = homefire.OutputField()

    program = homefire.Predict(Mail)
    program.lm = homefire.ScriptedLM([])
    number = 7

    def make():
        return program

    def make_of(kind):
        return program

    def half(example):
        return 1

    class TwoSteps(homefire.Module):
        def __init__(self):
            self.first = homefire.Predict("text -> topic")
            self.second = homefire.Predict("topic, count: int, text -> label: Literal['ham', 'spam']")

        def forward(self, text: str, count: int, hint: str = "", more: float = 1.0):
            return self.second(text=text, count=count, topic=self.first(text=text).topic)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("program.py").write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("program.py:Mail", Predict),
        ("program.py:program", Predict),
        ("program.py:make", Predict),
        ("text -> label", Predict),
        ("text -> label: Literal['->', 'b']", Predict),
    ],
)
def test_what_a_signature_argument_names(text: str, kind: type, folder: Path) -> None:
    program = load_program(text, instructions="Do it.")
    assert type(program) is kind
    assert program.predictors()[0].signature.instructions == "Do it."
    assert load_program(text).predictors()[0].signature.instructions != "Do it."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing.py:program", "There is no file nothing.py. Check the path"),
        ("program.py", "names nothing in a file. Write the file, a colon"),
        ("program.py:programm", r"no name 'programm'. Did you mean 'program'\? It defines: Mail, program, make"),
        ("program.py:number", "program.py:number is a int; expected a Module, a Signature class"),
        ("program.py:half", "makes no program without arguments: missing a required argument: 'example'"),
        ("program.py:make_of", "makes no program without arguments"),
        ("broken.py:program", r"broken.py, line 3 failed with ZeroDivisionError: division by zero \(in `program = one / 0`\)"),
        ("syntax.py:program", r"syntax.py, line 2 failed with SyntaxError: .* \(in `def \(:`\)"),
        ("imports.py:program", "imports.py, line 1 failed with ModuleNotFoundError: No module named 'not_there'"),
        ("leaves.py:program", "leaves.py, line 2 failed with SystemExit: 3"),
        ("later.py:make", "later.py, line 3 failed with KeyError: 'x'"),
        ("later.py:seven", r"later.py:seven\(\) gives a int; expected a Module"),
        ("later.py:Needs", "later.py:Needs makes no program without arguments: missing a required argument: 'k'"),
    ],
)
def test_what_is_wrong_with_the_users_file(text: str, message: str, folder: Path) -> None:
    Path("broken.py").write_text("import json\none = 1\nprogram = one / 0\n", encoding="utf-8")
    Path("syntax.py").write_text("one = 1\ndef (:\n", encoding="utf-8")
    Path("imports.py").write_text("import not_there\n", encoding="utf-8")
    Path("leaves.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    Path("later.py").write_text(LATER, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_program(text)


@pytest.mark.parametrize("text", ["just words", "text -> label: Nowhere", "text -> "])
def test_what_is_wrong_with_a_signature(text: str) -> None:
    Nowhere = int  # noqa: F841 - a name of the caller's must not reach into what the user wrote
    with pytest.raises(SignatureError, match=r"write the signature into a file and name it: program.py:NAME"):
        load_program(text)


def test_what_does_not_go_together(folder: Path) -> None:
    with pytest.raises(InputError, match="--think is for signatures"):
        load_program("program.py:program", think=True)
    with pytest.raises(InputError, match="has 2 predictors; --instructions is for one"):
        load_program("program.py:TwoSteps", instructions="Do it.")
    with pytest.raises(InputError, match="expected a function"):
        load_function("program.py:number", 2)
    with pytest.raises(InputError, match="cannot be called with 2 arguments"):
        load_function("program.py:half", 2)


def test_a_file_is_run_once_and_gives_copies(folder: Path) -> None:
    first, second = load_program("program.py:program"), load_program("program.py:program")
    assert first is not second
    assert first.predictors()[0].lm is second.predictors()[0].lm
    assert first.predictors()[0].signature is second.predictors()[0].signature


def test_the_fields_of_a_program_of_several_steps(folder: Path) -> None:
    program = load_program("program.py:TwoSteps")
    fields = fields_of(program, ["text", "count", "label", "more"])
    assert {name: field.type for name, field in fields.input_fields.items()} == {"text": str, "count": int, "more": float}
    assert list(fields.output_fields) == ["topic", "label"]
