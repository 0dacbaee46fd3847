"""Excerpts: the piece of a passage where the words of a query stand closest together, and where they are in it.

Knows no index and no terminal: text in, text and places out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from homefire.retrieval.words import Analyzer

_WORD = re.compile(r"\w+")
_TURNING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Invisible characters that turn the direction of what stands behind them."""
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, which could move the cursor or recolour what follows, and halves of characters."""
_MORE = "…"
_BREAK = re.compile(r"\n\s*\n")
_JOINT = " · "
"""Between paragraphs, and a heading and its text, that stand in one line."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A piece of a text in one line."""

    text: str
    places: tuple[tuple[int, int], ...]
    """Where words of the query stand: first character and the one after the last, ascending."""


class Highlighter:
    """Finds the words of a query in texts: a word counts when its stem is that of a word in the query that is no stop word.

    Args:
        query: What was searched for.
        analyzer: How BM25 sees words; it has the language.
    """

    def __init__(self, query: str, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._wanted = set(analyzer.terms(query))
        self._known: dict[str, tuple[str, ...]] = {}

    def places(self, text: str) -> list[tuple[int, int, str]]:
        """First character, the one after the last, and the term, for each word of the query in the text."""
        return [place for word in _WORD.finditer(text) for place in self._within(word.group(), word.start())]

    def excerpt(self, text: str, length: int | None = None) -> Excerpt:
        """The piece of a text with the most words of the query, in one line.

        Args:
            text: A passage.
            length: Most characters; None takes all of the text.
        """
        flat = _JOINT.join(" ".join(paragraph.split()) for paragraph in _BREAK.split(shown(text).strip()))
        found = self.places(flat)
        start, end = (0, len(flat)) if length is None or len(flat) <= length else _window(flat, found, length)
        before, after = _MORE * (start > 0), _MORE * (end < len(flat))
        shift = start - len(before)
        places = tuple((first - shift, last - shift) for first, last, _ in found if first >= start and last <= end)
        return Excerpt(before + flat[start:end] + after, places)

    def _within(self, word: str, start: int) -> list[tuple[int, int, str]]:
        terms = self._known.get(word)
        if terms is None:
            terms = self._known[word] = tuple(self._wanted.intersection(self._analyzer.terms(word)))
        if not terms:
            return []
        if len(terms) == 1 and len(self._analyzer.words(word)) == 1:
            return [(start, start + len(word), terms[0])]
        longest = max(map(len, terms))  # a run of a script without spaces: its terms are pieces of it
        pieces = ((term, match.start()) for term in terms if len(term) == longest for match in re.finditer(re.escape(term), word.lower()))
        return sorted((start + place, start + place + len(term), term) for term, place in pieces)


def shown(text: str) -> str:
    """The text as it may go to a terminal."""
    return _NOT_SHOWN.sub("\ufffd", _TURNING.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")))


def _window(text: str, found: list[tuple[int, int, str]], length: int) -> tuple[int, int]:
    """Start and end of a piece of at most that length, whole words, with as many different words of the query as can be."""
    starts = [first for first, _, _ in found]
    best, most = 0, 0
    for index, first in enumerate(starts):
        inside = found[index : bisect_left(starts, first + length - length // 4)]
        if len({term for *_, term in inside}) > most:
            best, most = first, len({term for *_, term in inside})
    start = max(0, min(best - length // 4, len(text) - length + 1))
    if start:
        start = _next_word(text, start, best)
    end = min(len(text), start + length - 2)
    if end < len(text):
        end = max(text.rfind(" ", start, end), start + length // 2)
    return start, end


def _next_word(text: str, start: int, limit: int) -> int:
    """Where a sentence begins, else a word, from there to the limit."""
    sentence = text.find(". ", start, limit)
    if sentence >= 0:
        return sentence + 2
    blank = text.find(" ", start, limit + 1)
    return blank + 1 if blank >= 0 else start
