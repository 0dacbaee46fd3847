"""Answers as parts under markers that stand on lines of their own: `[[ ## name ## ]]`, and `[[ ## completed ## ]]` at the end.

Knows no engine. Text fields are raw text, so a model reasons in them as it would in a chat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from homefire.modules.free_text import FreeText
from homefire.modules.marked_format import MarkedFormat
from homefire.modules.marks import Part
from homefire.modules.prompt_text import described
from homefire.modules.signature import Field
from homefire.modules.values import ValueType

_TEXT = FreeText("[[ ##", own_line=True)
_MARKER = re.compile(r"^(?=\\*\[\[ ##)", re.MULTILINE)
_LAST = "completed"


class ChatFormat(MarkedFormat):
    """Parts under markers."""

    def start(self, name: str) -> str:
        return f"[[ ## {name} ## ]]\n"

    def part(self, name: str, type: ValueType, following: str | None) -> Part:
        rest = f" {following} ## ]]\n" if following else f" {_LAST} ## ]]"
        after = r"[ \t]*\n" if following else r"\s*\Z"
        ending = re.compile(rf"\n\[\[ ## {re.escape(following or _LAST)} ## \]\]{after}")
        return Part(name=name, type=type, free_text=_TEXT, pad="\n\n", rest=rest, stop="\n\n", ending=ending)

    def find(self, names: Sequence[str], text: str) -> dict[str, str]:
        known = "|".join(map(re.escape, (*names, _LAST)))
        pieces = re.split(rf"^[ \t>*]*\[\[\s*##\s*({known})\s*##\s*\]\]", text, flags=re.MULTILINE)
        found: dict[str, str] = {}
        for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
            found.setdefault(name, body)
        return found

    def form(self, outputs: Mapping[str, Field]) -> list[str]:
        lines = [f"- [[ ## {name} ## ]] {described(field)}" for name, field in outputs.items()]
        return ["Answer in these parts, each under its marker:", *lines, f"- [[ ## {_LAST} ## ]]"]

    def user(self, names: Sequence[str], texts: Mapping[str, str]) -> str:
        return "\n\n".join(self.start(name) + _MARKER.sub(r"\\", text) for name, text in texts.items())


ChatAdapter = ChatFormat
"""The name that DSPy's users know."""
