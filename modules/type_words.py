"""Types in the words of a prompt: what a model is told that a value must be.

Knows no format; grammars enforce what these words ask for.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel


def in_words(annotation: Any) -> str:
    """A type in words: `one of "a", "b"`, `list of whole number`."""
    named = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    if annotation in named:
        return named[annotation]
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(json.dumps(value, ensure_ascii=False) for value in get_args(annotation))}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {', '.join(json.dumps(member.value, ensure_ascii=False) for member in annotation)}"
    if get_origin(annotation) is list:
        return f"list of {in_words(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"object with values {in_words(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _modelin_words(annotation)
    return " or ".join(in_words(member) for member in get_args(annotation))


def _modelin_words(model: type[BaseModel]) -> str:
    fields = (
        f"{json.dumps(info.alias or name)}: {'the same again' if _mentions(info.annotation, model) else in_words(info.annotation)}"
        for name, info in model.model_fields.items()
    )
    return "{" + ", ".join(fields) + "}"


def _mentions(annotation: Any, model: type) -> bool:
    return annotation is model or any(_mentions(argument, model) for argument in get_args(annotation))
