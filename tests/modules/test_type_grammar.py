"""Types to grammars, against XGrammar itself: what Python writes is accepted, what is not of the type is refused."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from homefire.errors import SignatureError
from homefire.modules.type_grammar import TypeGrammar

xgrammar = pytest.importorskip("xgrammar")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float
    label: str | None


class Tree(BaseModel):
    name: str
    children: list[Tree]


def accepts(annotation: Any, text: str, *, tight: bool = False) -> bool:
    from xgrammar.testing import _is_grammar_accept_string

    types = TypeGrammar(tight=tight)
    root = types.value(annotation, "The output 'x'")
    return bool(_is_grammar_accept_string(xgrammar.Grammar.from_ebnf(types.builder.build(root).gbnf), text))


STRATEGIES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, st.text(alphabet=st.characters(exclude_categories=["Cs"]))),
    (int, st.integers(-(10**17), 10**17)),
    (float, st.floats(-1e15, 1e15, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-90)),
    (bool, st.booleans()),
    (Literal["a b", 'say "hi"', "é", 3], st.sampled_from(["a b", 'say "hi"', "é", 3])),
    (Colour, st.sampled_from(["red", "blue"])),
    (int | None, st.none() | st.integers(-99, 99)),
    (list[str], st.lists(st.text(alphabet='abc "\\\n\t'), max_size=4)),
    (dict[str, int], st.dictionaries(st.text(alphabet="abc"), st.integers(0, 9), max_size=3)),
    (Point, st.fixed_dictionaries({"x": st.integers(-9, 9), "y": st.just(1.5), "label": st.none() | st.just("p")})),
]


@pytest.mark.parametrize(("annotation", "values"), STRATEGIES, ids=lambda value: str(value)[:40])
def test_accepts_what_json_writes(annotation: Any, values: st.SearchStrategy[Any]) -> None:
    @settings(max_examples=30, deadline=None)
    @given(values)
    def check(value: Any) -> None:
        plain = TypeAdapter(annotation).dump_python(TypeAdapter(annotation).validate_python(value), mode="json")
        assert accepts(annotation, json.dumps(plain, ensure_ascii=False))

    check()


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "01"), (int, "1.5"), (int, '"1"'), (float, "1e999"), (float, "NaN"), (bool, "True"), (str, "bare"), (str, '"line\nbreak"'),
        (str, '"\\ud800"'), (Literal["a", "b"], '"c"'), (Colour, '"green"'), (int | None, "none"), (list[int], "[1,2]"),
        (list[int], "[1, ]"),
        (dict[str, int], "{1: 2}"), (Point, '{"y": 1.0, "x": 1, "label": null}'), (Point, '{"x": 1, "y": 1.0}'),
    ],
)  # fmt: skip
def test_refuses_what_is_not_of_the_type(annotation: Any, text: str) -> None:
    assert not accepts(annotation, text)


def test_recursive_models_are_accepted() -> None:
    assert accepts(Tree, '{"name": "a", "children": [{"name": "b", "children": []}]}')


def test_tight_values_are_short_and_of_the_type() -> None:
    assert accepts(Tree, '{"name": "a", "children": []}', tight=True)
    assert not accepts(str, json.dumps("x" * 49), tight=True)
    assert accepts(str, json.dumps("x" * 48), tight=True)
    assert accepts(int | None, "null", tight=True)
    assert not accepts(int | None, "1", tight=True)
    assert TypeGrammar(tight=True).longest(str, "x") >= 50


class Constrained(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    age: set[int]


@pytest.mark.parametrize("annotation", [set[int], complex, object, Any, dict[int, str], list, Constrained, tuple[int, ...]])
def test_a_type_without_grammar_is_refused_by_name(annotation: Any) -> None:
    with pytest.raises(SignatureError, match="'x'"):
        TypeGrammar().value(annotation, "The output 'x'")
