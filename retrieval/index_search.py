"""Searching a snapshot: each method over all its segments, and their fusion.

Knows no file and no change: a snapshot and queries in, hits out. Rows are numbered through the whole snapshot; -1 stands for none.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from homefire.errors import InputError
from homefire.retrieval.filters import Where
from homefire.retrieval.hit import Hit
from homefire.retrieval.index_encoders import IndexEncoders
from homefire.retrieval.snapshot import Mask, Snapshot

if TYPE_CHECKING:
    from homefire.retrieval.dense import Rows, Scores

FUSED = "fused"
CANDIDATES = 100
"""Passages of each method that a fusion looks at."""


class Part(Protocol):
    """What a segment has for one method of vectors."""

    def search(self, queries: Any, k: int, mask: Mask) -> tuple[Scores, Rows]: ...

    def score(self, queries: Any, rows: Rows) -> Scores: ...


class Search:
    """One search: some queries, each encoded once, whatever the methods.

    Args:
        snapshot: Where to look.
        encoders: Make the queries' vectors.
        queries: What to look for; none is blank.
        where: Which passages may be found; None is all.
        methods: By which `best` and `score` will be asked.

    Raises:
        InputError: the filter cannot be used.
    """

    def __init__(
        self, snapshot: Snapshot, encoders: IndexEncoders, queries: Sequence[str], where: Where | None, methods: Sequence[str]
    ) -> None:
        self.snapshot = snapshot
        self.queries = queries
        self.masks = snapshot.masks(where)
        self._encoded = encoders.queries(queries, dense="dense" in methods, late="late" in methods)

    def best(self, method: str, k: int) -> tuple[Scores, Rows]:
        """The `k` best rows for each query by one method, best first; scores and rows of shape `(n_queries, k)`."""
        if method == "bm25":
            masks = [mask for mask, view in zip(self.masks, self.snapshot.views, strict=True) if view.segment.terms]
            return self.snapshot.bm25.search(self.queries, k, masks)
        if method == "late":
            return self._best([view.segment.tokens for view in self.snapshot.views], self._encoded.tokens, k)
        return self._best([view.segment.dense for view in self.snapshot.views], self._encoded.vectors, k)

    def candidates(self, method: str, k: int) -> Rows:
        """About the `k` best rows for each query by one method, of shape `(n_queries, k)`, for `score` to say how good they are."""
        view = self.snapshot.views[0]
        if method == "late" and len(self.snapshot.views) == 1 and view.segment.tokens is not None and view.segment.tokens.report.codec:
            assert self._encoded.tokens is not None
            return view.segment.tokens.candidates(self._encoded.tokens, min(k, view.rows), self.masks[0])
        return self.best(method, k)[1]

    def score(self, method: str, rows: Rows) -> Scores:
        """The scores of some rows, `(n_queries, n)`, by one method; minus infinity for row -1."""
        if method == "bm25":
            return self.snapshot.bm25.score(self.queries, rows)
        if method == "late":
            return self._score([view.segment.tokens for view in self.snapshot.views], self._encoded.tokens, rows)
        return self._score([view.segment.dense for view in self.snapshot.views], self._encoded.vectors, rows)

    def _best(self, parts: Sequence[Part | None], queries: Any, k: int) -> tuple[Scores, Rows]:
        import numpy as np

        found = []
        for part, view, mask in zip(parts, self.snapshot.views, self.masks, strict=True):
            if part is not None:
                scores, rows = part.search(queries, min(k, view.rows), mask)
                if view.first:
                    rows = np.where(rows < 0, -1, rows + view.first)
                found.append((scores, rows))
        if len(found) == 1:
            return found[0]
        scores = np.concatenate([scores for scores, _ in found], axis=1)
        rows = np.concatenate([rows for _, rows in found], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _score(self, parts: Sequence[Part | None], queries: Any, rows: Rows) -> Scores:
        import numpy as np

        if len(parts) == 1 and parts[0] is not None:
            return parts[0].score(queries, rows)
        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        for part, view in zip(parts, self.snapshot.views, strict=True):
            here = (rows >= view.first) & (rows < view.first + view.rows)
            if part is not None and here.any():
                scores = np.where(here, part.score(queries, np.where(here, rows - view.first, -1)), scores)
        return scores


def search(
    snapshot: Snapshot, encoders: IndexEncoders, queries: Sequence[str], k: int, method: str | None = None, where: Where | None = None
) -> list[list[Hit]]:
    """The `k` best passages for each query, best first; fewer where fewer fit. A blank query finds nothing.

    Raises:
        InputError: `k` is below 1, `queries` is one string, or the index has no such method or no such field.
    """
    if isinstance(queries, str):
        raise InputError(f"search takes a list of queries but was given the string {queries!r}; write search([query], k).")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is {k!r}; it must be a whole number, at least 1.")
    method = checked_method(snapshot, method)
    asked = [query for query in queries if query.strip()]
    if not asked or not len(snapshot):
        snapshot.masks(where)
        return [[] for _ in queries]
    one = Search(snapshot, encoders, asked, where, snapshot.manifest.methods if method == FUSED else (method,))
    k = min(k, len(snapshot))
    found = iter(_fused(one, k) if method == FUSED else _hits(snapshot, method, *one.best(method, k)))
    return [next(found) if query.strip() else [] for query in queries]


def checked_method(snapshot: Snapshot, method: str | None) -> str:
    """The method to search by.

    Raises:
        InputError: the index has no such method.
    """
    held = snapshot.manifest.methods
    known = (*held, FUSED) if len(held) > 1 else held
    if method is None:
        return snapshot.manifest.default_method
    if method not in known:
        near = difflib.get_close_matches(str(method), known, 1)
        raise InputError(
            f"method is {method!r}{f'; did you mean {near[0]!r}' if near else ''}. This index has {', '.join(known)}. "
            "Build it again with other methods to have more."
        )
    return method


def _hits(snapshot: Snapshot, method: str, scores: Scores, rows: Rows) -> list[list[Hit]]:
    all_rows, all_scores = rows.tolist(), scores.tolist()
    passages = snapshot.fetch({row for some in all_rows for row in some if row >= 0})
    return [
        [
            Hit(passages[row], score, rank, {method: score})
            for rank, (row, score) in enumerate(zip(some, some_scores, strict=True), 1)
            if row >= 0
        ]
        for some, some_scores in zip(all_rows, all_scores, strict=True)
    ]


def _fused(one: Search, k: int) -> list[list[Hit]]:
    """Every candidate of any method is scored by every method."""
    import numpy as np

    from homefire.retrieval.fusion import fuse

    methods = one.snapshot.manifest.methods
    depth = min(max(CANDIDATES, k), len(one.snapshot))
    rows = _union([one.candidates(method, depth) for method in methods])
    scores = {method: one.score(method, rows) for method in methods}
    fused = np.where(rows < 0, -np.inf, fuse(scores))
    order = np.argsort(-fused, axis=1, kind="stable")[:, :k]
    chosen = np.take_along_axis(rows, order, axis=1)
    by_method = {method: np.take_along_axis(values, order, axis=1).tolist() for method, values in scores.items()}
    hits = _hits(one.snapshot, FUSED, np.take_along_axis(fused, order, axis=1), chosen)
    return [
        [
            Hit(
                hit.passage,
                hit.score,
                hit.rank,
                {FUSED: hit.score} | {method: values[query][place] for method, values in by_method.items()},
            )
            for place, hit in enumerate(some)
        ]
        for query, some in enumerate(hits)
    ]


def _union(found: Sequence[Rows]) -> Rows:
    """All rows of each query, each once, ascending, with -1 behind them."""
    import numpy as np

    together = [np.unique(rows[rows >= 0]) for rows in np.concatenate(found, axis=1)]
    union = np.full((len(together), max(map(len, together), default=0)), -1, dtype=np.int64)
    for row, some in zip(union, together, strict=True):
        row[: len(some)] = some
    return union
