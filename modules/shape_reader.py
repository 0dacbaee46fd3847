"""Reads the shapes of a type from the schema that pydantic makes of its annotation.

Knows no grammar and no prompt. What a schema says of validators is skipped here: pydantic itself asks them when values are loaded.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from pydantic import PydanticUserError, TypeAdapter
from pydantic_core import SchemaError

from homefire.errors import SignatureError
from homefire.modules.portable_types import portable
from homefire.modules.shape_values import key_text
from homefire.modules.type_shape import (
    Bound,
    Choices,
    Either,
    Fixed,
    Flag,
    Items,
    Member,
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

SUPPORTED = (
    "str, int, float, bool, None, Decimal, date, datetime, time, timedelta, UUID, Literal, Enum, Optional, Union, list, tuple, set, "
    "frozenset, dict, TypedDict, dataclass, NamedTuple, pydantic models, and these with constraints"
)


class _Refused(Exception):
    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def shapes_of(annotation: Any, where: str = "The value") -> Shapes:
    """The shapes of a type.

    Raises:
        SignatureError: the type has no grammar, or its constraints contradict each other; the message begins with `where`.
    """
    try:
        return _cached(annotation, repr(annotation))
    except TypeError:
        pass
    except _Refused as refused:
        raise SignatureError(f"{where}{refused.path} {refused.problem}") from None
    try:
        return _read(annotation)
    except _Refused as refused:
        raise SignatureError(f"{where}{refused.path} {refused.problem}") from None


@lru_cache(maxsize=512)
def _cached(annotation: Any, order: str) -> Shapes:
    """`order` tells apart the unions that compare equal though their members come in another order."""
    return _read(annotation)


def _read(annotation: Any) -> Shapes:
    if annotation is None:
        return Shapes(Null(), {})
    try:
        schema: Any = TypeAdapter(portable(annotation)).core_schema
    except (PydanticUserError, SchemaError, NameError, ValueError, TypeError, NotImplementedError, RecursionError) as error:
        said = str(error).split("\n\n")[0].replace("\n", " ").split(". Set `")[0]
        raise _Refused("", f"has the type {_name(annotation)}, which cannot be used: {said}. Use one of: {SUPPORTED}.") from None
    reader = _Reader(_name(annotation), {})
    return Shapes(reader.read(schema, ""), reader.named)


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) and "[" not in repr(annotation) else str(annotation)


@dataclass
class _Reader:
    """Walks one schema of pydantic."""

    annotation: str
    named: dict[str, Shape]

    def read(self, schema: Mapping[str, Any], path: str) -> Shape:
        kind = schema["type"]
        match kind:
            case "str":
                return self._text(schema, path)
            case "int":
                return self._whole(schema, path)
            case "float" | "decimal":
                return self._number(schema, path)
            case "bool":
                return Flag()
            case "none":
                return Null()
            case "date" | "datetime" | "time" | "timedelta" | "uuid":
                limits = ("ge", "gt", "le", "lt", "now_op", "tz_constraint", "version")
                return Named(kind, tuple((name, schema[name]) for name in limits if name in schema))
            case "literal":
                return self._choices(schema["expected"], path)
            case "enum":
                return self._choices(schema["members"], path)
            case "model" | "dataclass" | "named-tuple" | "typed-dict":
                return self._record(schema, path)
            case _:
                return self._container(schema, path)

    def _container(self, schema: Mapping[str, Any], path: str) -> Shape:
        match schema["type"]:
            case "list" | "set" | "frozenset":
                return self._items(schema, path)
            case "tuple":
                return self._tuple(schema, path)
            case "dict":
                least, most = self._count(schema, path)
                key = self._key(self.read(_inner(schema, "keys_schema"), path + " (a key)"), path)
                value = self.read(_inner(schema, "values_schema"), path + " (a value)")
                return Pairs(key=key, value=value, least=least, most=most)
            case "nullable":
                return Either((*_members(self.read(schema["schema"], path)), Null()))
            case "union":
                choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
                return Either(tuple(self.read(choice, path) for choice in choices))
            case "tagged-union":
                return Either(tuple(self.read(choice, path) for choice in schema["choices"].values()))
            case "definitions":
                for definition in schema["definitions"]:
                    self.named[definition["ref"]] = self.read(definition, path)
                return self.read(schema["schema"], path)
            case "definition-ref":
                return Ref(schema["schema_ref"])
            case "function-after":
                inner = self.read(schema["schema"], path)
                self._check_applies(schema["function"]["function"], inner, path)
                return inner
            case "function-before" | "function-wrap" | "default" | "custom-error":
                return self.read(schema["schema"], path)
            case "json-or-python":
                return self.read(schema["json_schema"], path)
            case "lax-or-strict":
                return self.read(schema["lax_schema"], path)
            case "chain":
                return self.read(schema["steps"][0], path)
            case kind:
                raise self._no_grammar(kind, path)

    def _check_applies(self, function: Any, shape: Shape, path: str) -> None:
        """Refuses a constraint that pydantic could only apply to another type, such as a least value of a text."""
        if not isinstance(function, partial) or function.func.__module__ != "pydantic._internal._validators":
            return
        members = shape.members if isinstance(shape, Either) else (shape,)
        for name, value in function.keywords.items():
            fitting = (Text, Items, Fixed, Pairs) if name.endswith("length") else (Whole, Number, Named, Choices)
            if not any(isinstance(member, (*fitting, Ref)) for member in members):
                raise _Refused(path, f"has the constraint {name}={value!r}, which does not apply to such values. Leave it out.")

    def _no_grammar(self, kind: str, path: str) -> _Refused:
        return _Refused(path, f"has the type {self.annotation}, for which there is no grammar ({kind}). Use one of: {SUPPORTED}.")

    def _text(self, schema: Mapping[str, Any], path: str) -> Text:
        least, most = self._count(schema, path)
        pattern = schema.get("pattern")
        if pattern is not None and not isinstance(pattern, str):
            pattern = pattern.pattern if pattern.flags == 32 else f"(?{pattern.flags}){pattern.pattern}"
        return Text(least=least, most=most, pattern=pattern)

    def _count(self, schema: Mapping[str, Any], path: str) -> tuple[int, int | None]:
        least, most = schema.get("min_length") or 0, schema.get("max_length")
        if most is not None and (most < least or most < 0):
            raise _Refused(path, f"must be at least {least} and at most {most} long; nothing is. Mend min_length and max_length.")
        return least, most

    def _whole(self, schema: Mapping[str, Any], path: str) -> Whole:
        lows = [math.ceil(schema["ge"])] if "ge" in schema else []
        lows += [math.floor(schema["gt"]) + 1] if "gt" in schema else []
        highs = [math.floor(schema["le"])] if "le" in schema else []
        highs += [math.ceil(schema["lt"]) - 1] if "lt" in schema else []
        low, high, step = max(lows, default=None), min(highs, default=None), schema.get("multiple_of", 1)
        if low is not None and high is not None and -(-low // step) * step > high:
            multiple = f" and a multiple of {step}" if step != 1 else ""
            raise _Refused(path, f"must be a whole number from {low} to {high}{multiple}; there is none. Mend its bounds.")
        return Whole(least=low, most=high, multiple=step)

    def _number(self, schema: Mapping[str, Any], path: str) -> Number:
        lows = [Bound(_decimal(schema[name]), name == "ge") for name in ("ge", "gt") if name in schema]
        highs = [Bound(_decimal(schema[name]), name == "le") for name in ("le", "lt") if name in schema]
        low = max(lows, key=lambda bound: (bound.value, not bound.included), default=None)
        high = min(highs, key=lambda bound: (bound.value, bound.included), default=None)
        if low and high and (low.value > high.value or (low.value == high.value and not (low.included and high.included))):
            raise _Refused(path, f"must be a number between {low.value} and {high.value}; there is none. Mend its bounds.")
        step = schema.get("multiple_of")
        return Number(
            exact=schema["type"] == "decimal",
            low=low,
            high=high,
            multiple=None if step is None else _decimal(step),
            digits=schema.get("max_digits"),
            places=schema.get("decimal_places"),
        )

    def _choices(self, values: Iterable[Any], path: str) -> Choices:
        values = tuple(values)
        plain = tuple(value.value if isinstance(value, enum.Enum) else value for value in values)
        for value in plain:
            if not isinstance(value, str | int | float | bool | None) or (isinstance(value, float) and not math.isfinite(value)):
                raise _Refused(path, f"has the choice {value!r}; a choice is a text, a number, a bool or None.")
        if not values:
            raise _Refused(path, f"has the type {self.annotation}, which has no values. Give it some.")
        return Choices(values, plain)

    def _key(self, key: Shape, path: str) -> Shape:
        texts = [key_text(value) for value in key.plain] if isinstance(key, Choices) else []
        if isinstance(key, Text | Whole | Number | Named | Flag) or (texts and len(set(texts)) == len(texts)):
            return key
        wanted = "Use keys of str, int, float, Decimal, bool, date, UUID, or a Literal or Enum"
        raise _Refused(path, f"has the type {self.annotation}, whose keys are not written as text. {wanted}.")

    def _items(self, schema: Mapping[str, Any], path: str) -> Items:
        least, most = self._count(schema, path)
        item = self.read(_inner(schema, "items_schema"), path + " (an item)")
        different = len(item.values) if isinstance(item, Choices) else 2 if isinstance(item, Flag) else least
        if schema["type"] != "list" and different < least:
            raise _Refused(path, f"must have at least {least} different items, of which there are {different}. Mend min_length.")
        return Items(kind=schema["type"], item=item, least=least, most=most)

    def _tuple(self, schema: Mapping[str, Any], path: str) -> Shape:
        items, index = schema["items_schema"], schema.get("variadic_item_index")
        shapes = tuple(self.read(item, path + " (an item)") for item in items)
        if index is None:
            return Fixed(shapes)
        if len(shapes) != 1:
            raise self._no_grammar("a tuple of fixed and repeated items", path)
        least, most = self._count(schema, path)
        return Items(kind="tuple", item=shapes[0], least=least, most=most)

    def _record(self, schema: Mapping[str, Any], path: str) -> Shape:
        cls, inside = schema["cls"], schema
        while inside["type"].startswith("function-") or inside["type"] in ("model", "dataclass"):
            if schema.get("root_model") and inside is not schema:
                break
            inside = inside["schema"]
            if schema.get("root_model"):
                return Wrapped(cls, self.read(inside, path))
        fields = inside["fields"]
        pairs = fields.items() if isinstance(fields, dict) else [(field["name"], field) for field in fields]
        by_name = schema.get("config", {}).get("validate_by_alias") is False
        members = tuple(
            Member(
                key=name if by_name else self._alias(field, name, path),
                name=name,
                shape=self.read(field["schema"], f"{path}.{name}"),
                required=field.get("required", True) or schema["type"] != "typed-dict",
            )
            for name, field in pairs
            if field.get("init", True)
        )
        if hidden := [field["name"] for _, field in pairs if field.get("init_only")]:
            raise _Refused(f"{path}.{hidden[0]}", "is an InitVar, which is no part of the value. Make it a field.")
        return Record(cls=cls, members=members, is_dict=schema["type"] == "typed-dict")

    def _alias(self, field: Mapping[str, Any], name: str, path: str) -> str:
        alias = field.get("validation_alias", name)
        if isinstance(alias, str):
            return alias
        paths = alias if isinstance(alias[0], list) else [alias]
        single = [path[0] for path in paths if len(path) == 1 and isinstance(path[0], str)]
        if not single:
            raise _Refused(f"{path}.{name}", f"is read from the path {alias!r}, which cannot be written. Give it a plain alias.")
        return str(single[0])


def _inner(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = schema.get(key, {"type": "any"})
    return inner


def _members(shape: Shape) -> tuple[Shape, ...]:
    return shape.members if isinstance(shape, Either) else (shape,)


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(value))
