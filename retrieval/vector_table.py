"""A vector table: vectors in memory that are searched by inner product and can be added to; no file of the user's is touched.

Knows no text and no encoder. Beyond a size the first rows are searched by a dense part in a temporary folder; later ones exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from threading import Lock
from typing import TYPE_CHECKING
from weakref import finalize

from homefire.errors import InputError
from homefire.retrieval.dense import DensePart, write_dense
from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CELLS = 2**25
"""Scores that are held at once."""


class _Built:
    """A dense part of the first rows, whose files go when nothing holds it any more."""

    def __init__(self, vectors: Vectors) -> None:
        folder = Path(mkdtemp(prefix="homefire-vectors-"))
        finalize(self, rmtree, folder, ignore_errors=True)
        write_dense(folder, vectors)
        self.part = DensePart.open(folder)


@dataclass(frozen=True, slots=True)
class _State:
    """What a search sees: replaced as a whole, so that a search needs no lock."""

    vectors: Vectors
    built: _Built | None


class VectorTable:
    """Searches vectors. Methods may be called from any thread.

    Args:
        vectors: Shape `(n, dim)`.
        index_from: From so many rows on an index does what it does best for that size; below, every vector is compared with every query.
    """

    def __init__(self, vectors: Vectors, *, index_from: int) -> None:
        self.index_from = index_from
        self._adding = Lock()
        self._state = _State(vectors, self._build(vectors))

    @property
    def vectors(self) -> Vectors:
        """All of them, shape `(n, dim)`."""
        return self._state.vectors

    def __len__(self) -> int:
        return len(self._state.vectors)

    def add(self, vectors: Vectors) -> None:
        """Puts more rows behind the others.

        Raises:
            InputError: they have another length.
        """
        import numpy as np

        with self._adding:
            old = self._state
            if vectors.shape[1] != old.vectors.shape[1]:
                raise InputError(
                    f"The new vectors have {vectors.shape[1]} numbers, but those there are have {old.vectors.shape[1]}. "
                    "Use the encoder that made the others."
                )
            together = np.concatenate([old.vectors, vectors])
            loose = len(together) - (0 if old.built is None else old.built.part.rows)
            self._state = _State(together, old.built if loose < max(self.index_from, 1) else self._build(together))

    def search(self, queries: Vectors, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The `k` best rows for each query, best first, equal ones in their order; fewer where there are fewer rows.

        Args:
            queries: Shape `(n_queries, dim)`.
            k: Rows a query, at least 1.

        Returns:
            Inner products and rows, both of shape `(n_queries, min(k, n))`.

        Raises:
            InputError: the queries have another length than the vectors.
        """
        import numpy as np

        state = self._state
        if queries.shape[1] != state.vectors.shape[1]:
            raise InputError(
                f"The query has {queries.shape[1]} numbers, but the vectors have {state.vectors.shape[1]}. Use the encoder that made them."
            )
        k = min(k, len(state.vectors))
        begin = 0 if state.built is None else state.built.part.rows
        scores, rows = _exact(queries, state.vectors[begin:], k)
        rows += begin
        if state.built is not None:
            more_scores, more_rows = state.built.part.search(queries, k)
            scores, rows = np.concatenate([more_scores, scores], axis=1), np.concatenate([more_rows, rows], axis=1)
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _build(self, vectors: Vectors) -> _Built | None:
        return None if len(vectors) < max(self.index_from, 1) else _Built(vectors)


def _exact(queries: Vectors, vectors: Vectors, k: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The `k` best of all rows for each query, in no order; fewer where there are fewer rows."""
    import numpy as np

    k = min(k, len(vectors))
    at_once = max(1, _CELLS // max(1, len(vectors)))
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), at_once):
        found = queries[start : start + at_once] @ vectors.T
        best = np.argpartition(found, len(vectors) - k, axis=1)[:, len(vectors) - k :] if k < len(vectors) else np.argsort(found, axis=1)
        rows[start : start + at_once] = best
        scores[start : start + at_once] = np.take_along_axis(found, best, axis=1)
    return scores, rows
