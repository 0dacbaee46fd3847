"""Values walked by their shapes: which shape a value has, its JSON value, and what pydantic must be given to make it again.

Knows no text: JSON values are Python's `dict`, `list`, `str`, `int`, `float`, `bool` and `None`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from homefire.modules.type_shape import (
    Choices,
    Either,
    Fixed,
    Flag,
    Items,
    Named,
    Null,
    Number,
    Pairs,
    Record,
    Shape,
    Shapes,
    Text,
    Whole,
    Wrapped,
)

_NAMED: dict[str, type] = {"date": date, "datetime": datetime, "time": time, "timedelta": timedelta, "uuid": UUID}
_ITEMS: dict[str, type[Collection[Any]]] = {"list": list, "set": set, "frozenset": frozenset, "tuple": tuple}


def holds(shapes: Shapes, shape: Shape, value: Any) -> bool:
    """Whether a value, already of the whole type, is of this one of its shapes; tells the members of a Union apart."""
    match shapes.of(shape):
        case Text():
            return isinstance(value, str)
        case Whole():
            return isinstance(value, int) and not isinstance(value, bool)
        case Number(exact=exact):
            return isinstance(value, Decimal if exact else float)
        case Flag():
            return isinstance(value, bool)
        case Null():
            return value is None
        case Named(kind):
            return isinstance(value, _NAMED[kind]) and (kind != "date" or not isinstance(value, datetime))
        case Choices() as choices:
            return _position(choices, value) is not None
        case Either(members):
            return any(holds(shapes, member, value) for member in members)
        case Items(kind=kind, item=item):
            return isinstance(value, _ITEMS[kind]) and all(holds(shapes, item, one) for one in value)
        case Fixed(items):
            return isinstance(value, tuple) and len(value) == len(items) and all(map(holds, [shapes] * len(items), items, value))
        case Pairs(key=key, value=inner):
            return isinstance(value, dict) and all(holds(shapes, key, k) and holds(shapes, inner, v) for k, v in value.items())
        case Record() as record if record.is_dict:
            required = {member.name for member in record.members if member.required}
            return isinstance(value, dict) and required <= set(value) <= {member.name for member in record.members}
        case Record(cls=cls) | Wrapped(cls):
            return isinstance(value, cls)
    return False


def dumped(shapes: Shapes, shape: Shape, value: Any) -> Any:
    """The JSON value of a value of this shape.

    Raises:
        ValueError: the value has no JSON, such as an infinite number.
    """
    match shapes.of(shape):
        case Number(exact=True):
            return format(value, "f")
        case Number():
            return _finite(float(value))
        case Whole():
            return int(value)
        case Named(kind):
            return _duration(value) if kind == "timedelta" else str(value) if kind == "uuid" else value.isoformat()
        case Choices() as choices:
            position = _position(choices, value)
            return choices.plain[0 if position is None else position]
        case Either(members):
            found = [member for member in members if holds(shapes, member, value)]
            return dumped(shapes, found[0], value) if found else value
        case Items(kind=kind, item=item):
            items = [dumped(shapes, item, one) for one in value]
            return _sorted(items) if kind in ("set", "frozenset") else items
        case Fixed(items=places):
            return [dumped(shapes, place, one) for place, one in zip(places, value, strict=True)]
        case Pairs(key=key, value=inner):
            return {key_text(dumped(shapes, key, k)): dumped(shapes, inner, v) for k, v in value.items()}
        case Record() as record:
            return {member.key: dumped(shapes, member.shape, one) for member, one in _members(record, value)}
        case Wrapped(_, inner):
            return dumped(shapes, inner, value.root)
    return value


def key_text(plain: Any) -> str:
    """A JSON value as the key of an object."""
    return plain if isinstance(plain, str) else json.dumps(plain)


def needs_loading(shapes: Shapes) -> bool:
    """Whether pydantic alone cannot make the values from JSON: it finds no enumeration's members in a Literal, and no numbers in keys."""
    return any(
        _is_literal_of_members(one) or _has_choices_as_keys(one) for shape in (shapes.root, *shapes.named.values()) for one in _parts(shape)
    )


def loadable(shapes: Shapes, shape: Shape, plain: Any) -> Any:
    """A JSON value in which each choice stands for itself, for pydantic to take as Python."""
    match shapes.of(shape), plain:
        case Choices() as choices, _:
            found = [value for value, own in zip(choices.values, choices.plain, strict=True) if _same(own, plain)]
            return found[0] if found else plain
        case Either(members), _:
            tried = [loadable(shapes, member, plain) for member in members]
            return next((one for one in tried if one is not plain and one != plain), plain)
        case Items(item=item), list():
            return [loadable(shapes, item, one) for one in plain]
        case Fixed(items), list() if len(items) == len(plain):
            return [loadable(shapes, item, one) for item, one in zip(items, plain, strict=True)]
        case Pairs(key=key, value=inner), dict():
            return {_key(key, text): loadable(shapes, inner, one) for text, one in plain.items()}
        case Record(members=members), dict():
            known = {member.key: member.shape for member in members}
            return {key: loadable(shapes, known[key], one) if key in known else one for key, one in plain.items()}
        case Wrapped(_, inner), _:
            return loadable(shapes, inner, plain)
    return plain


def _key(key: Shape, text: Any) -> Any:
    """What a key of an object stands for."""
    if isinstance(key, Choices):
        return next((value for value, own in zip(key.values, key.plain, strict=True) if key_text(own) == text), text)
    return text


def _parts(shape: Shape) -> list[Shape]:
    """The shape and all shapes in it, references not followed."""
    inner: tuple[Shape, ...] = ()
    match shape:
        case Either(inner) | Fixed(inner):
            pass
        case Items(item=item):
            inner = (item,)
        case Pairs(key=key, value=value):
            inner = (key, value)
        case Record(members=members):
            inner = tuple(member.shape for member in members)
        case Wrapped(_, root):
            inner = (root,)
    return [shape, *(part for one in inner for part in _parts(one))]


def _is_literal_of_members(shape: Shape) -> bool:
    if not isinstance(shape, Choices):
        return False
    members = [value for value, plain in zip(shape.values, shape.plain, strict=True) if value is not plain]
    whole = {id(member) for member in type(members[0])} if members else set()
    return bool(members) and {id(value) for value in shape.values} != whole


def _has_choices_as_keys(shape: Shape) -> bool:
    return isinstance(shape, Pairs) and isinstance(shape.key, Choices) and not all(isinstance(value, str) for value in shape.key.plain)


def _members(record: Record, value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return [(member, value[member.name]) for member in record.members if member.name in value]
    return [(member, getattr(value, member.name)) for member in record.members]


def _position(choices: Choices, value: Any) -> int | None:
    for index, own in enumerate(choices.values):
        if own is value or _same(own, value):
            return index
    return None


def _same(first: Any, second: Any) -> bool:
    """Equal and of one type: 1 is not true."""
    return type(first) is type(second) and bool(first == second)


def _sorted(items: list[Any]) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=lambda item: json.dumps(item, ensure_ascii=False))


def _finite(value: float) -> float:
    if value - value != 0:
        raise ValueError(f"{value} is not finite")
    return value + 0.0


def _duration(value: timedelta) -> str:
    """ISO 8601 without years and months, whose length depends: `-P1DT2H3M4.5S`."""
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    minutes, seconds = divmod(value.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    clock = "".join(f"{count}{unit}" for count, unit in ((hours, "H"), (minutes, "M")) if count)
    clock += f"{seconds}{fraction}S" if seconds or fraction else ""
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}T{clock}" if clock else f"{sign}P{days}" if days else "PT0S"
