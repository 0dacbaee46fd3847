"""Vectors in memory: exact below a size, through FAISS above it, and the same answers from both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from homefire.errors import InputError
from homefire.retrieval.vector_table import VectorTable


def unit(count: int, seed: int, dim: int = 16) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    scaled: npt.NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize("index_from", [1000, 0, 50])
def test_the_best_rows_in_order_also_after_adding(index_from: int) -> None:
    vectors, queries = unit(130, 1), unit(7, 2)
    table = VectorTable(vectors[:60], index_from=index_from)
    for end in (60, 61, 129, 130):
        table.add(vectors[len(table) : end])
        assert len(table) == end and np.array_equal(table.vectors, vectors[:end])
        scores, rows = table.search(queries, 5)
        every = queries @ vectors[:end].T
        assert rows.tolist() == np.argsort(-every, axis=1, kind="stable")[:, :5].tolist()
        assert np.allclose(scores, np.take_along_axis(every, rows, axis=1), atol=1e-6)


def test_equal_rows_come_in_their_order_and_few_rows_are_few() -> None:
    table = VectorTable(np.repeat(unit(1, 3), 4, axis=0), index_from=1000)
    scores, rows = table.search(unit(1, 3), 10)
    assert rows.tolist() == [[0, 1, 2, 3]] and scores.shape == (1, 4)


def test_many_queries_are_searched_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.retrieval.vector_table._CELLS", 100)
    vectors, queries = unit(30, 1), unit(20, 2)
    assert VectorTable(vectors, index_from=99).search(queries, 1)[1][:, 0].tolist() == (queries @ vectors.T).argmax(axis=1).tolist()


def test_vectors_of_another_length_are_refused() -> None:
    table = VectorTable(unit(3, 1), index_from=1000)
    with pytest.raises(InputError, match="query has 8 numbers"):
        table.search(unit(1, 1, dim=8), 1)
    with pytest.raises(InputError, match="new vectors have 8"):
        table.add(unit(1, 1, dim=8))
    assert len(table) == 3
