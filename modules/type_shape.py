"""What a type consists of: a small algebra of shapes.

Knows no pydantic and no grammar; grammars, words and values are all made from these shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

NamedKind = Literal["date", "datetime", "time", "timedelta", "uuid"]
ItemsKind = Literal["list", "set", "frozenset", "tuple"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A str."""

    least: int = 0
    most: int | None = None
    pattern: str | None = None
    """A regular expression that must be found in the text."""

    @property
    def free(self) -> bool:
        return self == Text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An int."""

    least: int | None = None
    most: int | None = None
    multiple: int = 1


@dataclass(frozen=True, slots=True)
class Bound:
    """An end of a range of numbers."""

    value: Decimal
    included: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A float, or a Decimal, whose JSON is text."""

    exact: bool = False
    low: Bound | None = None
    high: Bound | None = None
    multiple: Decimal | None = None
    digits: int | None = None
    places: int | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A bool."""


@dataclass(frozen=True, slots=True)
class Null:
    """None."""


@dataclass(frozen=True, slots=True)
class Named:
    """A value whose JSON is text of a fixed form."""

    kind: NamedKind
    limits: tuple[tuple[str, Any], ...] = ()
    """Constraints by their names (`ge`, `tz_constraint`, `version`, ...), sorted."""


@dataclass(frozen=True, slots=True)
class Choices:
    """A Literal or an Enum: the values, and the JSON value of each."""

    values: tuple[Any, ...]
    plain: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """A Union."""

    members: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """Any number of items of one shape."""

    kind: ItemsKind
    item: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A tuple with a shape for each place."""

    items: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A dict."""

    key: Shape
    value: Shape
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One field of a record: its key in JSON and its name in Python."""

    key: str
    name: str
    shape: Shape
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A pydantic model, dataclass, NamedTuple or TypedDict."""

    cls: type
    members: tuple[Member, ...]
    is_dict: bool = False


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A pydantic RootModel, whose JSON is that of its root."""

    cls: type
    inner: Shape


@dataclass(frozen=True, slots=True)
class Ref:
    """A shape with a name, for types that contain themselves."""

    name: str


Shape = Text | Whole | Number | Flag | Null | Named | Choices | Either | Items | Fixed | Pairs | Record | Wrapped | Ref


@dataclass(frozen=True, slots=True)
class Shapes:
    """A shape with the shapes that its references name."""

    root: Shape
    named: Mapping[str, Shape]

    def of(self, shape: Shape) -> Shape:
        """The shape itself, also behind references."""
        while isinstance(shape, Ref):
            shape = self.named[shape.name]
        return shape
