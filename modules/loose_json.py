"""Reads JSON as models without a grammar write it: in fences, with words around it, with Python's quotes, literals and trailing commas.

Knows no types. A text that is JSON is read as JSON; only another is mended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

_ATTEMPTS = 16
"""Opening brackets that are tried as the beginning of the value."""
_SKIP = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?=\s*(?:[,}\]\"'#/]|\Z))")
_WORD = re.compile(r"[^,:{}\[\]\n]+")
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None, "none": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
"""Opening quotes with what closes them; the last two are the curved ones of typesetting."""
_UNICODE = re.compile(r"u[0-9a-fA-F]{4}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?")
_ENDS = re.compile(r"\s*(?:[,:}\]]|\Z)")


def read_json(text: str) -> Any:
    """The value of a JSON text, or of the first text in it that can be mended to an object or a list.

    Raises:
        ValueError: there is none.
    """
    try:
        return json.loads(text, strict=False)
    except RecursionError:
        raise ValueError("the text is nested too deeply") from None
    except ValueError as error:
        strict = error
    starts = [match.start() for match in re.finditer(r"[{\[]", text)][:_ATTEMPTS]
    for start in starts:
        try:
            return _Reader(text, start).value()
        except (ValueError, RecursionError):
            continue
    raise strict


class _Reader:
    """Recursive descent that forgives; `at` is where it stands."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at

    def value(self) -> Any:
        match self._peek():
            case "{":
                return dict(self._items("}", self._pair))
            case "[":
                return self._items("]", self.value)
            case char if char in _QUOTES:
                return self._string(_QUOTES[char])
            case _:
                return self._bare()

    def _peek(self) -> str:
        """The next character that is no white space and no comment; empty at the end."""
        found = _SKIP.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def _items(self, end: str, read: Callable[[], Any]) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while (char := self._peek()) != end:
            if not char:
                raise ValueError(f"{end} is missing")
            if char == ",":
                self.at += 1
                continue
            before = self.at
            items.append(read())
            if self.at == before:
                raise ValueError(f"nothing can be read at character {before}")
        self.at += 1
        return items

    def _pair(self) -> tuple[str, Any]:
        key = self.value()
        if self._peek() != ":":
            raise ValueError(f"a key without a value at character {self.at}")
        self.at += 1
        return key if isinstance(key, str) else json.dumps(key), self.value()

    def _string(self, end: str) -> str:
        """A string; a quote that nothing like `,` or `}` follows is a part of it."""
        self.at += 1
        parts: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == end and _ENDS.match(self.text, self.at):
                return "".join(parts)
            parts.append(self._escape() if char == "\\" else char)
        raise ValueError("a string without an end")

    def _escape(self) -> str:
        """What stands behind a backslash; pairs of escaped surrogates are one character."""
        found = _UNICODE.match(self.text, self.at)
        if found:
            self.at = found.end()
            return str(json.loads(f'"\\{found.group()}"'))
        char = self.text[self.at : self.at + 1]
        self.at += 1
        return _ESCAPES.get(char, char)

    def _bare(self) -> Any:
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            written = number.group()
            return float(written) if re.search(r"[.eE]", written) else int(written)
        word = _WORD.match(self.text, self.at)
        if word is None:
            raise ValueError(f"no value at character {self.at}")
        self.at = word.end()
        said = word.group().strip()
        return _WORDS.get(said.lower(), said)
