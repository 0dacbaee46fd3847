"""BM25: how well the terms of a query fit passages, over all segments of an index as if they were one.

Knows no vectors and no files but the term parts.

The method is Lucene's, as in `bm25s` (arXiv 2407.03618, section 2): a term that `df` of `N` passages have and that stands `tf` times in a
passage of `l` terms adds `log(1 + (N - df + 0.5) / (df + 0.5)) * tf / (tf + k1 * (1 - b + b * l / mean l))`. What is counted over the
index is counted when the query is asked, so it is exact after every addition and deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from homefire.retrieval.terms import TermPart
from homefire.retrieval.words import fingerprints

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.dense import Mask, Rows, Scores

_AT_ONCE = 2_000_000
"""Entries that are added up at once: what bounds the memory of a long query."""


class Bm25:
    """Scores passages of several parts. Rows are numbered through the parts, in their order. Methods may be called from any thread.

    Args:
        parts: Term parts, all of one analyzer.
        live: For each part the rows that count, or None for all of them; the others are deleted.
        k1: How much repeating a term adds, from 0.
        b: How much long passages lose, from 0 to 1.
    """

    def __init__(self, parts: Sequence[TermPart], live: Sequence[Mask] | None = None, *, k1: float = 1.5, b: float = 0.75) -> None:
        self.parts = tuple(parts)
        self.live = tuple(live) if live is not None else (None,) * len(self.parts)
        statistics = [part.statistics(mask) for part, mask in zip(self.parts, self.live, strict=True)]
        self.count = sum(rows for rows, _ in statistics)
        """Live rows."""
        self.mean_length = sum(terms for _, terms in statistics) / max(1, self.count)
        """Terms in a live row."""
        self.k1, self.b = k1, b

    def search(self, queries: Sequence[str], k: int, masks: Sequence[Mask] | None = None) -> tuple[Scores, Rows]:
        """The `k` rows that fit each query best, best first; of equal ones the lower row first.

        Args:
            queries: What is looked for.
            k: Rows a query, at least 1.
            masks: For each part the rows that may be returned, or None for all that are live.

        Returns:
            Scores and rows, both of shape `(n_queries, k)`; row -1 with score minus infinity where fewer rows have a term of the query.
        """
        import numpy as np

        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        allowed = self.live if masks is None else tuple(masks)
        for number, query in enumerate(queries):
            found_scores, found_rows = self._best(query, k, allowed)
            scores[number, : len(found_rows)] = found_scores
            rows[number, : len(found_rows)] = found_rows
        return scores, rows

    def score(self, queries: Sequence[str], rows: Rows) -> Scores:
        """The scores of given rows.

        Args:
            queries: What is looked for.
            rows: Shape `(n_queries, n)`; -1 stands for no row.

        Returns:
            Shape `(n_queries, n)`: 0 for a row without terms of the query, minus infinity for row -1.
        """
        import numpy as np

        scores = np.zeros(rows.shape, dtype=np.float64)
        for query, wanted, row_scores in zip(queries, rows, scores, strict=True):
            weights, places = self._weights(query)
            first = 0
            for part, part_places in zip(self.parts, places, strict=True):
                here = np.flatnonzero((wanted >= first) & (wanted < first + part.rows))
                row_scores[here] = self._of_rows(part, part_places, weights, wanted[here] - first)
                first += part.rows
        scores[rows < 0] = -np.inf
        return scores.astype(np.float32)

    def _weights(self, query: str) -> tuple[npt.NDArray[np.float64], list[Rows]]:
        """What each different term of a query counts for, and where each part has it."""
        import numpy as np

        terms = Counter(self.parts[0].analyzer.terms(query) if self.parts else ())
        prints = fingerprints(list(terms))
        places = [part.find(prints) for part in self.parts]
        frequencies = np.zeros(len(terms))
        for part, part_places, mask in zip(self.parts, places, self.live, strict=True):
            frequencies += part.frequencies(part_places, mask)
        rarity = np.log1p((self.count - frequencies + 0.5) / (frequencies + 0.5))
        return np.fromiter(terms.values(), np.float64, len(terms)) * rarity, places

    def _best(self, query: str, k: int, allowed: Sequence[Mask]) -> tuple[npt.NDArray[np.float64], Rows]:
        import numpy as np

        weights, places = self._weights(query)
        scores, rows, first = [np.empty(0)], [np.empty(0, dtype=np.int64)], 0
        for part, part_places, mask in zip(self.parts, places, allowed, strict=True):
            sums = self._of_all(part, part_places, weights)
            found = np.flatnonzero(sums if mask is None else sums * mask)
            scores.append(sums[found])
            rows.append(found + first)
            first += part.rows
        return _top(np.concatenate(scores), np.concatenate(rows), k)

    def _of_all(self, part: TermPart, places: Rows, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The scores of all rows of a part, shape `(rows,)`; 0 for those without terms of the query."""
        import numpy as np

        sums = np.zeros(part.rows)
        for rows, counts, entry_weights in _entries(part, places, weights):
            sums += np.bincount(rows, entry_weights * counts / (counts + self._norms(part, rows)), minlength=part.rows)
        return sums

    def _of_rows(self, part: TermPart, places: Rows, weights: npt.NDArray[np.float64], rows: Rows) -> npt.NDArray[np.float64]:
        """The scores of some rows of a part."""
        import numpy as np

        sums = np.zeros(len(rows))
        if not len(rows):
            return sums
        norms, postings = self._norms(part, rows), part.postings
        for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
            if place >= 0:
                start, end = postings.offsets[place], postings.offsets[place + 1]
                entries = np.minimum(np.searchsorted(postings.rows[start:end], rows), end - start - 1)
                counts = np.where(postings.rows[start:end][entries] == rows, postings.counts[start:end][entries], 0).astype(np.float64)
                sums += weight * counts / (counts + norms)
        return sums

    def _norms(self, part: TermPart, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """What long passages lose: `k1 * (1 - b + b * l / mean l)`."""
        lengths = part.postings.lengths[rows].astype("f8")
        norms: npt.NDArray[np.float64] = self.k1 * (1 - self.b + self.b * lengths / (self.mean_length or 1))
        return norms


def _entries(
    part: TermPart, places: Rows, weights: npt.NDArray[np.float64]
) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Rows, counts and weights of the entries of some terms, some millions at a time."""
    import numpy as np

    postings = part.postings
    places, weights = places[places >= 0], weights[places >= 0]
    starts, ends = postings.offsets[places], postings.offsets[places + 1]
    group = np.cumsum(ends - starts) // _AT_ONCE
    for number in np.unique(group):
        spans = [slice(start, end) for start, end in zip(starts[group == number], ends[group == number], strict=True)]
        rows = np.concatenate([postings.rows[span] for span in spans])
        counts = np.concatenate([postings.counts[span] for span in spans]).astype(np.float64)
        yield rows, counts, np.repeat(weights[group == number], [span.stop - span.start for span in spans])


def _top(scores: npt.NDArray[np.float64], rows: Rows, k: int) -> tuple[npt.NDArray[np.float64], Rows]:
    """The `k` best, best first, of equal ones the lower row first."""
    import numpy as np

    if len(rows) > k:
        near = scores >= np.partition(scores, -k)[-k]
        scores, rows = scores[near], rows[near]
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]
