"""Inverted lists of FAISS: made once for many vectors, then mapped from the file.

Knows no queries: how many lists a search looks into is decided elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.errors import DiskError
from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    import faiss

_SAMPLE = 50
"""Vectors a centre is learnt from."""
_AT_ONCE = 2**16
"""Vectors read from the file at once."""


def write_lists(file: Path, vectors: Vectors, lists: int) -> None:
    """Sorts the vectors into lists around centres learnt from a sample, one byte a number.

    Raises:
        DiskError: the disk is full.
    """
    import faiss
    import numpy as np

    index: Any = faiss.index_factory(vectors.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # it warns of fewer than 39
    sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), _SAMPLE * lists), replace=False)
    index.train(vectors[np.sort(sample)])
    for start in range(0, len(vectors), _AT_ONCE):
        index.add(vectors[start : start + _AT_ONCE])
    try:
        faiss.write_index(index, str(file))
    except RuntimeError as error:
        raise DiskError(f"The file {file} cannot be written: {error}. Free some space.") from error


def map_lists(file: Path) -> faiss.IndexIVF:
    """The lists of a file, which is not read."""
    import faiss

    index: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    lists: Any = faiss.downcast_InvertedLists(index.invlists)
    lists.prefetch_nthread = 0  # else every search starts threads to read ahead
    return index  # type: ignore[no-any-return]
