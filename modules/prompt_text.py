"""What the prompts of all formats have in common: inputs as text, the words of the system turn, the turn that asks again.

Knows no format's marks. Prompts are short on purpose: small models read them better, and every token is paid for in every call.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic_core import to_jsonable_python

from homefire.errors import InputError
from homefire.modules.signature import Field
from homefire.modules.type_words import in_words


def system_text(instructions: str, inputs: Mapping[str, Field], form: Iterable[str]) -> str:
    """Instructions, what the inputs are where they are described, and the lines that say what an answer looks like."""
    explained = [f"- {field.name}: {field.description}" for field in inputs.values() if field.description]
    return encodable("\n".join([instructions, *(["", "You get:", *explained] if explained else []), "", *form]))


def described(field: Field) -> str:
    """The type of an output in words, and its description."""
    return f"{in_words(field.type)}{', ' + field.description if field.description else ''}"


def input_text(name: str, value: Any) -> str:
    """An input as a model reads it: text as it is, lists of texts numbered, everything else as JSON.

    Raises:
        InputError: the value contains itself, or is nested too deeply.
    """
    match value:
        case str():
            return encodable(value)
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return encodable("\n" + "\n".join(f"[{index}] {item}" for index, item in enumerate(value, 1))) if value else "(none)"
        case _:
            return encodable(json.dumps(_jsonable(name, value), ensure_ascii=False))


def correction_text(problems: Sequence[str]) -> str:
    """What tells a model why its answer is asked for again."""
    lines = ["That answer cannot be used:", *(f"- {problem}" for problem in problems), "", "Answer again, in the same form."]
    return encodable("\n".join(lines))


def encodable(text: str) -> str:
    """The text, with halves of characters, which no tokenizer takes, joined or replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _jsonable(name: str, value: Any) -> Any:
    try:
        return to_jsonable_python(value, by_alias=True, bytes_mode="base64", inf_nan_mode="constants", fallback=str)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The input {name!r} cannot be put into a prompt: {error}. Give text, or values that JSON has.") from None
