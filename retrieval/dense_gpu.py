"""Vectors on a GPU, compared there by the GPU build of FAISS.

Knows no file and no choice: whoever has vectors decides whether they go there.
"""

from __future__ import annotations

from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Any

from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MOST = 2048
"""Neighbours that a search on a GPU can find."""
_AT_ONCE = 2**16


def gpu_bytes(faiss: ModuleType) -> int:
    """Memory free on the first GPU; 0 without one, or without FAISS's GPU build."""
    if not faiss.get_num_gpus():
        return 0
    import torch

    return torch.cuda.mem_get_info(0)[0] if torch.cuda.is_available() else 0


class GpuVectors:
    """Vectors of shape `(rows, dim)` in the memory of the first GPU. Methods may be called from any thread."""

    def __init__(self, faiss: Any, vectors: Vectors) -> None:
        import numpy as np

        self._resources = faiss.StandardGpuResources()
        self._index = faiss.GpuIndexFlatIP(self._resources, vectors.shape[1])
        for start in range(0, len(vectors), _AT_ONCE):
            self._index.add(np.ascontiguousarray(vectors[start : start + _AT_ONCE]))
        self._turn = Lock()  # one search at a time: FAISS's work space on the GPU is shared

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Scores and rows of the `k` largest inner products, both of shape `(n_queries, k)`; row -1 where there are fewer."""
        with self._turn:
            scores, rows = self._index.search(queries, k)
        return scores, rows
