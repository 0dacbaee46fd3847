"""Reads JSON that was cut off: what is whole of it.

Knows no types and no signatures; the caller says which values are acceptable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_DECODER = json.JSONDecoder(strict=False)
_HEX = "[0-9a-fA-F]"
_PAIR = rf"[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"
_WHOLE_CHARACTERS = re.compile(rf"(?:[^\\]|\\[^u]|\\u(?:{_PAIR}|(?![dD][89abAB]){_HEX}{{4}}))*+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """An object that was cut off."""

    done: tuple[tuple[str, str], ...]
    """Name and JSON text of every field that is complete."""
    open_field: str | None = None
    """The field in whose value the text ends."""
    open_text: str = ""
    """What there is of that value."""


def read_prefix(text: str, names: Sequence[str]) -> Prefix:
    """Splits the beginning of `{"a": ..., "b": ...}` into its complete fields and the one that is not.

    Args:
        text: Any beginning of an object whose keys are `names`, in that order, perhaps with words before it.
        names: Keys in order.
    """
    done: list[tuple[str, str]] = []
    position = text.find("{") + 1
    for index, name in enumerate(names if position else ()):
        key = re.compile(rf"\s*{',' if index else ''}\s*{re.escape(json.dumps(name, ensure_ascii=False))}\s*:\s*").match(text, position)
        if key is None:
            break
        position = key.end()
        try:
            _, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = len(text)
        if end == len(text):
            return Prefix(done=tuple(done), open_field=name, open_text=text[position:])
        done.append((name, text[position:end]))
        position = end
    return Prefix(done=tuple(done))


def shown(text: str) -> str:
    """The beginning of a JSON value as a person reads it: strings without quotes and escapes, the rest as it is."""
    if not text.startswith('"'):
        return text.strip()
    try:
        value, _ = _DECODER.raw_decode(text)
    except ValueError:
        try:
            value = json.loads(f'{without_half_escape(text)}"', strict=False)
        except ValueError:
            return text[1:]
    return str(value)


def longest_whole(text: str, accept: Callable[[Any], bool]) -> str | None:
    """The longest beginning of a cut-off JSON value that, once closed, is acceptable; None when there is none.

    A text is closed where it ends; lists and objects after their last complete item.
    """
    for cut in _cuts(text):
        closed = text[: cut.end] + cut.closing
        try:
            value = json.loads(closed, strict=False)
        except (ValueError, RecursionError):
            continue
        if accept(value):
            return closed
    return None


def without_half_escape(text: str) -> str:
    """The beginning of the inside of a JSON string, or of JSON, that ends with a whole character; halves of a pair are none."""
    found = _WHOLE_CHARACTERS.match(text)
    assert found is not None, "it matches the empty text too"
    return found.group()


@dataclass(frozen=True, slots=True)
class _Cut:
    end: int
    closing: str


def _cuts(text: str) -> list[_Cut]:
    """Places where the text can be closed, the latest first."""
    cuts: list[_Cut] = []
    stack: list[str] = []
    in_string = escaped = False
    for index, char in enumerate(text):
        if in_string:
            if not escaped and char == '"':
                in_string = False
                cuts.append(_Cut(index + 1, "".join(reversed(stack))))
            escaped = not escaped and char == "\\"
            continue
        if char == '"':
            in_string = True
        elif char in "[{":
            stack.append("]" if char == "[" else "}")
            cuts.append(_Cut(index + 1, "".join(reversed(stack))))
        elif char in "]}":
            stack.pop()
            cuts.append(_Cut(index + 1, "".join(reversed(stack))))
        elif char in ",":
            cuts.append(_Cut(index, "".join(reversed(stack))))
    if in_string:
        cuts.append(_Cut(len(without_half_escape(text)), '"' + "".join(reversed(stack))))
    elif text:
        cuts.append(_Cut(len(text), "".join(reversed(stack))))
    return cuts[::-1]
