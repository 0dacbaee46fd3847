"""What the prompts of all formats have in common: inputs as text, the words of the system turn, the turn that asks again.

Knows no format's marks. Prompts are short on purpose: small models read them better, and every token is paid for in every call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from homefire.errors import InputError
from homefire.modules.custom_type import Rendering, Type, descriptions
from homefire.modules.history import is_history
from homefire.modules.signature import Field, Signature, make_signature
from homefire.modules.type_words import in_words


def system_text(signature: type[Signature], form: Iterable[str]) -> str:
    """Instructions, what the inputs are where they are described, and the lines that say what an answer looks like."""
    hidden = [name for name, field in signature.input_fields.items() if is_history(field.type)]
    said = {name: _explained(field) for name, field in signature.input_fields.items() if name not in hidden}
    explained = [f"- {name}: {words}" for name, words in said.items() if words]
    return encodable("\n".join([instructions_without(signature, hidden), *(["", "You get:", *explained] if explained else []), "", *form]))


def instructions_without(signature: type[Signature], names: Collection[str]) -> str:
    """The instructions of a signature some of whose fields are not shown: those made of its names are made without these."""
    if not names or signature.instructions != make_signature(list(signature.fields.values())).instructions:
        return signature.instructions
    return make_signature([field for name, field in signature.fields.items() if name not in names]).instructions


def described(field: Field) -> str:
    """The type of an output in words, and its description."""
    words = _explained(field)
    return f"{in_words(field.type)}{', ' + words if words else ''}"


def input_text(name: str, value: Any, rendering: Rendering | None = None) -> str:
    """An input as a model reads it: text as it is, what types of a user's own say, lists of those numbered, everything else as JSON.

    Args:
        name: Of the input.
        value: Its value.
        rendering: The message that it becomes a part of; without one, short texts stand for images, sounds and files.

    Raises:
        InputError: the value contains itself, or is nested too deeply.
    """
    if rendering is None:
        alone = Rendering()
        return alone.message("user", input_text(name, value, alone)).content
    match value:
        case str():
            return encodable(value)
        case Type():
            rendering.field = name
            return encodable(rendering.text_of(value))
        case list() | tuple() if all(isinstance(item, str | Type) for item in value):
            rendering.field = name
            texts = [item if isinstance(item, str) else rendering.text_of(item) for item in value]
            return encodable("\n" + "\n".join(f"[{index}] {text}" for index, text in enumerate(texts, 1))) if texts else "(none)"
        case _:
            rendering.field = name
            return encodable(_json(name, value, rendering))


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


def _explained(field: Field) -> str:
    """What is said of a field, and of the types in it."""
    return ", ".join(filter(None, (field.description, descriptions(field.type))))


def _json(name: str, value: Any, rendering: Rendering) -> str:
    try:
        return rendering.json_of(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The input {name!r} cannot be put into a prompt: {error}. Give text, or values that JSON has.") from None
