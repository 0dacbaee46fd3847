"""One part of an answer between its marks: its value written, read, shown while it grows, and closed where it was cut off.

Knows no signature and no format: a format makes its parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from homefire.errors import ConstraintError, ParseError
from homefire.modules.bare_text import read_line, style
from homefire.modules.free_text import FreeText
from homefire.modules.json_prefix import longest_whole, without_half_escape
from homefire.modules.loose_json import read_json
from homefire.modules.output_values import written
from homefire.modules.values import ValueType


@dataclass(frozen=True, kw_only=True)
class Part:
    """An output and the marks around it."""

    name: str
    type: ValueType
    free_text: FreeText
    pad: str
    """What is written between the value and the mark that ends it."""
    rest: str
    """What follows that mark, up to the value of the next part."""
    stop: str
    """The least behind a value that tells it from a longer one."""
    ending: re.Pattern[str]
    """Finds all of that, also with other white space."""

    @cached_property
    def end(self) -> str:
        """What is written behind the value."""
        return self.pad + self.free_text.mark + self.rest

    def write(self, value: Any) -> str:
        """The text of a value.

        Raises:
            InputError: it is none of the type.
        """
        text = str(written(self.name, self.type.bare, value))
        return self.free_text.escape(text) if self.type.free else text

    def read(self, text: str) -> Any:
        """The value of a text, also where a model wrote quotes, a fence or Python around it.

        Raises:
            ParseError: it is none of the type.
            ConstraintError: it is, but breaks a constraint.
        """
        if self.type.free:
            value = self.free_text.unescape(text)
            return value if self.type.annotation is str else self.type.from_bare(value)
        line = text.strip("\n")
        try:
            return self.type.from_bare(line)
        except ConstraintError:
            raise
        except ParseError as error:
            strict = error
        trimmed = line.strip().strip("`").strip()
        for candidate in (trimmed, trimmed.strip("\"'")):
            try:
                return self.type.from_bare(candidate)
            except ConstraintError:
                raise
            except ParseError:
                continue
        try:
            return self.type.load(read_json(trimmed))
        except ConstraintError:
            raise
        except (ParseError, ValueError):
            raise strict from None

    def has_form(self, text: str) -> bool:
        """Whether the text is a value of the type, whatever its constraints say."""
        try:
            self.read(text)
        except ConstraintError:
            return True
        except ParseError:
            return False
        return True

    def closed(self, text: str) -> str | None:
        """What there is of a value and perhaps of its end, closed and with the whole end; None when it is not enough for a value."""
        end = max((self.end, self.end.removeprefix("\n")), key=lambda end: _overlap(text, end))
        begun = _overlap(text, end)
        value = text[: len(text) - begun]
        if self.type.free:
            return text + end[begun:] if value.strip() or begun > len(self.pad) else None
        if begun and self._keeps(value):
            return text + end[begun:]
        whole = self._whole(text)
        return None if whole is None else whole + self.end

    def shown(self, text: str, *, is_whole: bool) -> str:
        """The value so far, as a user would read it; of a str it only grows."""
        if self.type.free:
            return self.free_text.unescape(text) if is_whole else self.free_text.so_far(text)
        line = text if is_whole else text[: len(text) - _overlap(text, self.end)].rstrip("\ufffd")
        if style(self.type.shapes, self.type.shapes.root) != "line":
            return line.strip()
        return read_line(line.strip("\n") if is_whole else without_half_escape(line).rstrip())

    def _keeps(self, text: str) -> bool:
        """Whether the text is a value that keeps all constraints."""
        try:
            self.type.from_bare(text)
        except ParseError:
            return False
        return True

    def _whole(self, text: str) -> str | None:
        """The longest beginning of the value that is a value itself."""
        if text and self._keeps(text):
            return text
        if not text.startswith(("[", "{", '"')):
            return None
        return longest_whole(text, lambda value: self._keeps(json.dumps(value, ensure_ascii=False)))


class Marks(Protocol):
    """The marks of a format."""

    def start(self, name: str) -> str:
        """What stands before the value of the first part."""
        ...

    def part(self, name: str, type: ValueType, following: str | None) -> Part:
        """A part and what follows it; None is the end of the answer."""
        ...

    def find(self, names: Sequence[str], text: str) -> dict[str, str]:
        """The values that can be found in a text that is not quite of the form."""
        ...


def _overlap(text: str, end: str) -> int:
    """Characters at the end of the text with which `end` may have begun."""
    return next((length for length in range(min(len(text), len(end) - 1), 0, -1) if text.endswith(end[:length])), 0)
