"""The terms part of a segment: which term stands how often in which row, in memory-mapped files.

Knows no scores: they depend on all segments together, so they are made when a query is asked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.retrieval.array_file import write_array
from homefire.retrieval.words import Analyzer, fingerprints

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.dense import Mask, Rows

SETTINGS = "terms.json"
_FILES = ("terms", "offsets", "rows", "counts", "lengths")
"""One for each array of the postings, in their order."""
_BATCH = 16_384
"""Texts that are counted at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """Which term stands how often in which row, sorted by term and then by row."""

    terms: npt.NDArray[np.uint64]
    """Fingerprints of the terms in ascending order, shape `(n_terms,)`."""
    offsets: npt.NDArray[np.int64]
    """Shape `(n_terms + 1,)`: the entries of term `i` are those from `offsets[i]` to before `offsets[i + 1]`."""
    rows: npt.NDArray[np.int32]
    """The row of each entry."""
    counts: npt.NDArray[np.unsignedinteger]
    """How often the term stands in that row, at least once."""
    lengths: npt.NDArray[np.int32]
    """Terms in each row, repeated ones included; shape `(n_rows,)`."""


class TermPart:
    """A written part, memory-mapped. Methods may be called from any thread."""

    def __init__(self, postings: Postings, analyzer: Analyzer, total: int) -> None:
        self.postings = postings
        self.analyzer = analyzer
        self.rows = len(postings.lengths)
        self._total = total

    @classmethod
    def open(cls, folder: Path) -> TermPart:
        """Opens a part without reading it.

        Raises:
            FileNotFoundError: a file is missing.
        """
        import numpy as np

        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FILES]
        return cls(Postings(*arrays), Analyzer(settings["language"], frozenset(settings["stop_words"])), settings["total"])

    def statistics(self, live: Mask = None) -> tuple[int, int]:
        """How many rows there are, and how many terms in them, repeated ones included; only live rows count."""
        if live is None:
            return self.rows, self._total
        return int(live.sum()), int(self.postings.lengths[live].sum())

    def find(self, terms: npt.NDArray[np.uint64]) -> Rows:
        """The place of each term among the part's terms; -1 where no row has it. By fingerprint; shape `(n,)`."""
        import numpy as np

        known = self.postings.terms
        if not len(known):
            return np.full(len(terms), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(known, terms), len(known) - 1)
        return np.where(known[places] == terms, places, -1)

    def frequencies(self, places: Rows, live: Mask = None) -> Rows:
        """In how many rows each term stands; only live rows count. Takes what `find` gives; shape `(n,)`."""
        import numpy as np

        offsets = self.postings.offsets
        starts, ends = offsets[places], offsets[places + 1]
        counts = ends - starts
        if live is not None:
            rows = self.postings.rows
            counts = np.fromiter((live[rows[start:end]].sum() for start, end in zip(starts, ends, strict=True)), np.int64, len(places))
        return np.where(places < 0, 0, counts)


def write_terms(folder: Path, texts: Iterable[str], analyzer: Analyzer) -> int:
    """Counts the terms of the texts and writes them into the folder, which exists and is empty; says how many texts there were."""
    stream = iter(texts)
    batches = []
    while batch := list(islice(stream, _BATCH)):
        batches.append(_count(batch, analyzer))
    return _write(folder, batches, analyzer)


def merge_terms(folder: Path, parts: Sequence[TermPart], keep: Sequence[Mask]) -> int:
    """Writes the kept rows of several parts as one, in the order of the parts, without reading the texts again; says how many they are."""
    kept = [part.postings if mask is None else _only(part.postings, mask) for part, mask in zip(parts, keep, strict=True)]
    return _write(folder, kept, parts[0].analyzer)


def _count(texts: Sequence[str], analyzer: Analyzer) -> Postings:
    """The postings of a batch of texts."""
    import numpy as np

    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__  # a new word gets the next number
    numbers: list[int] = []
    ends = np.zeros(len(texts) + 1, dtype=np.int64)
    for row, text in enumerate(texts, start=1):
        numbers.extend(map(vocabulary.__getitem__, analyzer.words(text)))
        ends[row] = len(numbers)
    words = list(vocabulary)
    terms, term_of_word = np.unique(fingerprints(analyzer.stems(words)), return_inverse=True)
    stopped = np.fromiter((word in analyzer.stop_words for word in words), np.bool_, len(words))
    word_of_token = np.array(numbers, dtype=np.int64)
    row_of_token = np.repeat(np.arange(len(texts)), np.diff(ends))
    wanted = ~stopped[word_of_token]
    rows = row_of_token[wanted]
    pairs, counts = np.unique(term_of_word[word_of_token[wanted]] * len(texts) + rows, return_counts=True)
    offsets = np.searchsorted(pairs, np.arange(len(terms) + 1) * len(texts))
    lengths = np.bincount(rows, minlength=len(texts)).astype(np.int32)
    return Postings(terms, offsets, (pairs % len(texts)).astype(np.int32), counts.astype(np.uint32), lengths)


def _only(postings: Postings, keep: npt.NDArray[np.bool_]) -> Postings:
    """The postings of the kept rows, which are numbered anew."""
    import numpy as np

    number = np.cumsum(keep, dtype=np.int32) - 1
    kept = keep[postings.rows]
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)])
    rows = number[postings.rows[kept]]
    return Postings(postings.terms, before[postings.offsets], rows, postings.counts[kept], postings.lengths[keep])


def _write(folder: Path, batches: Sequence[Postings], analyzer: Analyzer) -> int:
    """Writes batches as one, their rows one after the other. Needs memory for them, for the result and for one of them once more."""
    import numpy as np

    seen = np.concatenate([np.empty(0, np.uint64), *(batch.terms[np.diff(batch.offsets) > 0] for batch in batches)])
    terms = np.unique(seen)
    places = [np.searchsorted(terms, batch.terms) for batch in batches]
    frequencies = np.zeros(len(terms) + 1, dtype=np.int64)  # the last is for terms that no row has any more
    for batch, place in zip(batches, places, strict=True):
        np.add.at(frequencies, place, np.diff(batch.offsets))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(frequencies)])
    total = int(offsets[-1])
    most = max((int(batch.counts.max(initial=1)) for batch in batches), default=1)
    rows = np.empty(total, dtype=np.int32)
    counts = np.empty(total, dtype=np.min_scalar_type(most))
    next_free, first_row = offsets[:-1].copy(), 0
    for batch, place in zip(batches, places, strict=True):
        sizes = np.diff(batch.offsets)
        targets = np.repeat(next_free[place] - batch.offsets[:-1], sizes) + np.arange(len(batch.rows))
        rows[targets] = batch.rows + first_row
        counts[targets] = batch.counts
        np.add.at(next_free, place, sizes)
        first_row += len(batch.lengths)
    lengths = np.concatenate([np.empty(0, np.int32), *(batch.lengths for batch in batches)])
    for name, array in zip(_FILES, (terms, offsets[: len(terms) + 1], rows, counts, lengths), strict=True):
        write_array(folder / f"{name}.npy", [array], array.dtype)
    settings = {"language": analyzer.language, "stop_words": sorted(analyzer.stop_words), "total": int(lengths.sum())}
    (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    return first_row
