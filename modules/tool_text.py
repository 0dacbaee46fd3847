"""Tools in words: their arguments, what is wrong with a call, and results within limits.

Knows no tool, only its arguments and values.
"""

from __future__ import annotations

from typing import Any

from homefire.errors import SignatureError
from homefire.modules.example import Example
from homefire.modules.tool_arguments import Argument
from homefire.modules.type_words import in_words


def shown(argument: Argument) -> str:
    """Name, type and default of an argument, as a model reads them."""
    try:
        words = in_words(argument.type)
    except SignatureError:
        words = getattr(argument.type, "__name__", str(argument.type))
    default = f" = {argument.default!r}" if argument.has_default else " (optional)" if not argument.required else ""
    return f"{argument.name}: {words}{default}"


def problem(error: Any) -> str:
    """What pydantic says of an argument, beginning with its name."""
    place = ".".join(str(part) for part in error["loc"])
    said = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{place}: {said[:1].lower()}{said[1:]}, got {cut(repr(error['input']), 80)}"


def plain(value: Any) -> Any:
    """A result in which predictions and examples are dictionaries."""
    match value:
        case Example():
            return value.toDict()
        case list() | tuple() if any(isinstance(item, Example) for item in value):
            return [plain(item) for item in value]
    return value


def cut(text: str, most: int) -> str:
    """The text, cut off with a notice where it is longer than so many characters."""
    return text if len(text) <= most else f"{text[:most]} [cut off: {len(text)} characters in all, the first {most} are shown]"
