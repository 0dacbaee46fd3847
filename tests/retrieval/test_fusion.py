"""Fusion: what it makes of scores of any scale, of equal ones and of missing ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from homefire.retrieval.fusion import fuse, reciprocal_rank

NONE = -np.inf
FUSIONS = pytest.mark.parametrize("fusion", [fuse, reciprocal_rank])


def row(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_a_fused_score_is_the_weighted_mean_of_standard_scores() -> None:
    bm25, late = row(0, 2, 4, 6), row(10, 12, 11, 13)
    standard = [(values - values.mean()) / values.std() for values in (bm25, late)]
    assert fuse({"bm25": bm25, "late": late}) == pytest.approx((standard[0] + 2 * standard[1]) / 3, abs=1e-6)
    assert fuse({"bm25": bm25, "dense": late}) == pytest.approx((standard[0] + standard[1]) / 2, abs=1e-6)
    assert fuse({"late": late}) == pytest.approx(standard[1], abs=1e-6)


def test_reciprocal_ranks_are_summed() -> None:
    fused = reciprocal_rank({"bm25": row(5, 1, 3), "dense": row(0.1, 0.9, 0.2)})
    assert fused == pytest.approx(row(1 / 61 + 1 / 63, 1 / 63 + 1 / 61, 1 / 62 + 1 / 62))


@FUSIONS
def test_places_without_a_candidate_have_no_score_and_change_nothing(fusion: object) -> None:
    assert callable(fusion)
    alone = fusion({"bm25": row(3, 1, 2), "dense": row(0.3, 0.1, 0.4)})
    padded = fusion({"bm25": row(3, NONE, 1, 2, NONE), "dense": row(0.3, NONE, 0.1, 0.4, NONE)})
    assert padded[0, [0, 2, 3]] == pytest.approx(alone[0])
    assert (padded[0, [1, 4]] == NONE).all()


@FUSIONS
def test_what_a_method_has_not_scored_is_as_bad_as_its_worst(fusion: object) -> None:
    assert callable(fusion)
    fused = fusion({"bm25": row(3, 1, NONE), "dense": row(0.5, 0.5, 0.5)})
    assert np.isfinite(fused).all()
    assert fused[0, 0] > fused[0, 1]
    assert fuse({"bm25": row(3, 1, NONE), "dense": row(0.5, 0.5, 0.5)})[0, 2] == fuse({"bm25": row(3, 1, 1)})[0, 2] / 2


def test_a_method_whose_scores_are_equal_says_nothing() -> None:
    words = row(0, 0, 0)
    assert fuse({"bm25": words, "dense": row(0.1, 0.3, 0.2)}) == pytest.approx(fuse({"dense": row(0.1, 0.3, 0.2)}) / 2)
    rounded = row(0.70000005, 0.7, 0.7)
    assert fuse({"dense": rounded}) == pytest.approx(np.zeros((1, 3)))


@FUSIONS
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (1, 1)])
def test_any_number_of_queries_and_candidates(fusion: object, shape: tuple[int, int]) -> None:
    assert callable(fusion)
    fused = fusion({"bm25": np.ones(shape, np.float32), "dense": np.ones(shape, np.float32)})
    assert fused.shape == shape and fused.dtype == np.float32 and np.isfinite(fused).all()
    nothing = fusion({"bm25": np.full(shape, NONE, np.float32)})
    assert (nothing == NONE).all()


@given(
    arrays(np.int16, (2, 3, 5), elements=st.integers(-100, 100)),
    st.floats(0.1, 1000),
    st.floats(-50, 50),
)
def test_the_scale_of_a_methods_scores_does_not_matter(values: np.ndarray, factor: float, shift: float) -> None:
    bm25, dense = values.astype(np.float32)
    scaled = dense.astype(np.float64) * factor + shift
    fused = fuse({"bm25": bm25, "dense": dense})
    assert fuse({"bm25": bm25, "dense": scaled}) == pytest.approx(fused, abs=0.01)
