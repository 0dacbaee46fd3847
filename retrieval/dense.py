"""The dense part of a segment: one vector a passage in memory-mapped files, searched by inner product with FAISS.

Knows no text, no encoder and no index: rows and numbers only.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from homefire.errors import MissingExtra
from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    import numpy.typing as npt

Rows: TypeAlias = "npt.NDArray[np.int64]"
Scores: TypeAlias = "npt.NDArray[np.float32]"
Mask: TypeAlias = "npt.NDArray[np.bool_] | None"
"""Shape `(rows,)`: true for rows that may be returned; None means all of them."""

Kind = Literal["flat"]
VECTORS = "vectors.npy"
REPORT = "dense.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DensePlan:
    """How a dense part is searched."""

    kind: Kind = "flat"
    """`flat` compares a query with every vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseReport:
    """What was written."""

    kind: Kind
    rows: int
    dim: int
    recall: float
    """Share of the true ten best that a search finds, measured on a sample; 1 for `flat`, which is exact."""


def write_dense(folder: Path, vectors: Vectors, plan: DensePlan | None = None) -> DenseReport:
    """Writes the vectors into the folder, which exists and is empty.

    Args:
        folder: Where the files go.
        vectors: Shape `(rows, dim)`; may be a memory map.
        plan: How it will be searched; none chooses by size and machine.
    """
    import numpy as np

    plan = plan or DensePlan()
    rows, dim = vectors.shape
    np.save(folder / VECTORS, np.ascontiguousarray(vectors, dtype=np.float32))
    report = DenseReport(kind=plan.kind, rows=rows, dim=dim, recall=1.0)
    (folder / REPORT).write_text(json.dumps(asdict(report), indent=2), encoding="utf-8")
    return report


class DensePart:
    """A written part, memory-mapped. Methods may be called from any thread."""

    def __init__(self, vectors: Vectors, report: DenseReport) -> None:
        self.vectors = vectors
        self.report = report
        self.rows, self.dim = vectors.shape
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
        return cls(np.load(folder / VECTORS, mmap_mode="r"), report)

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

        faiss, count = self._faiss, len(queries)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        scores = np.full((count, k), -np.inf, dtype=np.float32)
        rows = np.full((count, k), -1, dtype=np.int64)
        if count == 0 or self.rows == 0:
            return scores, rows
        selector = None if mask is None else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        pointer = faiss.swig_ptr
        faiss.knn_inner_product(
            pointer(queries), pointer(self.vectors), self.dim, count, self.rows, k, pointer(scores), pointer(rows), selector
        )
        scores[rows < 0] = -np.inf
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

        scores = np.empty(rows.shape, dtype=np.float32)
        for query, places, row in zip(queries, rows, scores, strict=True):
            np.matmul(self.vectors[places], query, out=row)
        scores[rows < 0] = -np.inf
        return scores


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("faiss-cpu", "retrieval", "Dense search") from error
    return faiss
