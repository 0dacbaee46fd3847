"""The dense part of a segment: one vector a passage in memory-mapped files, searched by inner product with FAISS.

Knows no text, no encoder and no index: rows and numbers only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from homefire.errors import MissingExtra
from homefire.retrieval.array_file import write_array
from homefire.retrieval.dense_gpu import MOST, GpuVectors, gpu_bytes
from homefire.retrieval.dense_lists import map_lists, write_lists
from homefire.retrieval.dense_plan import DensePlan, DenseReport, choose_plan
from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    from types import ModuleType

    import faiss
    import numpy as np
    import numpy.typing as npt

Rows: TypeAlias = "npt.NDArray[np.int64]"
Scores: TypeAlias = "npt.NDArray[np.float32]"
Mask: TypeAlias = "npt.NDArray[np.bool_] | None"
"""Shape `(rows,)`: true for rows that may be returned; None means all of them."""

VECTORS = "vectors.npy"
LISTS = "lists.faiss"
REPORT = "dense.json"

_BEST = 10
"""Ranks that the measured recall counts."""
_RESCORED = 20
"""Candidates from the lists whose exact scores decide, at least, and twice as many as are wanted.

Bytes in place of numbers misplace few: among a million passages more candidates found no more of the best 1, 10 or 50."""
_ONE_CORE = 2**25
"""Multiplications up to which a search stays on one core: waking more takes longer where others want them too.

