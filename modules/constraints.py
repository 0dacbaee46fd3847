"""Which types and constraints are enforced while a model writes, which by asking again, and which are refused.

Knows no engine. The table is data: the documentation prints it and a test checks every row of it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import typing_extensions
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field

from homefire.modules.field_constraints import Constraints, constraint_metadata

How = Literal["grammar", "retry", "refused"]
"""`grammar`: no other text can be written. `retry`: checked when the answer is read, and asked again. `refused`: no signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    example: Any
    how: How
    note: str = ""
    breaks: Any = None
    """For `retry`, a value as the grammar may write it in JSON, which breaks the constraint."""
    source: str = ""
    """The example as it is written, where its own text says too little."""


class Colour(enum.Enum):
    """An example of an Enum."""

    RED = "red"
    BLUE = "blue"


class Node(BaseModel):
    """An example of a model with an alias, a constraint and itself within it."""

    name: str = Field(alias="title", max_length=8)
    children: list[Node] = []


class Cat(BaseModel):
    """An example of one side of a discriminated union."""

    kind: Literal["cat"]
    lives: int = Field(ge=0, le=9)


class Dog(BaseModel):
    """An example of the other side."""

    kind: Literal["dog"]
    name: str


class Options(typing_extensions.TypedDict):
    """An example of a TypedDict."""

    size: int
    note: typing_extensions.NotRequired[str]


@dataclass
class Point:
    """An example of a dataclass."""

    x: int
    y: int


class Pair(NamedTuple):
    """An example of a NamedTuple."""

    left: int
    right: str


def _is_even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


_TYPES: tuple[Row, ...] = (
    Row(what="text", example=str, how="grammar", note="in the chat and XML formats written as it is, without quotes"),
    Row(what="whole number", example=int, how="grammar", note="up to 18 digits"),
    Row(what="number", example=float, how="grammar", note="always finite"),
    Row(what="true or false", example=bool, how="grammar"),
    Row(what="nothing", example=None, how="grammar"),
    Row(what="exact number", example=Decimal, how="grammar", note="text in JSON, so that no digit is lost"),
    Row(what="date", example=date, how="grammar", note="real months and days, leap years included"),
    Row(what="date and time", example=datetime, how="grammar", note="with or without a time zone"),
    Row(what="date and time with a time zone", example=AwareDatetime, how="grammar"),
    Row(what="time of day", example=time, how="grammar"),
    Row(what="duration", example=timedelta, how="grammar", note="ISO 8601, as `P1DT2H30M`"),
    Row(what="UUID", example=UUID, how="grammar"),
    Row(what="choice", example=Literal["yes", "no", 3, None], how="grammar", note="texts, numbers, bools and None, mixed"),
    Row(what="enumeration", example=Colour, how="grammar", note="written by value", source="Enum"),
    Row(what="optional", example=int | None, how="grammar"),
    Row(what="union", example=int | list[str], how="grammar", note="a text that fits several members is of the first that fits"),
    Row(
        what="discriminated union",
        example=Annotated[Cat | Dog, Field(discriminator="kind")],
        how="grammar",
        source='Annotated[Cat | Dog, Field(discriminator="kind")]',
    ),
    Row(what="list", example=list[int], how="grammar"),
    Row(what="tuple", example=tuple[int, str], how="grammar"),
    Row(what="tuple of any length", example=tuple[int, ...], how="grammar"),
    Row(what="set", example=set[int], how="grammar", note="an item written twice counts once"),
    Row(what="frozen set", example=frozenset[str], how="grammar"),
    Row(what="dict", example=dict[str, int], how="grammar", note="keys of str, int, float, Decimal, bool, date, UUID, Literal, Enum"),
    Row(what="dict with keys of a type", example=dict[date, bool], how="grammar"),
    Row(what="TypedDict", example=Options, how="grammar", note="optional keys may be left out", source="TypedDict"),
    Row(what="dataclass", example=Point, how="grammar", note="an object, its fields in order", source="dataclass"),
    Row(what="NamedTuple", example=Pair, how="grammar", note="an object, its fields in order", source="NamedTuple"),
    Row(
        what="pydantic model",
        example=Node,
        how="grammar",
        note="nested, recursive, with aliases; defaults are written too",
        source="BaseModel",
    ),
)


