"""Signatures as JSON and back: fields, instructions, and types whose values are read as before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

import homefire
from homefire.modules.described_types import describe_signature, describe_type, signature_of, type_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class City(BaseModel):
    name: str = Field(min_length=2)
    people: int | None = None
    twin: City | None = None


class Aliased(BaseModel):
    from_: str = Field(alias="from")


@dataclass
class Point:
    x: float
    y: float = 0.5


class Row(TypedDict):
    word: str
    count: NotRequired[int]


PLAIN = [
    (str, "a", 1),
    (int, 3, "x"),
    (bool, True, "perhaps"),
    (date, "2024-02-29", "yesterday"),
    (Decimal, "1.50", "x"),
    (list[int], [1, 2], ["x"]),
    (dict[str, list[float]], {"a": [0.5]}, {"a": ["x"]}),
    (tuple[int, ...], [1, 2], ["x"]),
    (tuple[int, str], [1, "a"], [1]),
    (set[str], ["a"], 1),
    (int | None, None, "x"),
    (Literal["a", 1], 1, "b"),
    (Annotated[int, Field(ge=1, le=5)], 5, 6),
    (Colour, "red", "green"),
    (City, {"name": "Rome", "people": 3}, {"name": "R"}),
    (Aliased, {"from": "Rome"}, {"to": "Rome"}),
    (list[Point], [{"x": 1.0}], [{"y": 1.0}]),
    (Row, {"word": "a", "count": 2}, {"count": 1}),
]


@pytest.mark.parametrize(("annotation", "good", "bad"), PLAIN, ids=lambda value: str(value)[:30])
def test_a_type_comes_back_and_takes_the_same_values(annotation: Any, good: Any, bad: Any) -> None:
    described = json.loads(json.dumps(describe_type(annotation)))
    again = TypeAdapter(type_of(described))
    plain = json.dumps(good)
    assert again.dump_json(again.validate_json(plain)) == TypeAdapter(annotation).dump_json(TypeAdapter(annotation).validate_json(plain))
    with pytest.raises(ValidationError):
        again.validate_json(json.dumps(bad))


def test_a_signature_comes_back() -> None:
    class Find(homefire.Signature):
        """Find the city."""

        text: str = homefire.InputField(desc="a letter")
        city: City = homefire.OutputField()
        stars: int = homefire.OutputField(desc="five is best", ge=1, le=5)
        colour: Colour = homefire.OutputField()

    again = signature_of(json.loads(json.dumps(describe_signature(Find))))
    assert again.__name__ == "Find"
    assert again.instructions == "Find the city."
    assert list(again.input_fields) == ["text"]
    assert list(again.output_fields) == ["city", "stars", "colour"]
    assert again.fields["text"].description == "a letter"
    answer = '{"city": {"name": "Rome", "people": null, "twin": null}, "stars": 5, "colour": "red"}'
    assert homefire.JsonFormat().parse(again, answer)["city"].name == "Rome"
    with pytest.raises(homefire.ParseError):
        homefire.JsonFormat().parse(again, answer.replace("5", "6"))


def test_what_cannot_be_described_is_anything() -> None:
    class Strange:
        pass

    assert type_of(describe_type(Strange)) is Any


def test_an_output_without_a_grammar_becomes_text() -> None:
    described = {"name": "S", "instructions": "Do.", "fields": [{"name": "x", "role": "output", "description": "", "type": {"any": "X"}}]}
    assert signature_of(described).fields["x"].type is str


def test_no_code_of_the_file_runs() -> None:
    described = {"plain": "__import__('os').abort()"}
    assert type_of(described) is Any
    assert type_of({"holder": "eval", "of": []}) is Any
