"""The chunker: documents in, passages out, each as long as the encoder reads and cut where the text allows it best.

Knows no file format and no index. The passages of a document cover its text: what is between them is blank.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import islice

from homefire.errors import InputError
from homefire.retrieval.atoms import Atom, atoms, pieces
from homefire.retrieval.blocks import FENCED, GAP, GLUED, HEADING, INSIDE, SENTENCE, SPLIT, WORD
from homefire.retrieval.document import Document, Scalar
from homefire.retrieval.passage import Passage
from homefire.retrieval.token_spans import ANY_NUMBER, GuessedTokens, TokenSpans, Words

TOKENS = 128
"""Small encoders are trained with about as many. In joined paragraphs of SQuAD, BM25 had the answer within the first 256 tokens for 84% of
questions with passages of 128 tokens, for 77% with 200, for 76% with 254; within the first 1024 for 95%, 95% and 94%."""

_TINY = 8
"""A section with fewer than `tokens / 8` tokens goes on into the next."""
_BATCH = 64
"""Passages whose tokens are counted at once."""
_UNFIT = re.compile("[\0\ud800-\udfff]")
"""Characters that no UTF-8 file and no database takes."""


class Chunker:
    """Cuts documents into passages.

    A heading begins a passage, unless the one before would be tiny. Otherwise the cut is at the best place in the second half of what fits,
    before a paragraph, a list item, a sentence, a line or a word. Fenced code that fits stays whole. A passage begins with the last
    sentences of the one before that have together at most `overlap` tokens, or with words where no sentence is that short; but never with
    text from above its heading.

    Args:
        tokens: most tokens of a passage; a token of more than 40 characters counts as several. None takes 128, or what the encoder reads
            where that is less.
        overlap: most tokens that a passage shares with the one before; None takes a fifth of `tokens`.
        tokenizer: the encoder that will read the passages; None guesses, about as many tokens as encoders see in English.

    Raises:
        InputError: `tokens` is below 2 or more than the encoder reads, or `overlap` is negative or more than half of `tokens`.
    """

    def __init__(self, tokens: int | None = None, overlap: int | None = None, *, tokenizer: TokenSpans | None = None) -> None:
        self.tokenizer = tokenizer or GuessedTokens()
        most = self.tokenizer.max_tokens
        self.tokens = min(TOKENS, most) if tokens is None else tokens
        self.overlap = self.tokens // 5 if overlap is None else overlap
        if not 2 <= self.tokens <= most or not 0 <= self.overlap <= self.tokens // 2:
            reads = f" and at most the {most} that the encoder reads" if most < ANY_NUMBER else ""
            raise InputError(
                f"tokens={self.tokens}, overlap={self.overlap} cannot be used; tokens must be at least 2{reads}, "
                "and overlap between 0 and half of tokens."
            )

    def chunk(self, document: Document) -> list[Passage]:
        """The passages of a document, in order; none when its text is blank."""
        return list(self.passages(document))

    def passages(self, document: Document) -> Iterator[Passage]:
        """As `chunk`, one by one: memory stays small however long the text is.

        The metadata of a passage is that of the document with `title`, `heading` (the path of headings), `page` and `line`, the last two of
        the place where it begins; each is there when it is known, and a value of the document comes before it.
        """
        text = _UNFIT.sub("\ufffd", document.text.replace("\r\n", "\n").replace("\r", "\n"))
        places = _Places(document, text)
        times: dict[str, int] = {}
        position = 0
        for start, end, heading in self._fitting(text):
            slice_ = text[start:end].lstrip()
            piece = slice_.rstrip().replace("\f", "\n")
            if not piece:
                continue
            named = _id(document.source, piece, 0)
            times[named] = times.get(named, -1) + 1
            yield Passage(
                id=_id(document.source, piece, times[named]),
                text=piece,
                source=document.source,
                position=position,
                metadata=places.metadata(end - len(slice_), heading),
            )
            position += 1

    def _fitting(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Start, end and headings of each passage; a slice is cut again where it has more tokens alone than in its text."""
        slices = self._slices(text)
        while batch := list(islice(slices, _BATCH)):
            counts = self._counts([text[start:end] for start, end, _ in batch])
            for (start, end, heading), count in zip(batch, counts, strict=True):
                if count <= self.tokens:
                    yield start, end, heading
                else:
                    yield from ((first, last, heading) for first, last in self._halves(text, start, end))

    def _counts(self, texts: list[str]) -> list[int]:
        return [sum(1 for _ in pieces(text, spans)) for text, spans in zip(texts, self.tokenizer.token_spans(texts), strict=True)]

    def _halves(self, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """A slice with too many tokens, cut near its middle, until each part fits or is one character."""
        middle, quarter = (start + end) // 2, (end - start) // 4
        blank = text.rfind(" ", middle - quarter, middle) + 1
        cut = blank if blank > start else middle
        for first, last in ((start, cut), (cut, end)):
            if last - first < 2 or self._counts([text[first:last]])[0] <= self.tokens:
                yield first, last
            else:
                yield from self._halves(text, first, last)

    def _slices(self, text: str) -> Iterator[tuple[int, int, str]]:
        window: list[Atom] = []
        supply = atoms(text, self.tokenizer, self.tokens)
        begin = done = 0
        while True:
            while len(window) - done <= self.tokens and (more := next(supply, None)):
                window += more
            if done == len(window):
                return
            begin, end = self._extent(window, begin, done)
            yield window[begin].start, max(atom.end for atom in window[begin:end]), window[begin].heading
            restart = self._restart(window, begin, end)
            del window[:restart]
            begin, done = 0, end - restart

    def _extent(self, window: list[Atom], begin: int, done: int) -> tuple[int, int]:
        """First atom of the next passage and the one after its last; the atoms before `done` are in the passage before it."""
        full = begin + self.tokens
        for place in range(done + 1, min(full + 1, len(window))):
            level = window[place].level
            if level == GAP or (level == HEADING and place - begin >= self.tokens // _TINY):
                return begin, place
        if len(window) <= full:
            return begin, len(window)
        end = _best(window, max(done, begin + self.tokens // 2) + 1, full, INSIDE) or _best(window, done + 1, full, GLUED)
        if end:
            return begin, end
        if begin < done:
            return self._extent(window, done, done)
        end = _best(window, done + 1, full, FENCED)
        while not end:
            full += 1
            end = full if full == len(window) or window[full].level > SPLIT else 0
        return begin, end

    def _restart(self, window: list[Atom], begin: int, end: int) -> int:
        """Where the next passage begins: at `end`, or before it at a sentence or a word."""
        if end == len(window) or window[end].level >= HEADING:
            return end
        places = range(max(begin + 1, end - self.overlap), end)
        for place in reversed(places):
            if window[place].level >= HEADING:
                return place
        for least in (SENTENCE, WORD):
            for place in places:
                if window[place].level >= least:
                    return place
        return end


def _best(window: list[Atom], first: int, last: int, least: int) -> int:
    """The last of the best places in a range of the window, `last` included; 0 when none is as good as `least`."""
    best, level = 0, least - 1
    for place in range(last, first - 1, -1):
        if window[place].level > level:
            best, level = place, window[place].level
    return best


class _Places:
    """What is known of the places of a document where its passages begin, asked for in order."""

    def __init__(self, document: Document, text: str) -> None:
        self._text = text
        self._lines = document.lines
        self._values = document.metadata
        self._title = document.title
        self._paged = "\f" in text or "pages" in document.metadata
        self._counted, self._line, self._page = 0, 0, 1

    def metadata(self, start: int, heading: str) -> dict[str, Scalar]:
        """The metadata of the passage that begins at a place; places must not go back."""
        self._line += self._text.count("\n", self._counted, start)
        self._page += self._text.count("\f", self._counted, start) if self._paged else 0
        self._counted = start
        known: dict[str, Scalar] = {}
        if self._title:
            known["title"] = self._title
        if heading:
            known["heading"] = heading
        if self._paged:
            known["page"] = self._page
        if self._lines is not None:
            known["line"] = self._lines[self._line] if self._lines else self._line + 1
        return known | self._values


def _id(source: str, text: str, times: int) -> str:
    """The same for the same text from the same source, on every machine; `times` is how often the document has had the text before."""
    again = f"\0{times}" if times else ""
    return hashlib.sha256(f"{source}\0{text}{again}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def split(text: str, source: str, *, words: int = 100, overlap: int = 20) -> Iterator[Passage]:
    """The passages of a text that is in no file, of at most `words` words.

    Raises:
        InputError: as `Chunker` does.
    """
    return Chunker(words, overlap, tokenizer=Words()).passages(Document(source, text))
