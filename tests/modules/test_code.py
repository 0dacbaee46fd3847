"""The type Code: what is stripped, that it comes back as it was, and how formats treat it."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from homefire.engine.scripted_engine import ScriptedLM
from homefire.modules.chat_format import ChatFormat
from homefire.modules.code import Code, code_in
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.type_words import in_words
from homefire.modules.values import value_type
from homefire.modules.xml_format import XmlFormat

Python = code_in("python")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```py\nx = 1\n```\n", "x = 1"),
        ("```\nx = 1", "x = 1"),
        ("Here it is:\n```python\nx = 1\n\ny = 2\n```\nDone.", "x = 1\n\ny = 2"),
        ("First this.\n```sql\nselect\n```\nThen\n```python\nP = 1\n```", "P = 1"),
        ("One\n```python\na = 1\n```\ntwo\n```python\nb = 2\n```", "a = 1\nb = 2"),
        ("\n\n  x = 1  \n", "  x = 1"),
        ("s = '''\n```\nkept\n```\n'''", "s = '''\n```\nkept\n```\n'''"),
        ("~~~\nx\n~~~", "x"),
        ("", ""),
    ],
)
def test_fences_are_stripped(text: str, code: str) -> None:
    assert Python(text) == code
    assert type(Python(text).code) is str


@given(st.text(alphabet="`~ \nxpython=1"))
def test_what_was_stripped_once_stays(text: str) -> None:
    for kind in (Code, Python):
        assert kind(str(kind(text))) == kind(text)
        values = value_type(kind)
        assert values.load(values.dump(kind(text))) == kind(text)
        assert values.from_bare(values.bare(kind(text))) == kind(text)


def test_it_is_made_by_name_too() -> None:
    assert Code(code="```\nx = 1\n```").code == "x = 1"


def test_a_language_is_one_type() -> None:
    assert Code["python"] is Python  # type: ignore[misc]
    assert (Python.language, Code.language) == ("python", "")
    assert (in_words(Python), in_words(Code)) == ("python code", "source code")
    for copied in (copy.deepcopy(Python("x")), pickle.loads(pickle.dumps(Python("x")))):
        assert (type(copied), copied) == (Python, "x")


class Write(Signature):
    """Write it."""

    task: str = InputField()
    program: Python = OutputField()  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("dialect", "answer"),
    [
        (None, '{"program": "```python\\nif x < 1:\\n    y = 2\\n```"}'),
        (ChatFormat(), "[[ ## program ## ]]\n```python\nif x < 1:\n    y = 2\n```\n\n[[ ## completed ## ]]"),
        (XmlFormat(), "<program>\n```python\nif x < 1:\n    y = 2\n```\n</program>"),
    ],
)
def test_an_output_in_every_format(dialect: object, answer: str) -> None:
    with context(lm=ScriptedLM([answer]), format=dialect):  # type: ignore[typeddict-item]
        made = Predict(Write)(task="?").program
    assert made == "if x < 1:\n    y = 2"
    assert isinstance(made, Python)


def test_it_stands_in_records_and_strings_of_signatures() -> None:
    class Answer(BaseModel):
        query: Code

    signature = Signature("q -> answer: Answer, other: list[Code['sql']]", custom_types={"Answer": Answer, "Code": Code})
    with context(lm=ScriptedLM(['{"answer": {"query": "```sql\\nselect 1\\n```"}, "other": ["a"]}'])):
        prediction = Predict(signature)(q="?")
    assert (prediction.answer.query, prediction.other) == ("select 1", ["a"])
    assert isinstance(prediction.other[0], code_in("sql"))
