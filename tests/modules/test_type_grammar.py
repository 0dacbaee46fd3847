"""Types to grammars, against XGrammar itself: what Python writes is accepted, what is not of the type is refused."""

from __future__ import annotations

import enum
import json
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from homefire.engine.grammar import Term
from homefire.errors import SignatureError
from homefire.modules.bare_text import write_line
from homefire.modules.type_grammar import TIGHT_CHARACTERS, TypeGrammar

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
    types = TypeGrammar(tight=tight)
    return accepts_term(types, types.value(annotation, "The output 'x'"), text)


def accepts_term(types: TypeGrammar, term: Term, text: str) -> bool:
    from xgrammar.testing import _is_grammar_accept_string

    return bool(_is_grammar_accept_string(xgrammar.Grammar.from_ebnf(types.builder.build(term).gbnf), text))


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
    assert not accepts(str, json.dumps("x" * (TIGHT_CHARACTERS + 1)), tight=True)
    assert accepts(str, json.dumps("x" * TIGHT_CHARACTERS), tight=True)
    assert accepts(int | None, "null", tight=True)
    assert not accepts(int | None, "1", tight=True)
    assert TypeGrammar(tight=True).longest(str, "x") >= TIGHT_CHARACTERS + 2


@pytest.mark.parametrize("annotation", [complex, object, Any, list, dict, bytes, dict[tuple[int, int], str], Literal[b"a"], range])
def test_a_type_without_grammar_is_refused_by_name(annotation: Any) -> None:
    with pytest.raises(SignatureError, match="'x'"):
        TypeGrammar().value(annotation, "The output 'x'")


class Leaf(BaseModel):
    value: int


class Sum(BaseModel):
    left: Leaf | Sum
    right: Sum | Leaf


def test_a_tight_grammar_takes_the_simplest_member_of_a_union() -> None:
    assert accepts(Sum, '{"left": {"value": 1}, "right": {"value": 2}}', tight=True)
    assert accepts(Sum, '{"left": {"left": {"value": 1}, "right": {"value": 2}}, "right": {"value": 2}}')
    assert TypeGrammar(tight=True).longest(Sum, "x") < 100


class Endless(BaseModel):
    inner: Endless


def test_what_contains_itself_without_end_may_still_be_left_out() -> None:
    with pytest.raises(SignatureError, match="without end"):
        TypeGrammar().value(Endless, "The output 'x'")
    assert accepts(list[Endless], "[]")
    assert accepts(Endless | None, "null")


def test_dates_are_real() -> None:
    for text in ("2024-02-29", "2000-02-29", "2023-12-31", "0001-01-01", "2023-04-30"):
        assert accepts(date, f'"{text}"'), text
    for text in ("2023-02-29", "1900-02-29", "2023-04-31", "0000-01-01", "2023-13-01", "2023-00-10", "2023-01-00", "2023-1-1"):
        assert not accepts(date, f'"{text}"'), text


def test_bounds_hold_to_the_digit() -> None:
    small = Annotated[int, Field(ge=-12, le=105)]
    assert [n for n in range(-130, 1100) if accepts(small, str(n))] == list(range(-12, 106))
    share = Annotated[float, Field(gt=0, le=1)]
    assert all(accepts(share, text) for text in ("1", "1.0", "0.5", "0.001", "1e-07"))
    assert not any(accepts(share, text) for text in ("0", "0.0", "1.01", "2", "-0.5", "1e-400", "01"))


@pytest.mark.parametrize("pattern", [r"^[\w.+-]+@[\w-]+(\.[\w-]+)+$", r"^[a-f_^\]\\]+$", r"^[^\n<]{3}$", r"\d\d"])
def test_what_matches_a_pattern_is_accepted_in_both_forms(pattern: str) -> None:
    annotation, types = Annotated[str, Field(pattern=pattern)], TypeGrammar()
    found = TypeAdapter(annotation)
    terms = {types.value(annotation, "x"): json.dumps, types.bare(annotation, "x"): lambda text: write_line(text)}

    @settings(max_examples=20, deadline=None)
    @given(st.from_regex(pattern, fullmatch=False, alphabet=st.characters(max_codepoint=126)))
    def check(text: str) -> None:
        try:
            found.validate_python(text)
        except ValueError:
            return
        for term, write in terms.items():
            assert term is not None
            assert accepts_term(types, term, write(text)), text

    check()


def test_equal_types_have_equal_grammars() -> None:
    def gbnf() -> str:
        types = TypeGrammar()
        return types.builder.build(types.value(dict[str, list[Tree] | None], "x")).gbnf

    assert gbnf() == gbnf()
