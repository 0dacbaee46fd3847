"""Answers as one XML element for each output: `<name>value</name>`.

Knows no engine. Text is raw, without entities; lists and objects stand in their element as JSON, which has a grammar of bounded depth in
every type and which models write more reliably than nested elements.
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

_ESCAPED = r"<\\"
_MARK_LENGTH = 5
"""Characters of a closing tag that tell it from text; a decoder prepares each of them for every token, so they are few."""


class XmlFormat(MarkedFormat):
    """One element for each output."""

    def start(self, name: str) -> str:
        return f"<{name}>"

    def part(self, name: str, type: ValueType, following: str | None) -> Part:
        tag = f"</{name}>"
        text = FreeText(tag[:_MARK_LENGTH], own_line=False)
        rest = tag[_MARK_LENGTH:] + (f"\n<{following}>" if following else "")
        after = rf"[ \t]*\n\s*<{re.escape(following)}>" if following else r"\s*\Z"
        return Part(name=name, type=type, free_text=text, pad="", rest=rest, stop="</", ending=re.compile(re.escape(tag) + after))

    def find(self, names: Sequence[str], text: str) -> dict[str, str]:
        found = {name: re.search(rf"<{re.escape(name)}(?:\s[^>]*)?>(.*?)</{re.escape(name)}\s*>", text, re.DOTALL) for name in names}
        return {name: match[1] for name, match in found.items() if match}

    def form(self, outputs: Mapping[str, Field]) -> list[str]:
        lines = [f"- {name}: {described(field)}" for name, field in outputs.items()]
        return ["Answer with these XML elements, one after the other:", *lines]

    def user(self, names: Sequence[str], texts: Mapping[str, str]) -> str:
        tag = re.compile(rf"<(?=\\*/?(?:{'|'.join(map(re.escape, names))})\b)")
        return "\n".join(f"<{name}>{tag.sub(_ESCAPED, text)}</{name}>" for name, text in texts.items())


XMLAdapter = XmlFormat
"""The name that DSPy's users know."""
