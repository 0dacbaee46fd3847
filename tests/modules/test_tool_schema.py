"""Types of JSON Schemas: each has a grammar, and takes the values that its schema allows."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from homefire.modules.tool_schema import AnyJson, type_of_schema, types_of_object
from homefire.modules.type_grammar import TypeGrammar
from homefire.modules.values import value_type

RECURSIVE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "v": {"type": "integer"}}, "required": ["v"]}
CASES: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "string", "minLength": 2}, ["ab"], ["a", 1]),
    ({"type": "integer", "minimum": 1, "exclusiveMaximum": 4}, [1, 3], [0, 4, "x"]),
    ({"type": "number"}, [1.5, 2], ["x", None]),
    ({"type": ["string", "null"]}, ["a", None], [[]]),
    ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", 2]),
    ({"const": "x"}, ["x"], ["y"]),
    ({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "boolean"}}]}, [1, [True]], ["x", ["x"]]),
    ({"type": "array", "items": {"$ref": "#/$defs/Node"}, "maxItems": 1}, [[{"v": 1}]], [[{"v": 1}, {"v": 2}], [{}]]),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": "x"}]),
    ({"type": "object"}, [{"a": [1, {}]}], [[]]),
    ({"allOf": [{"type": "boolean"}]}, [True], ["x"]),
    ({}, [1, "a", None, [1, {"b": 2.5}]], []),
    ({"type": "surprise"}, [1], []),
    ({"enum": [1.5]}, [1.5], []),
]


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=lambda value: str(value)[:40])
def test_a_schema_is_a_type_with_a_grammar(schema: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    made = type_of_schema(schema, {"Node": RECURSIVE})
    TypeGrammar().value(made, "The argument")
    TypeGrammar(tight=True).longest(made, "The argument")
    for value in good:
        assert value_type(made).dump(value_type(made).load(value)) == value
    for value in bad:
        with pytest.raises(ValidationError):
            TypeAdapter(made).validate_python(value)


def test_properties_that_are_not_required_may_be_left_out() -> None:
    types = types_of_object({"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]})
    assert types["a"] is int and get_args(types["b"]) == (str,)


def test_any_json_keeps_values_as_they_are() -> None:
    for value in ("a", True, 1, 1.5, None, [1, [True]], {"a": {"b": None}}):
        loaded = value_type(AnyJson).load(value)
        assert loaded == value and type(loaded) is type(value)
