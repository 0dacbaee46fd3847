"""Values of every type: to JSON and back, to bare text and back, and always within the grammar."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, model_validator

from homefire.errors import ConstraintError, InputError, ParseError
from homefire.modules.type_grammar import TypeGrammar
from homefire.modules.values import value_type
from tests.type_strategies import Cat, Colour, Dog, Place, Tag, types

xgrammar = pytest.importorskip("xgrammar")


def accepts(term: Any, types: TypeGrammar, text: str) -> bool:
    from xgrammar.testing import _is_grammar_accept_string

    return bool(_is_grammar_accept_string(xgrammar.Grammar.from_ebnf(types.builder.build(term).gbnf), text))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_value_comes_back_and_is_in_the_grammar(data: st.DataObject) -> None:
    annotation, values = data.draw(types(), label="type")
    kind, types_ = value_type(annotation), TypeGrammar()
    term, bare = types_.value(annotation, "x"), types_.bare(annotation, "x")
    assert (bare is None) == kind.free
    for _ in range(2):
        value = data.draw(values, label="value")
        text = json.dumps(kind.dump(value), ensure_ascii=False)
        assert kind.load(json.loads(text)) == value
        assert accepts(term, types_, text), text
        assert kind.from_bare(kind.bare(value)) == value
        assert bare is None or accepts(bare, types_, kind.bare(value)), kind.bare(value)


class Span(BaseModel):
    first: int = Field(ge=0)
    last: int

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.last < self.first:
            raise ValueError("last must not be before first")
        return self


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (str, "a\n b ", "a\n b "),
        (Annotated[str, Field(max_length=9)], " a\n<", "\\u0020a\\n\\u003c"),
        (int, 3, "3"),
        (bool, True, "true"),
        (date, date(2024, 1, 31), "2024-01-31"),
        (Decimal, Decimal("1.50"), "1.50"),
        (Colour, Colour.DARK_RED, "dark red"),
        (Tag, Tag.MARKUP, '"<b>"'),
        (Colour | None, None, "null"),
        (Colour | None, Colour.RED, "red"),
        (Literal["null"] | None, "null", '"null"'),
        (str | None, "null", '"null"'),
        (date | None, date(2024, 1, 31), "2024-01-31"),
        (list[Place], [Place("a", 1)], '[{"name": "a", "floor": 1}]'),
        (set[int], {3, 1, 2}, "[1, 2, 3]"),
    ],
)
def test_bare_texts(annotation: Any, value: Any, text: str) -> None:
    assert value_type(annotation).bare(value) == text
    assert value_type(annotation).from_bare(text) == value


class Size(TypedDict):
    width: int
    note: NotRequired[str]


@dataclass
class Box:
    sizes: list[Size]
    inner: Box | None = None


class Row(NamedTuple):
    box: Box
    size: Size | None


@pytest.mark.parametrize(
    ("annotation", "value"),
    [(Box, Box([{"width": 1}], Box([{"width": 2, "note": "n"}]))), (list[Row], [Row(Box([]), {"width": 1}), Row(Box([]), None)])],
)
def test_a_typed_dict_inside_another_class_is_read_on_every_python(annotation: Any, value: Any) -> None:
    kind = value_type(annotation)
    assert kind.load(json.loads(json.dumps(kind.dump(value)))) == value


class Floor(IntEnum):
    CELLAR = -1
    GROUND = 0


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (dict[Floor, date], {Floor.CELLAR: date(2024, 1, 31)}, '{"-1": "2024-01-31"}'),
        (dict[Literal[1, "b", True], int], {1: 3, "b": 4}, '{"1": 3, "b": 4}'),
        (list[dict[Literal[True], Colour]], [{True: Colour.RED}], '[{"true": "red"}]'),
    ],
)
def test_choices_of_any_kind_are_keys(annotation: Any, value: Any, text: str) -> None:
    kind, types_ = value_type(annotation), TypeGrammar()
    term = types_.value(annotation, "x")
    assert json.dumps(kind.dump(value)) == text and accepts(term, types_, text)
    loaded = kind.load(json.loads(text))
    assert loaded == value and repr(loaded) == repr(value)
    with pytest.raises(ParseError):
        kind.load(json.loads(text.replace("{", '{"7": 1, ')))


@pytest.mark.parametrize(
    ("annotation", "plain"),
    [
        (int, "three"),
        (int, 1.5),
        (float, float("inf")),
        (bool, "maybe"),
        (list[int], {}),
        (Colour, "green"),
        (Span, {"first": 1}),
        (str, 1),
    ],
)
def test_another_type_is_a_parse_error(annotation: Any, plain: Any) -> None:
    with pytest.raises(ParseError) as raised:
        value_type(annotation).load(plain)
    assert not isinstance(raised.value, ConstraintError)


def test_a_broken_constraint_says_where_and_what() -> None:
    with pytest.raises(ConstraintError) as raised:
        value_type(list[Span]).load([{"first": 5, "last": 3}, {"first": -1, "last": 3}])
    assert raised.value.problems == (
        "0: last must not be before first",
        "1.first: input should be greater than or equal to 0, got -1",
    )


def test_what_is_no_value_is_refused_in_words() -> None:
    with pytest.raises(InputError, match='\'blue sky\' is not one of "red", "dark red", "blue"'):
        value_type(Colour).dump("blue sky")
    with pytest.raises(InputError, match="inf is not number"):
        value_type(float).dump(float("inf"))


def test_json_values_are_taken_too() -> None:
    assert value_type(Colour).dump("red") == "red"
    assert value_type(dict[int, date]).dump({"3": "2024-01-31"}) == {"3": "2024-01-31"}


def test_the_order_of_a_union_counts() -> None:
    assert value_type(date | str).load("2024-01-31") == date(2024, 1, 31)
    assert value_type(str | date).load("2024-01-31") == "2024-01-31"


def test_choices() -> None:
    assert value_type(Colour).choices() == tuple(Colour)
    assert value_type(Literal["a", 1]).choices() == ("a", 1)
    assert value_type(bool).choices() == (True, False)
    assert value_type(str).choices() is None


def test_a_discriminator_picks_the_model() -> None:
    kind = value_type(Annotated[Cat | Dog, Field(discriminator="kind")])
    assert kind.load({"kind": "dog", "good": True}) == Dog(kind="dog", good=True)
