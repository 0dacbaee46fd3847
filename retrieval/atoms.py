"""Atoms: the tokens of a text, each with how good it is to cut the text before it.

Knows no passages. Works on a stretch of the text at a time, so that memory stays small however long the text is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from homefire.retrieval.blocks import FENCED, GAP, INSIDE, LINE, SENTENCE, SPLIT, WORD, Block, blocks
from homefire.retrieval.token_spans import SPACELESS, Spans, TokenSpans

_LONGEST_TOKEN = 40
"""Characters of an atom. A tokenizer makes one unknown token of an endless word, which would count as one and never be read."""
_LONGEST_GAP = 1000
"""Blank characters within a passage."""
_BATCH = 50_000
"""Characters whose tokens are asked for at once."""
_SHORTEST_BLOCK, _LONGEST_BLOCK = 2000, 200_000
_NO_MORE = (1 << 60, 0)

_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]++[\"'\u201d\u2019\u00bb)\]*_]*+\s++(?=[^\sa-z])"
    r"|[\u3002\uff01\uff1f\uff61\u0964\u0965\u06d4\u061f\u1362\u0589]++[\u300d\u300f\u201d\u2019\uff09\"')]*+\s*+"
    r"|\n\s*+"
)
"""What ends a sentence, with the blanks after it; or a line."""
_NO_END = re.compile(r"(?:^|[\s(])(?:\w|dr|mrs?|ms|prof|figs?|eqs?|sec|nos?|vol|pp|al|vs|cf|approx|inc|st|jr|e\.g|i\.e)$", re.IGNORECASE)
"""What may stand before a full stop that ends no sentence."""
_SPACELESS = re.compile(f"[{SPACELESS}]")


class Atom(NamedTuple):
    """A token, or a piece of a very long one."""

    start: int
    end: int
    level: int
    """How good a cut before it is, as in `blocks`."""
    heading: str


def atoms(text: str, tokenizer: TokenSpans, tokens: int) -> Iterator[list[Atom]]:
    """The atoms of a text in lists; fenced code of up to 40 characters a token may stay whole in passages of `tokens`."""
    longest = min(max(_LONGEST_TOKEN * tokens, _SHORTEST_BLOCK), _LONGEST_BLOCK)
    last = 0
    for batch in _batches(blocks(text, longest)):
        for block, spans in zip(batch, tokenizer.token_spans([text[block.start : block.end] for block in batch]), strict=True):
            found = list(_levelled(text, block, spans, last))
            if found:
                last = found[-1].end
                yield found


def pieces(text: str, spans: Spans) -> Iterator[tuple[int, int]]:
    """The tokens of a text, the very long ones in pieces, and what no token covers where it is not blank."""
    after = 0
    for begin, end in spans:
        if begin > after and not text[after:begin].isspace():
            yield from _cut(after, begin)
        if end - begin <= _LONGEST_TOKEN:
            yield begin, end
        else:
            yield from _cut(begin, end)
        if end > after:
            after = end
    if text[after:].strip():
        yield from _cut(after, len(text))


def _cut(begin: int, end: int) -> Iterator[tuple[int, int]]:
    for start in range(begin, end, _LONGEST_TOKEN):
        yield start, min(start + _LONGEST_TOKEN, end)


def _batches(supply: Iterable[Block]) -> Iterator[list[Block]]:
    batch: list[Block] = []
    size = 0
    for block in supply:
        batch.append(block)
        size += block.end - block.start
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _levelled(text: str, block: Block, spans: Spans, last: int) -> Iterator[Atom]:
    """The atoms of a block; `last` is where the one before it ends."""
    offset, most, heading = block.start, block.most, block.heading
    content = text[offset : block.end]
    ends = _ends(content) if most >= LINE else iter(())
    place, next_level = 0, block.level
    for begin, end in pieces(content, spans):
        start, stop = offset + begin, offset + end
        while start < stop and text[start].isspace():
            start += 1
        if start == stop:
            yield Atom(offset + begin, stop, SPLIT, heading)
            continue
        level = _within(text, start, last)
        if level > most:
            level = most
        while place <= start - offset:
            level = next_level if place == 0 or next_level > level else level
            place, next_level = next(ends, _NO_MORE)
        if start - last > _LONGEST_GAP:
            level = GAP
        yield Atom(start, stop, level, heading)
        if stop > last:
            last = stop


def _within(text: str, start: int, last: int) -> int:
    """How good a cut before an atom is where no line or sentence begins; `last` is the end of the atom before."""
    if start < last:
        return SPLIT
    before, here = text[start - 1], text[start]
    if before.isspace():
        return WORD
    if before.isascii() and here.isascii():
        return INSIDE
    if before == "\u200d" or here == "\u200d" or unicodedata.category(here) in ("Mn", "Mc", "Me"):
        return FENCED
    return WORD if _SPACELESS.match(here) or _SPACELESS.match(before) else INSIDE


def _ends(content: str) -> Iterator[tuple[int, int]]:
    """Where sentences and lines begin after others have ended, and which of the two."""
    for found in _END.finditer(content):
        if content[found.start()] == "\n":
            yield found.end(), LINE
        elif content[found.start()] != "." or not _NO_END.search(content, max(0, found.start() - 8), found.start()):
            yield found.end(), SENTENCE
        elif "\n" in found.group():
            yield found.end(), LINE