A query alone does in any case: FAISS shares out queries, not the vectors that they are compared with."""
_BATCH = 8
"""Queries that one core compares as a product of matrices, which reads the vectors once, sooner than two cores do one by one."""
_PRODUCT = threading.Lock()
"""Held while FAISS is told to multiply matrices."""
_QUERIES = 100
"""Queries on which the recall is measured."""
_WORTH_A_GPU = 2**24
"""Bytes of vectors from which they go to a GPU."""
_SELECTIVE = 10
"""A mask that leaves less than one row in this many is searched by looking at the rows that it leaves."""


def write_dense(folder: Path, vectors: Vectors | Sequence[Vectors], plan: DensePlan | None = None) -> DenseReport:
    """Writes the vectors into the folder, which exists and is empty, and what is needed to search them.

    Args:
        folder: Where the files go.
        vectors: Shape `(rows, dim)`, or several such arrays that are written one behind the other; memory maps are read piece by piece.
        plan: How they will be searched; none chooses by their number and the machine.

    Raises:
        MissingExtra: faiss is not installed.
        DiskError: the disk is full.
    """
    import numpy as np

    pieces = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    rows, dim = sum(len(piece) for piece in pieces), pieces[0].shape[1]
    plan = plan or choose_plan(rows, dim, gpu_bytes=gpu_bytes(_faiss()))
    write_array(folder / VECTORS, pieces, np.float32)
    report = DenseReport(kind=plan.kind, rows=rows, dim=dim)
    _write_report(folder, report)
    if plan.kind == "lists" and rows:
        stored, lists = np.load(folder / VECTORS, mmap_mode="r"), min(plan.lists, rows)
        write_lists(folder / LISTS, stored, lists)
        report = _measured(DensePart(stored, report, map_lists(folder / LISTS)), lists, plan.recall)
        _write_report(folder, report)
    return report


class DensePart:
    """A written part, memory-mapped. Methods may be called from any thread."""

    def __init__(self, vectors: Vectors, report: DenseReport, lists: faiss.IndexIVF | None = None) -> None:
        self.vectors = vectors
        """Shape `(rows, dim)`, float32, a memory map."""
        self.report = report
        self.rows, self.dim = vectors.shape
        self._lists = lists
        self._faiss = _faiss()

    @classmethod
    def open(cls, folder: Path) -> DensePart:
        """Opens a part without reading it.

        Raises:
            MissingExtra: faiss is not installed.
            FileNotFoundError: a file is missing.
        """
        import numpy as np

        report = DenseReport(**json.loads((folder / REPORT).read_text(encoding="utf-8")))
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        return cls(vectors, report, map_lists(folder / LISTS) if report.lists else None)

    def search(self, queries: Vectors, k: int, mask: Mask = None) -> tuple[Scores, Rows]:
        """The `k` rows whose vectors have the largest inner products with each query, best first.

        Args:
            queries: Shape `(n_queries, dim)`.
            k: Rows a query, at least 1.
            mask: Rows that may be returned.

        Returns:
            Scores and rows, both of shape `(n_queries, k)`; row -1 with score minus infinity where there are fewer.
        """
        import numpy as np

        queries = np.ascontiguousarray(queries, dtype=np.float32)
        allowed = self.rows if mask is None else int(np.count_nonzero(mask))
        if not len(queries) or not allowed:
            return np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
        if mask is not None and allowed * _SELECTIVE < self.rows:
            places = np.flatnonzero(mask)
            scores, rows = self._compare(queries, self.vectors[places], k, None)
            return scores, np.where(rows < 0, -1, places[rows])
        if self._lists is None:
            if self._gpu is None or mask is not None or k > MOST:
                return self._compare(queries, self.vectors, k, mask)
            scores, rows = self._gpu.search(queries, k)
            return np.where(rows < 0, -np.inf, scores), rows
        scores, rows = self.probe(queries, k, self.report.probes, mask)
        short = (rows < 0).sum(axis=1) > max(0, k - allowed)
        if short.any():
            scores[short], rows[short] = self._compare(queries[short], self.vectors, k, mask)
        return scores, rows

    def exact(self, queries: Vectors, k: int) -> tuple[Scores, Rows]:
        """As `search`, comparing with every vector whatever the part was written for."""
        import numpy as np

        return self._compare(np.ascontiguousarray(queries, dtype=np.float32), self.vectors, k, None)

    def probe(self, queries: Vectors, k: int, probes: int, mask: Mask = None) -> tuple[Scores, Rows]:
        """As `search`, looking into so many lists; rows with exact scores, perhaps not the best ones, perhaps fewer than there are."""
        import numpy as np

        assert self._lists is not None
        count = min(max(_RESCORED, 2 * k), self.rows)
        options = self._faiss.SearchParametersIVF(nprobe=probes, sel=self._selector(mask))
        with self._cores(len(queries) * self.rows * probes // self._lists.nlist):
            _, found = self._lists.search(queries, count, params=options)
        exact = self.score(queries, found)
        best = np.argsort(-exact, axis=1, kind="stable")[:, :k]
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        scores[:, : best.shape[1]] = np.take_along_axis(exact, best, axis=1)
        rows[:, : best.shape[1]] = np.take_along_axis(found, best, axis=1)
        return scores, rows

    def score(self, queries: Vectors, rows: Rows) -> Scores:
        """Inner products of each query with the vectors of its rows.

        Args:
            queries: Shape `(n_queries, dim)`.
            rows: Shape `(n_queries, n)`; -1 stands for no row.

        Returns:
            Shape `(n_queries, n)`; minus infinity for row -1.
        """
        import numpy as np

        scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        if self.rows:
            vectors = np.asarray(self.vectors)  # a memory map is slower to take rows from
            found = np.empty((rows.shape[1], self.dim), dtype=np.float32)
            for query, places, row in zip(queries, rows, scores, strict=True):
                np.matmul(np.take(vectors, places, axis=0, mode="wrap", out=found), query, out=row)
        scores[rows < 0] = -np.inf
        return scores

    @cached_property
    def _gpu(self) -> GpuVectors | None:
        """The vectors on a GPU, where there is one with room for twice as much and enough of them to be worth the way."""
        size = self.vectors.nbytes
        return GpuVectors(self._faiss, self.vectors) if _WORTH_A_GPU < size < gpu_bytes(self._faiss) / 2 else None

    def _compare(self, queries: Vectors, vectors: Vectors, k: int, mask: Mask) -> tuple[Scores, Rows]:
        """Every vector compared, as FAISS's flat index does it, without an index that holds the vectors once more."""
        import numpy as np

        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.int64)
        at = self._faiss.swig_ptr
        as_product = mask is None and len(queries) >= _BATCH and self._faiss.omp_get_max_threads() <= 2
        with self._product() if as_product else self._cores(len(queries) * len(vectors) if len(queries) > 1 else 0):
            self._faiss.knn_inner_product(
                *(at(queries), at(vectors), self.dim, len(queries), len(vectors), k, at(scores), at(rows), self._selector(mask))
            )
        scores[rows < 0] = -np.inf
        return scores, rows

    def _selector(self, mask: Mask) -> faiss.IDSelector | None:
        import numpy as np

        return None if mask is None else self._faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))

    @contextmanager
    def _product(self) -> Iterator[None]:
        """Has FAISS multiply matrices on one core, whatever the number of queries; it does so for some hundred and more by itself.

        That number is one for the whole process. Of threads that meet here the first sets it, and puts it back; the results are the same.
        """
        settings = self._faiss.cvar
        first = _PRODUCT.acquire(blocking=False)
        before = settings.distance_compute_blas_threshold
        try:
            if first:
                settings.distance_compute_blas_threshold = 1
            with self._cores(0):
                yield
        finally:
            if first:
                settings.distance_compute_blas_threshold = before
                _PRODUCT.release()

    @contextmanager
    def _cores(self, comparisons: int) -> Iterator[None]:
        """Keeps a small search on one core. The number holds for the calling thread only."""
        if comparisons * self.dim > _ONE_CORE:
            yield
            return
        before = self._faiss.omp_get_max_threads()
        self._faiss.omp_set_num_threads(1)
        try:
            yield
        finally:
            self._faiss.omp_set_num_threads(before)


def _measured(part: DensePart, lists: int, wanted: float) -> DenseReport:
    """Finds the number of lists that a search must look into for the wanted recall.

    The queries are rows of the part, turned by random numbers until their cosine with the row is about 0.4. On three collections whose real
    questions were at hand that measured their recall to about 0.01, and smaller turns measured too much.
    """
    import numpy as np

    random = np.random.default_rng(0)
    rows = part.vectors[np.sort(random.choice(part.rows, min(part.rows, _QUERIES), replace=False))]
    noise = random.standard_normal(rows.shape, dtype=np.float32)
    noise *= np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    queries = 0.4 * rows + 0.92 * noise
    _, best = part.exact(queries, _BEST)
    probes = 1
    while True:
        _, found = part.probe(queries, _BEST, probes)
        recall = float(np.mean([np.isin(true, row).mean() for true, row in zip(best, found, strict=True)]))
        if recall >= wanted or probes >= lists:
            return DenseReport(kind="lists", rows=part.rows, dim=part.dim, lists=lists, probes=probes, recall=round(recall, 4))
        probes = min(lists, probes * 2)


def _write_report(folder: Path, report: DenseReport) -> None:
    (folder / REPORT).write_text(json.dumps(asdict(report), indent=2), encoding="utf-8")


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("faiss-cpu", "retrieval", "Dense search") from error
    return faiss
