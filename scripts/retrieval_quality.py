"""Quality of the index's rankings, beside plain libraries that compare everything. Run: .venv/bin/python scripts/bench_retrieval.py

The references are written with bm25s, NumPy and torch alone. Both sides get the same vectors.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ranking_metrics import quality
from retrieval_data import Collection, Query
from retrieval_vectors import Kept, KeptTokens, Texts, encoded

from homefire.retrieval.fusion import reciprocal_rank
from homefire.retrieval.index import Index
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_vectors import TokenVectors

DEPTH = 100
"""Passages of a ranking that are fused or scored again."""
MOST_OTHERS = 2000
_BLOCK = 4096
"""Tokens of passages that are compared at once."""
Scores = np.ndarray[Any, Any]
Table = dict[str, dict[str, float]]


class Prepared:
    """A collection with its vectors, and its passages in an index.

    Args:
        data: The collection.
        cache: Folder that keeps its vectors.
        queries: At most so many of each set.
    """

    def __init__(self, data: Collection, cache: Path | None, queries: int = MOST_OTHERS) -> None:
        self.data = data
        self.reported, self.others = data.reported[:queries], data.others[: min(queries, MOST_OTHERS)]
        self.passages = encoded([passage.text for passage in data.passages], "passages", cache)
        self.queries = encoded([query.text for query in (*self.reported, *self.others)], "queries", cache)

    def index(self, directory: Path, **options: Any) -> Index:
        """The index that `Index.build` makes when nothing is chosen."""
        sets = self.passages, self.queries
        return Index.build(directory, self.data.passages, Kept(*sets), token_encoder=KeptTokens(*sets), **options)


def measure(prepared: Prepared) -> dict[str, Any]:
    """Quality of the references, of every method of the index, and of its fusion on the queries that are not reported."""
    table = {name: quality(ranked, _relevant(prepared.reported)) for name, ranked in _references(prepared).items()}
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        index = prepared.index(Path(folder) / "index")
        table |= by_method(index, prepared.reported)
        if prepared.others:
            table |= {f"{name}, other queries": row for name, row in by_method(index, prepared.others).items()}
    return {"passages": len(prepared.data.passages), "queries": len(prepared.reported), "table": table}


def with_encoder(data: Collection, name: str) -> dict[str, Any]:
    """Quality of the methods of an index that another encoder of the catalogue makes, and how many passages it encodes in a second."""
    encoder = SentenceEncoder(name)
    with tempfile.TemporaryDirectory(prefix="bench-retrieval-") as folder:
        index = Index.build(Path(folder) / "index", data.passages, encoder)
        table = {f"{name}, {row.removeprefix('index, ')}": values for row, values in by_method(index, data.reported).items()}
    started = time.perf_counter()
    encoder.encode_passages([passage.text for passage in data.passages])
    return {"table": table, "passages_per_second": len(data.passages) / (time.perf_counter() - started)}


def by_method(index: Index, queries: Sequence[Query]) -> Table:
    """Quality of each method of an index, of what late interaction makes of BM25's best, and of both fusions."""
    table, texts = {}, [query.text for query in queries]
    ways: dict[str, dict[str, Any]] = {method: {"method": method} for method in index.manifest.methods}
    if {"bm25", "late"} <= set(ways):
        ways["bm25, then late"] = {"method": "bm25", "rerank": "late"}
    if len(ways) > 1:
        ways |= {"fused": {"method": "fused"}, "fused by ranks": {"method": "fused", "fusion": reciprocal_rank}}
    for name, options in ways.items():
        found = index.search(texts, k=20, **options)
        table[f"index, {name}"] = quality([[hit.passage.id for hit in hits] for hits in found], _relevant(queries))
    return table


def _references(prepared: Prepared) -> dict[str, list[list[str]]]:
    """The rankings of the reported queries."""
    names, count = [passage.id for passage in prepared.data.passages], len(prepared.reported)
    bm25 = _bm25(prepared.passages.texts, prepared.queries.texts[:count])
    dense = np.asarray(prepared.queries.vectors[:count]) @ np.asarray(prepared.passages.vectors).T
    late = exhaustive(prepared.queries.tokens(range(count)), prepared.passages)
    best = _ranked(bm25)
    again = np.take_along_axis(best, np.argsort(-np.take_along_axis(late, best, axis=1), axis=1, kind="stable"), axis=1)
    orders = {
        "bm25s": best,
        "dense, exhaustive": _ranked(dense),
        "RRF (BM25, dense)": _ranked(_reciprocal(bm25) + _reciprocal(dense)),
        "MaxSim, exhaustive": _ranked(late),
        "BM25 top 100, then MaxSim": again,
        "RRF (BM25, dense, MaxSim)": _ranked(_reciprocal(bm25) + _reciprocal(dense) + _reciprocal(late)),
    }
    return {name: [[names[place] for place in row] for row in order.tolist()] for name, order in orders.items()}


def _bm25(passages: Sequence[str], queries: Sequence[str]) -> Scores:
    import bm25s
    import Stemmer

    stem = Stemmer.Stemmer("english")
    model = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    model.index(bm25s.tokenize(list(passages), stopwords="en", stemmer=stem, show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(queries), stopwords="en", stemmer=stem, show_progress=False, return_ids=False)
    return np.stack([model.get_scores(some) if some else np.zeros(len(passages), np.float32) for some in words])


def exhaustive(queries: TokenVectors, passages: Texts) -> Scores:
    """MaxSim of every query with every passage, of shape `(n_queries, n_passages)`: all inner products, in float32."""
    asked, starts = torch.from_numpy(queries.vectors), queries.offsets[:-1]
    scores = np.empty((len(queries), len(passages.texts)), dtype=np.float32)
    offsets = passages.offsets
    first = 0
    while first < len(passages.texts):
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1)
        block = torch.from_numpy(passages.halves[offsets[first] : offsets[last]].astype(np.float32))
        products = (asked @ block.T).numpy()
        best = np.maximum.reduceat(products, offsets[first:last] - offsets[first], axis=1)
        scores[:, first:last] = np.add.reduceat(best, starts, axis=0)
        first = last
    return scores


def _ranked(scores: Scores) -> Scores:
    return np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]


def _reciprocal(scores: Scores) -> Scores:
    """Cormack et al. 2009: 1 over 60 more than the place, for the first hundred."""
    order = _ranked(scores)
    gains = np.zeros_like(scores)
    np.put_along_axis(gains, order, 1 / np.arange(61, 61 + order.shape[1], dtype=np.float32)[None], axis=1)
    return gains


def _relevant(queries: Sequence[Query]) -> list[frozenset[str]]:
    return [query.relevant for query in queries]
