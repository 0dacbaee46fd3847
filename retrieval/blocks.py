"""Blocks: the paragraphs, headings, list items, table rows and fenced code of a text, and how good a place each begins is for a cut.

Knows no tokens and no passages. One pass reads Markdown, underlined headings as in reStructuredText, and plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SPLIT, FENCED, GLUED, INSIDE, WORD, LINE, SENTENCE, ITEM, PARAGRAPH, HEADING, GAP = range(-2, 9)
"""How good it is to cut before a place, from worst to best: within a character, in code that should stay whole, between a heading and what
it heads, within a word, before a word, a line, a sentence, a list item, a paragraph, a heading, and after a gap of nothing."""

_BLANK = re.compile(r"(?:[^\S\n]*\n)*+")
_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})")
_NUMBERED = re.compile(r" {0,3}(?P<mark>#{1,6})[ \t]+(?P<title>\S[^\n]{0,199})(?:\n|\Z)")
_RULER = r"[=\-~^\"'`#*+.:_]"
_UNDERLINED = re.compile(
    rf"(?:(?P<over>{_RULER})(?P=over){{2,250}}[ \t]*\n)?[ \t]*(?P<title>(?!{_RULER}{{3}})\S[^\n]{{0,199}})\n"
    rf"(?P<under>(?P<mark>{_RULER})(?P=mark){{2,250}})[ \t]*(?:\n|\Z)"
)
_ROW = re.compile(r"[ \t]*\|(?P<rule>[-:| \t]*(?=\n|\Z))?")
_BREAK = re.compile(r"\n(?=[^\S\n]*\n| {0,3}(?:```|~~~|#{1,6}[ \t])|[ \t]*\||[ \t]*(?:[-*+\u2022]|\d{1,3}[.)])[ \t]+\S)")
_SHOWN = 100
"""Characters of a heading that are kept in the path of headings."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a text, with the blank lines before it."""

    start: int
    end: int
    level: int
    """How good a cut before it is."""
    most: int
    """The best that a cut within it can be: `FENCED` or `GLUED` in what should stay whole, otherwise `GAP`."""
    heading: str
    """The headings it stands under, the outermost first, joined by ` > `; a heading stands under itself."""


def blocks(text: str, longest: int) -> Iterator[Block]:
    """The blocks of a text in order, which together are the text; none has more than `longest` characters and the blank lines before."""
    reader = _Reader(text, longest)
    place, level, after_heading = 0, PARAGRAPH, True
    while place < len(text):
        start = place
        if level >= LINE:
            start = _BLANK.match(text, place).end()  # type: ignore[union-attr]
            level = PARAGRAPH if start > place else level
        end, kind, following = reader.block(start, level < ITEM, alone=after_heading or level == PARAGRAPH)
        if kind == HEADING:
            level = HEADING
        elif kind == GLUED:
            level = GLUED
        if after_heading and place:
            level = min(level, GLUED)
        yield Block(place, end, level, {HEADING: GLUED, FENCED: FENCED}.get(kind, GAP), reader.path)
        place, level, after_heading = end, following, kind == HEADING


class _Reader:
    """Finds where the block that begins at a place ends, and keeps the headings above it."""

    def __init__(self, text: str, longest: int) -> None:
        self.text = text
        self.longest = longest
        self.path = ""
        self._headings: list[tuple[int, str]] = []
        self._underlines: list[str | None] = []
        self._fence_end = 0
        """Of fenced code that is too long to stay whole."""

    def block(self, start: int, goes_on: bool, alone: bool) -> tuple[int, int, int]:
        """End of the block, what it is (`HEADING`, `FENCED`, `GLUED` for the rule of a table, or `GAP`), and the level of the next.

        Args:
            start: Where its first line begins.
            goes_on: Whether the block is the next piece of one that is too long.
            alone: Whether no text stands in the line before, so that an underlined heading may begin.
        """
        if goes_on or start < self._fence_end:
            return self._piece(start)
        if fence := _FENCE.match(self.text, start):
            return self._fence(start, fence["mark"])
        if (found := _NUMBERED.match(self.text, start)) or (alone and (found := self._underlined(start))):
            self._head(found)
            return found.end(), HEADING, PARAGRAPH
        if row := _ROW.match(self.text, start):
            line = self.text.find("\n", start, start + self.longest) + 1
            if line:
                return line, GAP if row["rule"] is None else GLUED, ITEM
        return self._piece(start)

    def _piece(self, start: int) -> tuple[int, int, int]:
        """A paragraph up to where something else begins; a part of it where it is too long."""
        limit = min(start + self.longest, len(self.text))
        if found := _BREAK.search(self.text, start, limit):
            return found.end(), GAP, ITEM
        if limit == len(self.text):
            return limit, GAP, ITEM
        half = start + self.longest // 2
        for blank, level in (("\n", LINE), (" ", WORD), ("\t", WORD)):
            if (place := self.text.rfind(blank, half, limit)) >= 0:
                return place + 1, GAP, level
        return limit, GAP, INSIDE

    def _fence(self, start: int, mark: str) -> tuple[int, int, int]:
        """Fenced code; without a closing fence it goes on to the end, as CommonMark says."""
        closed = re.compile(rf"\n {{0,3}}{mark}{mark[0]}*[ \t]*(?:\n|\Z)").search(self.text, start)
        end = closed.end() if closed else len(self.text)
        if end - start <= self.longest:
            return end, FENCED, ITEM
        self._fence_end = end
        return self._piece(start)

    def _underlined(self, start: int) -> re.Match[str] | None:
        """A heading of one line with a line of marks below, in reStructuredText as long as the heading, and maybe one above."""
        found = _UNDERLINED.match(self.text, start)
        if not found or found["over"] not in (None, found["mark"]):
            return None
        return found if found["mark"] in "=-" or len(found["under"]) >= len(found["title"].rstrip()) else None

    def _head(self, found: re.Match[str]) -> None:
        """Takes a heading into the path; underlines have their levels in the order in which they first occur."""
        groups = found.groupdict()
        if "under" in groups:
            style = groups["mark"] + (groups["over"] or "")
            if style not in self._underlines:
                self._underlines.append(style)
            level = self._underlines.index(style) + 1
        else:
            level = len(groups["mark"])
        title = re.sub(r"[ \t]+#+$", "", groups["title"].rstrip())[:_SHOWN]
        self._headings = [*((outer, name) for outer, name in self._headings if outer < level), (level, title)]
        self.path = " > ".join(name for _, name in self._headings)
