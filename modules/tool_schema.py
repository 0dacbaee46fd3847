"""Types of JSON Schemas, for tools that are described by schemas: those of MCP servers and of other libraries.

Knows no tool. A schema that no type can say, such as one that contains itself, is of any JSON value; whoever owns it checks the rest.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired, Union

import typing_extensions
from pydantic import Field

AnyJson: Any = typing_extensions.TypeAliasType(
    "AnyJson",
    Union[str, bool, int, float, "list[AnyJson]", "dict[str, AnyJson]", None],
)
"""Any value that JSON has. Pydantic's own `JsonValue` has no grammar."""
_CONSTRAINTS: dict[str, dict[str, str]] = {
    "string": {"minLength": "min_length", "maxLength": "max_length"},
    "integer": {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"},
    "number": {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of"},
    "array": {"minItems": "min_length", "maxItems": "max_length"},
}
_PLAIN: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}
_MOST_DEPTH = 12


def type_of_schema(schema: Any, definitions: Mapping[str, Any] | None = None) -> Any:
    """The type whose JSON values a schema allows, or more than those where no type says it exactly.

    >>> type_of_schema({"type": "array", "items": {"enum": ["a", "b"]}})
    list[typing.Literal['a', 'b']]

    Args:
        schema: A JSON Schema.
        definitions: What `#/$defs/...` and `#/definitions/...` in it mean.
    """
    return _type(schema, dict(definitions or {}), ())


def types_of_object(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The types of an object's properties, by name; those that may be left out are `NotRequired[...]`."""
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    required = schema.get("required", ())
    found = {name: type_of_schema(one, definitions) for name, one in schema.get("properties", {}).items()}
    return {name: one if name in required else NotRequired[one] for name, one in found.items()}


def _type(schema: Any, definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    if not isinstance(schema, Mapping) or len(inside) > _MOST_DEPTH:
        return AnyJson
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rsplit("/", 1)[-1]
        if name in inside or name not in definitions:
            return AnyJson
        return _type(definitions[name], definitions, (*inside, name))
    if "const" in schema:
        return _choices([schema["const"]])
    if isinstance(schema.get("enum"), Sequence):
        return _choices(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), Sequence) and schema[word]:
            return _union([_type(one, definitions, inside) for one in schema[word]])
    if isinstance(schema.get("allOf"), Sequence) and len(schema["allOf"]) == 1:
        return _type(schema["allOf"][0], definitions, inside)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union([_type({**schema, "type": one}, definitions, inside) for one in kind]) if kind else AnyJson
    return _of_kind(kind, schema, definitions, inside)


def _of_kind(kind: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    match kind:
        case "array":
            item: Any = _type(schema.get("items"), definitions, (*inside, "[]"))
            return _limited(types.GenericAlias(list, (item,)), "array", schema)
        case "object":
            return _object(schema, definitions, inside)
        case str() if kind in _PLAIN:
            return _limited(_PLAIN[kind], kind, schema)
    return _object(schema, definitions, inside) if "properties" in schema else AnyJson


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], inside: tuple[str, ...]) -> Any:
    properties = schema.get("properties") or {}
    if not properties:
        value = schema.get("additionalProperties")
        return types.GenericAlias(dict, (str, _type(value, definitions, (*inside, "{}"))))
    required = schema.get("required") or ()
    found = {name: _type(one, definitions, (*inside, f".{name}")) for name, one in properties.items()}
    name = re.sub(r"\W", "_", str(schema.get("title") or "Object"))
    return typed_dict(name, {key: one if key in required else NotRequired[one] for key, one in found.items()})


def typed_dict(name: str, fields: Mapping[str, Any]) -> Any:
    """A TypedDict of these fields."""
    make: Any = typing_extensions.TypedDict
    return make(name, dict(fields))


def _choices(values: Sequence[Any]) -> Any:
    writable = all(isinstance(value, str | int | bool | None) for value in values)
    return Literal[tuple(values)] if values and writable else AnyJson


def _union(types: Sequence[Any]) -> Any:
    return Union[tuple(types)]  # noqa: UP007


def _limited(plain: Any, kind: str, schema: Mapping[str, Any]) -> Any:
    """The type with the constraints that are numbers; a pattern stays the owner's to check, for its dialect is another."""
    limits = {
        own: schema[name]
        for name, own in _CONSTRAINTS.get(kind, {}).items()
        if isinstance(schema.get(name), int | float) and not isinstance(schema[name], bool)
    }
    return Annotated[plain, Field(**limits)] if limits else plain
