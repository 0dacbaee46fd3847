"""Hypothesis strategies of output types with values of them.

`types()` draws an annotation together with a strategy of its values, all of which its grammar can write.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict
from uuid import UUID

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints, create_model

Typed = tuple[Any, st.SearchStrategy[Any]]
"""An annotation and its values."""

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
LINES = st.lists(
    st.sampled_from(["", "a line", "[[ ## x ## ]]", "</x>", "  spaces ", '{"a": 1}', "\\", '"', "é\u2028", "\x00", "\r"]), max_size=4
)
HOSTILE = TEXT | LINES.map("\n".join)
ZONES = st.none() | st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


class Colour(enum.Enum):
    RED = "red"
    DARK_RED = "dark red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tag(enum.Enum):
    NUMBER = 1
    MARKUP = "<b>"
    NULL = "null"


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    good: bool


class Place(NamedTuple):
    name: str
    floor: int


class Options(TypedDict):
    size: int
    note: NotRequired[str]


def floats(low: float = -1e299, high: float = 1e299) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-290)


TREES = st.recursive(
    st.builds(Tree, name=HOSTILE), lambda inner: st.builds(Tree, name=HOSTILE, children=st.lists(inner, max_size=2)), max_leaves=4
)
SCALARS: Sequence[Typed] = [
    (int, st.integers(-(10**17), 10**17)),
    (float, floats()),
    (bool, st.booleans()),
    (Decimal, st.decimals(-(10**20), 10**20, allow_nan=False, places=6) | st.decimals(-1, 1, allow_nan=False, places=20)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Tag, st.sampled_from(Tag)),
    (Literal["yes", "no", "yes, but"], st.sampled_from(["yes", "no", "yes, but"])),
    (Literal["1", 1, True, None], st.sampled_from(["1", 1, True, None])),
    (Literal[Colour.RED, "other"], st.sampled_from([Colour.RED, "other"])),
]
NAMED: Sequence[Typed] = [
    (date, st.dates()),
    (datetime, st.datetimes(timezones=ZONES)),
    (time, st.times(timezones=ZONES)),
    (timedelta, st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6))),
    (UUID, st.uuids()),
]
RECORDS: Sequence[Typed] = [
    (Tree, TREES),
    (Place, st.builds(Place, name=HOSTILE, floor=st.integers(-9, 99))),
    (Options, st.fixed_dictionaries({"size": st.integers(0, 9)}, optional={"note": HOSTILE})),
    (Cat | Dog, st.builds(Cat, kind=st.just("cat"), lives=st.integers(0, 9)) | st.builds(Dog, kind=st.just("dog"), good=st.booleans())),
    (Annotated[Cat | Dog, Field(discriminator="kind")], st.builds(Dog, kind=st.just("dog"), good=st.booleans())),
]
KEYS: Sequence[Typed] = [
    (str, HOSTILE),
    (int, st.integers(-99, 10**9)),
    (date, st.dates()),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (bool, st.booleans()),
]
LINE_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def constrained(draw: st.DrawFn) -> Typed:
    """Scalars with constraints that the grammar enforces."""
    low = draw(st.integers(-(10**6), 10**6))
    high = low + draw(st.integers(0, 10**6))
    step = draw(st.integers(2, 30))
    least = draw(st.integers(0, 3))
    most = least + draw(st.integers(0, 9))
    inside = st.floats(low / 64, high / 64, allow_subnormal=False).map(lambda x: min(max(round(x, 6), low / 64), high / 64))
    options: list[Typed] = [
        (Annotated[int, annotated_types.Ge(low), annotated_types.Le(high)], st.integers(low, high)),
        (Annotated[int, annotated_types.MultipleOf(step)], st.integers(-(10**4), 10**4).map(lambda n: n * step)),
        (Annotated[float, Field(ge=low / 64, le=high / 64)], inside.map(lambda x: x + 0.0)),
        (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], st.decimals(-9999, 9999, places=2)),
        (Annotated[Decimal, Field(gt=0)], st.decimals(1, 10**6, places=4)),
        (Annotated[str, Field(min_length=least, max_length=most)], LINE_TEXT.map(lambda text: (text + "x" * least)[:most])),
        (Annotated[str, Field(min_length=least)], HOSTILE.map(lambda text: text + "x" * least)),
        (Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}-\d{1,4}$")], st.from_regex(r"\A[A-Z]{2}-[0-9]{1,4}\Z")),
        (Annotated[str, Field(pattern=r"^[^,]+(, [^,]+)*$")], st.from_regex(r'\A[a-z "\\<\n]+(, [a-z]+){0,3}\Z')),
    ]
    return draw(st.sampled_from(options))


def scalars() -> st.SearchStrategy[Typed]:
    return st.sampled_from([*SCALARS, *NAMED]) | constrained()


def types(depth: int = 2) -> st.SearchStrategy[Typed]:
    """Types with their values, containers within containers up to `depth`."""
    leaves: st.SearchStrategy[Typed] = st.just((str, HOSTILE)) | scalars() | st.sampled_from(RECORDS)
    if depth == 0:
        return leaves
    return leaves | containers(types(depth - 1)) | containers(types(depth - 1)) | optional(leaves)


@st.composite
def optional(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    annotation, values = draw(inner)
    return Optional[annotation], st.none() | values  # noqa: UP045


@st.composite
def containers(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    """A container of what `inner` draws."""
    annotation, values = draw(inner)
    make: Callable[[], Typed] = draw(
        st.sampled_from(
            [
                lambda: (list[annotation], st.lists(values, max_size=3)),
                lambda: (Annotated[list[annotation], Field(min_length=1, max_length=3)], st.lists(values, min_size=1, max_size=3)),
                lambda: (tuple[annotation, ...], st.lists(values, max_size=3).map(tuple)),
                lambda: (tuple[annotation, bool], st.tuples(values, st.booleans())),
                lambda: _dict(draw, annotation, values),
                lambda: _set(draw),
                lambda: _model(draw, annotation, values),
                lambda: _dataclass(annotation, values),
            ]
        )
    )
    return make()


def _dict(draw: st.DrawFn, annotation: Any, values: st.SearchStrategy[Any]) -> Typed:
    key, keys = draw(st.sampled_from(KEYS))
    return dict[key, annotation], st.dictionaries(keys, values, max_size=3)


def _set(draw: st.DrawFn) -> Typed:
    annotation, values = draw(st.sampled_from(NAMED) | st.just((str, HOSTILE)) | st.just((int, st.integers(-99, 99))))
    kind, make = draw(st.sampled_from([(set, st.sets), (frozenset, st.frozensets)]))
    return kind[annotation], make(values, max_size=3)


def _model(draw: st.DrawFn, annotation: Any, values: st.SearchStrategy[Any]) -> Typed:
    alias = draw(st.sampled_from([None, "the items", 'quote"']))
    info = Field(alias=alias) if alias else Field()
    model = create_model("Drawn", items=(annotation, info), count=(Annotated[int, Field(ge=1)], 1))
    return model, st.builds(lambda items, count: model(**{alias or "items": items, "count": count}), values, st.integers(1, 99))


def _dataclass(annotation: Any, values: st.SearchStrategy[Any]) -> Typed:
    made = make_dataclass("Drawn", [("keys", annotation), ("flag", bool)])
    return made, st.builds(made, values, st.booleans())
