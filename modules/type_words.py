"""Types in the words of a prompt: what a model is told that a value must be.

Knows no format; grammars enforce what these words ask for.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from homefire.modules.code import Code
from homefire.modules.shape_reader import shapes_of
from homefire.modules.type_shape import (
    Bound,
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
    Ref,
    Shape,
    Shapes,
    Text,
    Whole,
    Wrapped,
)

_NAMED = {
    "date": "date (YYYY-MM-DD)",
    "datetime": "date and time (YYYY-MM-DDTHH:MM:SS)",
    "time": "time (HH:MM:SS)",
    "timedelta": "duration (ISO 8601, as P1DT2H30M)",
    "uuid": "UUID",
}
_LIMITS = {
    "ge": "not before {}",
    "gt": "after {}",
    "le": "not after {}",
    "lt": "before {}",
    "now_op": "in the {}",
    "version": "of version {}",
}


def in_words(annotation: Any) -> str:
    """A type in words: `one of "a", "b"`, `list of whole number from 1 to 5`.

    Raises:
        SignatureError: the type has no grammar.
    """
    if isinstance(annotation, type) and issubclass(annotation, Code):
        return f"{annotation.language or 'source'} code"
    shapes = shapes_of(annotation)
    return _words(shapes, shapes.root, ())


def _words(shapes: Shapes, shape: Shape, inside: tuple[str, ...]) -> str:
    match shape:
        case Ref(name):
            return "the same again" if name in inside else _words(shapes, shapes.named[name], (*inside, name))
        case Text() | Whole() | Number() | Named() | Flag() | Null():
            return _scalar(shape)
        case Choices(plain=plain):
            return f"one of {', '.join(json.dumps(value, ensure_ascii=False) for value in plain)}"
        case Either(members):
            return " or ".join(_words(shapes, member, inside) for member in members)
        case Items(kind=kind, item=item, least=least, most=most):
            count = f"{_range(least, most)} " if _range(least, most) else ""
            return f"list of {count}{'different ' if 'set' in kind else ''}{_words(shapes, item, inside)}"
        case Fixed(items):
            return f"list [{', '.join(_words(shapes, item, inside) for item in items)}]"
        case Pairs() as pairs:
            return _pairs(shapes, pairs, inside)
        case Record(members=members):
            fields = (
                f"{json.dumps(member.key, ensure_ascii=False)}{'' if member.required else ' (optional)'}: "
                f"{_words(shapes, member.shape, inside)}"
                for member in members
            )
            return "{" + ", ".join(fields) + "}"
        case Wrapped(_, inner):
            return _words(shapes, inner, inside)


def _pairs(shapes: Shapes, pairs: Pairs, inside: tuple[str, ...]) -> str:
    keys = "" if pairs.key == Text() else f"keys {_words(shapes, pairs.key, inside)} and "
    count = _range(pairs.least, pairs.most)
    return f"object with {count + ' entries, ' if count else ''}{keys}values {_words(shapes, pairs.value, inside)}"


def _scalar(shape: Text | Whole | Number | Named | Flag | Null) -> str:
    match shape:
        case Text(least=least, most=most, pattern=pattern):
            length = f" of {_range(least, most)} character{'s' if (most or least) != 1 else ''}" if _range(least, most) else ""
            return f"text{length}{f' that matches {pattern}' if pattern else ''}"
        case Whole(least=low, most=high, multiple=step):
            bounds = _between(
                None if low is None else Bound(Decimal(low), included=True), None if high is None else Bound(Decimal(high), included=True)
            )
            return f"whole number{bounds}{f' that is a multiple of {step}' if step != 1 else ''}"
        case Number() as number:
            return _number(number)
        case Named(kind, limits):
            said = "".join(f" {_LIMITS[name].format(value)}" for name, value in limits if name in _LIMITS)
            zone = {"aware": " with a time zone", "naive": " without a time zone"}.get(str(dict(limits).get("tz_constraint")), "")
            return _NAMED[kind] + zone + said
        case Flag():
            return "true or false"
        case Null():
            return "null"


def _number(number: Number) -> str:
    parts = [f"{'decimal ' if number.exact else ''}number{_between(number.low, number.high)}"]
    parts += [f"that is a multiple of {number.multiple}"] if number.multiple is not None else []
    limits = [f"at most {number.digits} digits"] if number.digits is not None else []
    limits += [f"at most {number.places} decimal places"] if number.places is not None else []
    return " ".join(parts) + (f" with {' and '.join(limits)}" if limits else "")


def _between(low: Bound | None, high: Bound | None) -> str:
    """The range in words, with a space before it."""
    if low and high and low.included and high.included:
        return f" from {low.value} to {high.value}" if low.value != high.value else f" {low.value}"
    parts = [f"{'of at least' if low.included else 'greater than'} {low.value}"] if low else []
    parts += [f"{'of at most' if high.included else 'less than'} {high.value}"] if high else []
    return f" {' and '.join(parts)}" if parts else ""


def _range(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}" if least else ""
    return f"at most {most}" if not least else str(most) if least == most else f"{least} to {most}"
