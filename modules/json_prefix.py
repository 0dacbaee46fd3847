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
_DANGLING = re.compile(r"\\(u[0-9a-fA-F]{0,3})?$")


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
        text: Any prefix of an object whose keys are `names`, in that order.
        names: Keys in order.
    """
    done: list[tuple[str, str]] = []
    position = 1
    for index, name in enumerate(names):
        key = f"{', ' if index else ''}{json.dumps(name, ensure_ascii=False)}: "
        if not text.startswith(key, position):
            return Prefix(done=tuple(done))
        position += len(key)
        try:
            _, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError:
            return Prefix(done=tuple(done), open_field=name, open_text=text[position:])
        if end == len(text):
            return Prefix(done=tuple(done), open_field=name, open_text=text[position:])
        done.append((name, text[position:end]))
        position = end
    return Prefix(done=tuple(done))


def longest_whole(text: str, accept: Callable[[Any], bool]) -> str | None:
    """The longest beginning of a cut-off JSON value that, once closed, is acceptable; None when there is none.

    A text is closed where it ends; lists and objects after their last complete item.
    """
    for cut in _cuts(text):
        closed = text[: cut.end] + cut.closing
        try:
            value = json.loads(closed, strict=False)
        except json.JSONDecodeError:
            continue
        if accept(value):
            return closed
    return None


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
        cuts.append(_Cut(len(text) - len(_dangling(text)), '"' + "".join(reversed(stack))))
    elif text:
        cuts.append(_Cut(len(text), "".join(reversed(stack))))
    return cuts[::-1]


def _dangling(text: str) -> str:
    """The end of the text that is half an escape; an even number of backslashes is no escape."""
    match = _DANGLING.search(text)
    if match is None:
        return ""
    before = text[: match.start()]
    backslashes = len(before) - len(before.rstrip("\\"))
    return match.group() if backslashes % 2 == 0 else ""
