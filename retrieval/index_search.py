"""Searching a snapshot: each method over all its segments, and their fusion.

Knows no file and no change: a snapshot and queries in, hits out. Rows are numbered through the whole snapshot; -1 stands for none.
"""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from homefire.errors import InputError
from homefire.retrieval.filters import Where
from homefire.retrieval.fusion import fuse
from homefire.retrieval.hit import Hit
from homefire.retrieval.index_encoders import IndexEncoders
from homefire.retrieval.snapshot import Mask, Snapshot

if TYPE_CHECKING:
    from homefire.retrieval.dense import Rows, Scores

Fusion: TypeAlias = "Callable[[Mapping[str, Scores]], Scores]"
"""Makes one score of those by each method, all of shape `(n_queries, n)`: `fuse` or `reciprocal_rank`."""

FUSED = "fused"
CANDIDATES = 100
"""Passages of each method that a fusion looks at, and passages that another method ranks anew."""


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
        self, snapshot: Snapshot, encoders: IndexEncoders, queries: Sequence[str], where: Where | None, methods: Collection[str]
    ) -> None:
        self.snapshot = snapshot
        self.queries = queries
        self.masks = snapshot.masks(where)
        self._encoded = encoders.queries(queries, dense="dense" in methods, late="late" in methods)

    def best(self, method: str, k: int) -> tuple[Scores, Rows]:
        """The `k` best rows for each query by one method, best first; scores and rows of shape `(n_queries, k)`."""
        with _reading():
            if method == "bm25":
                masks = [mask for mask, view in zip(self.masks, self.snapshot.views, strict=True) if view.segment.terms]
                return self.snapshot.bm25.search(self.queries, k, masks)
            if method == "late":
                return self._best([view.segment.tokens for view in self.snapshot.views], self._encoded.tokens, k)
            return self._best([view.segment.dense for view in self.snapshot.views], self._encoded.vectors, k)

    def candidates(self, method: str, k: int) -> Rows:
        """About the `k` best rows for each query by one method, of shape `(n_queries, k)`, where `score` will say how good they are."""
        part = self.snapshot.views[0].segment.tokens
        if method == "late" and len(self.snapshot.views) == 1 and part is not None and part.report.codec:
            assert self._encoded.tokens is not None
            with _reading():
                return part.candidates(self._encoded.tokens, min(k, part.rows), self.masks[0])
        return self.best(method, k)[1]

    def score(self, method: str, rows: Rows) -> Scores:
        """The scores of some rows, `(n_queries, n)`, by one method; minus infinity for row -1."""
        with _reading():
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


@contextmanager
def _reading() -> Iterator[None]:
    """Large files are not read when an index is opened, so a search may be the first to meet what is damaged in them.

    Raises:
        InputError: what it read there cannot be.
    """
    try:
        yield
    except (IndexError, ValueError, sqlite3.DatabaseError) as error:
        raise InputError(
            f"A file of the index seems to be damaged: a search read in it what cannot be ({type(error).__name__}: {error}). Find and mend "
            "it with `homefire index check DIRECTORY --repair` or homefire.check_index(directory, repair=True)."
        ) from error


def search(
    snapshot: Snapshot,
    encoders: IndexEncoders,
    queries: Sequence[str],
    k: int,
    *,
    method: str | None = None,
    where: Where | None = None,
    rerank: str | None = None,
    fusion: Fusion = fuse,
) -> list[list[Hit]]:
    """The `k` best passages for each query, best first; fewer where fewer fit. A blank query finds nothing. Arguments as of `Index.search`.

    Raises:
        InputError: `k` is below 1, `queries` is one string, or the index has no such method or no such field.
    """
    if isinstance(queries, str):
        raise InputError(f"search takes a list of queries but was given the string {queries!r}; write search([query], k).")
    if foreign := [query for query in queries if not isinstance(query, str)]:
        raise InputError(f"A query is {foreign[0]!r:.80}, which is {type(foreign[0]).__name__}; expected a text.")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is {k!r}; it must be a whole number, at least 1.")
    method = _checked_method(snapshot, method)
    if rerank is not None and _checked_method(snapshot, rerank, "rerank") == FUSED:
        raise InputError("rerank is 'fused', which ranks what several methods find; write method='fused' without rerank.")
    asked = [query for query in queries if query.strip()]
    if not asked or not len(snapshot):
        snapshot.masks(where)
        return [[] for _ in queries]
    wanted = snapshot.manifest.methods if method == FUSED else (method,)
    one = Search(snapshot, encoders, asked, where, wanted if rerank is None else {*wanted, rerank})
    k = min(k, len(snapshot))
    ranked = _ranked(one, method, k if rerank is None else min(max(CANDIDATES, k), len(snapshot)), fusion)
    if rerank is not None:
        ranked = ranked.by(rerank, one.score(rerank, ranked.rows), k)
    found = iter(_hits(snapshot, ranked))
    return [next(found) if query.strip() else [] for query in queries]


