"""The JSON Schema of an answer, for servers that enforce schemas and no grammars.

Knows no format's marks; the schema describes the same objects as the grammar of the JSON format, as nearly as schemas can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from homefire.modules.portable_types import portable

_INNER = ("items", "additionalProperties", "not", "propertyNames", "contains")
_INNER_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_INNER_MAPS = ("properties", "$defs", "patternProperties")
_NOISE = ("title", "default", "description", "examples")


def object_schema(types: Mapping[str, Any]) -> str | None:
    """The schema of an object with a value of each type, as compact JSON; None where pydantic knows no schema.

    All keys are required, in this order, and no others are allowed, in objects within it too; types that contain themselves are in `$defs`.
    """
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [(name, "serialization", TypeAdapter(portable(one))) for name, one in types.items()]
    try:
        schemas, definitions = TypeAdapter.json_schemas(adapters)
    except PydanticInvalidForJsonSchema:
        return None
    whole: dict[str, Any] = {
        "type": "object",
        "properties": {name: schemas[name, "serialization"] for name in types},
        "required": list(types),
        "additionalProperties": False,
    }
    return json.dumps(_strict({**whole, **definitions}), ensure_ascii=False, separators=(",", ":"))


def _strict(schema: Any) -> Any:
    """A schema whose objects allow no unnamed keys, without words that only people read."""
    if not isinstance(schema, dict):
        return schema
    kept = {key: _inside(key, value) for key, value in schema.items() if key not in _NOISE}
    if "$ref" in kept.get("propertyNames", {}):  # an enumeration, maybe of numbers, which names are not; the parser knows better
        del kept["propertyNames"]
    return {**kept, "additionalProperties": kept.get("additionalProperties", False)} if "properties" in kept else kept


def _inside(key: str, value: Any) -> Any:
    if key in _INNER:
        return _strict(value)
    if key in _INNER_LISTS:
        return [_strict(one) for one in value]
    if key in _INNER_MAPS:
        return {name: _strict(one) for name, one in value.items()}
    return value