def _limited(what: str, base: Any, limits: Constraints, how: How = "grammar", note: str = "", breaks: Any = None) -> Row:
    """A row for a type declared with constraints."""
    source = f"{_written(base)} = OutputField({', '.join(f'{name}={_value(value)}' for name, value in limits.items())})"
    annotation = Annotated[(base, *constraint_metadata(limits))]
    return Row(what=what, example=annotation, how=how, note=note, breaks=breaks, source=source)


def _value(value: Any) -> str:
    return f'r"{value}"' if isinstance(value, str) else re.sub(r"^datetime\.", "", repr(value))


def _written(annotation: Any) -> str:
    """An annotation as a user writes it."""
    if isinstance(annotation, type) and "[" not in repr(annotation):
        return annotation.__name__
    return re.sub(r"\b(typing|datetime|decimal|uuid)\.", "", str(annotation)).replace("'", '"')


_CONSTRAINTS: tuple[Row, ...] = (
    _limited("bounds of an int", int, {"ge": -5, "lt": 120}, note="any bounds"),
    _limited("bounds of a float", float, {"ge": 0, "le": 1}, note="up to 17 places, 13 beside `gt` and `lt`"),
    _limited("bounds of a Decimal", Decimal, {"gt": 0, "le": Decimal("9.5")}, note="up to 17 places"),
    _limited("digits of a Decimal", Decimal, {"max_digits": 5, "decimal_places": 2}),
    _limited("multiples of an int up to 100", int, {"multiple_of": 7}, note="of at most 4 to 18 digits"),
    _limited("multiples of a greater int", int, {"multiple_of": 250}, "retry", breaks=251),
    _limited("multiples of 1, 0.1, 0.01, ...", Decimal, {"multiple_of": Decimal("0.01")}, note="of a float or Decimal"),
    _limited("multiples of other numbers", float, {"multiple_of": 0.25}, "retry", breaks=0.3),
    _limited("length of a text", str, {"min_length": 2, "max_length": 20}, note="one line in the chat and XML formats"),
    _limited("length of a long text", str, {"max_length": 2000}, note="above 128 characters none that JSON escapes"),
    _limited("pattern", str, {"pattern": r"^[A-Z]{2}-\d{1,4}$"}, note="classes, groups, alternatives, counts, anchors"),
    _limited(
        "pattern that is not regular",
        str,
        {"pattern": r"\bgo\b"},
        "retry",
        note="also flags, named Unicode classes, more than 300 states",
        breaks="going",
    ),
    _limited("number of items", list[int], {"min_length": 1, "max_length": 4}, note="up to 64 items"),
    _limited("more than 64 items at most", list[int], {"max_length": 65}, "retry", breaks=[1] * 66),
    _limited("entries of a dict", dict[str, int], {"max_length": 3}),
    _limited(
        "different items of a set", set[int], {"min_length": 2}, "retry", note="the grammar counts items, not different ones", breaks=[1, 1]
    ),
    _limited("bounds of a date or time", date, {"ge": date(2024, 1, 1)}, "retry", breaks="2023-12-31"),
    Row(
        what="validators",
        example=Annotated[int, AfterValidator(_is_even)],
        how="retry",
        note="of fields and of models",
        breaks=3,
        source="Annotated[int, AfterValidator(is_even)]",
    ),
)
_REFUSED: tuple[Row, ...] = (
    Row(what="anything", example=Any, how="refused", note="name a type"),
    Row(what="list without a type", example=list, how="refused", note="write `list[str]`"),
    Row(what="bytes", example=bytes, how="refused", note="use str"),
    Row(what="complex number", example=complex, how="refused", note="use a tuple of two floats"),
    Row(what="dict whose keys are no text", example=dict[tuple[int, int], str], how="refused", note="use keys of str"),
    _limited("bounds that contradict each other", int, {"ge": 5, "le": 3}, "refused"),
    _limited("constraint of another type", str, {"ge": 3}, "refused"),
)
ENFORCEMENT: tuple[Row, ...] = (*_TYPES, *_CONSTRAINTS, *_REFUSED)
"""What is enforced, and how."""


def enforcement_table(rows: Sequence[Row] = ENFORCEMENT) -> str:
    """The table as Markdown."""
    lines = ["| type or constraint | for example | enforced by | note |", "| --- | --- | --- | --- |"]
    for row in rows:
        example = (row.source or _written(row.example)).replace("|", "\\|")
        lines.append(f"| {row.what} | `{example}` | {row.how} | {row.note} |")
    return "\n".join(lines) + "\n"