def _checked_method(snapshot: Snapshot, method: str | None, argument: str = "method") -> str:
    """The method to search or rank by.

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
            f"{argument} is {method!r}{f'; did you mean {near[0]!r}?' if near else '.'} This index has {', '.join(known)}. "
            "Build it again with other methods to have more."
        )
    return method


@dataclass(frozen=True, slots=True)
class Ranked:
    """Some rows for each query, best first; -1 behind them."""

    rows: Rows
    """Of shape `(n_queries, n)`."""
    name: str
    """Whose scores rank them."""
    scores: Mapping[str, Scores]
    """By name, all of that shape."""

    def by(self, name: str, scores: Scores, k: int) -> Ranked:
        """The `k` best of them by other scores."""
        import numpy as np

        scores = np.where(self.rows < 0, -np.inf, scores)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        known = {**self.scores, name: scores}
        chosen = {key: np.take_along_axis(values, order, axis=1) for key, values in known.items()}
        return Ranked(np.take_along_axis(self.rows, order, axis=1), name, chosen)


def _ranked(one: Search, method: str, k: int, fusion: Fusion) -> Ranked:
    """The best rows by a method; in a fusion every candidate of any method is scored by every method."""
    if method != FUSED:
        scores, rows = one.best(method, k)
        return Ranked(rows, method, {method: scores})
    methods = one.snapshot.manifest.methods
    depth = min(max(CANDIDATES, k), len(one.snapshot))
    rows = _union([one.candidates(each, depth) for each in methods])
    by_method = {each: one.score(each, rows) for each in methods}
    return Ranked(rows, FUSED, by_method).by(FUSED, fusion(by_method), k)


def _hits(snapshot: Snapshot, ranked: Ranked) -> list[list[Hit]]:
    all_rows = ranked.rows.tolist()
    with _reading():
        passages = snapshot.fetch({row for some in all_rows for row in some if row >= 0})
    scores = ranked.scores[ranked.name].tolist()
    by_name = _by_name(ranked)
    return [
        [
            Hit(passages[row], score, rank, named)
            for rank, (row, score, named) in enumerate(zip(some, own, all_named, strict=True), start=1)
            if row >= 0
        ]
        for some, own, all_named in zip(all_rows, scores, by_name, strict=True)
    ]


def _by_name(ranked: Ranked) -> list[list[dict[str, float]]]:
    """For each query and row the scores by name."""
    name = ranked.name
    if len(ranked.scores) == 1:
        return [[{name: score} for score in scores] for scores in ranked.scores[name].tolist()]
    names = [name, *(other for other in ranked.scores if other != name)]
    columns = zip(*(ranked.scores[each].tolist() for each in names), strict=True)
    return [[dict(zip(names, scores, strict=True)) for scores in zip(*own, strict=True)] for own in columns]


def _union(found: Sequence[Rows]) -> Rows:
    """All rows of each query, each once, ascending, with -1 behind them."""
    import numpy as np

    together = [np.unique(rows[rows >= 0]) for rows in np.concatenate(found, axis=1)]
    union = np.full((len(together), max(map(len, together), default=0)), -1, dtype=np.int64)
    for row, some in zip(union, together, strict=True):
        row[: len(some)] = some
    return union
