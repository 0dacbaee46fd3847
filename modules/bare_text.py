"""How a value is written where no JSON is around it: as text, as one line, raw, or as JSON after all.

Knows no values' types beyond their shapes; a format says where a bare text begins and ends.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from homefire.modules.type_shape import Choices, Either, Flag, Named, Null, Number, Shape, Shapes, Text, Whole

Style = Literal["text", "line", "raw", "json"]
LINE_EXCLUDES = r"\\\x00-\x1f\x7f-\x9f<\u2028\u2029"
"""Characters that are escaped in a line, as the inside of a character class."""
_ESCAPED = re.compile(rf"[{LINE_EXCLUDES}]|^\s|\s$")
_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})')
_SHORT = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f"}
_LONG = {"\\": "\\", "/": "/", '"': '"', "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_RAW_CHOICE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f<]([^\x00-\x1f\x7f-\x9f\u2028\u2029<]*[^\s\x00-\x1f\x7f-\x9f<])?")


def style(shapes: Shapes, shape: Shape) -> Style:
    """The way in which values of a shape are written."""
    match shapes.of(shape):
        case Text() as text:
            return "text" if text.free else "line"
        case Whole() | Number() | Flag() | Null() | Named() | Choices():
            return "raw"
        case Either(members):
            others = [one for member in members if not isinstance(one := shapes.of(member), Null)]
            if len(others) == 1 and len(members) == 2 and isinstance(others[0], Whole | Number | Flag | Named | Choices):
                return "raw"
    return "json"


def choice_texts(choices: Choices, *, optional: bool = False) -> tuple[str, ...]:
    """The bare text of each choice: raw where that can be told from the others, else JSON.

    Args:
        choices: The choices.
        optional: `null` stands for None beside them.
    """
    raw = tuple(plain if isinstance(plain, str) else json.dumps(plain) for plain in choices.plain)
    readable = all(_RAW_CHOICE.fullmatch(text) for text in raw) and not (optional and "null" in raw)
    return raw if readable and len(set(raw)) == len(raw) else tuple(json.dumps(plain, ensure_ascii=False) for plain in choices.plain)


def write_line(text: str) -> str:
    """A text on one line: as in a JSON string without its quotes, but with `"` as it is."""
    return _ESCAPED.sub(lambda match: _SHORT.get(match.group()) or f"\\u{ord(match.group()):04x}", text)


def read_line(line: str) -> str:
    """The text of a line; a backslash that begins no escape is one."""
    return _ESCAPE.sub(_unescaped, line).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: re.Match[str]) -> str:
    body: Any = match.group(1)
    return chr(int(body[1:], 16)) if body[0] == "u" else _LONG[body]
