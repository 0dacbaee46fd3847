"""Pooling merges the tokens that are nearest to each other, as Ward's method says."""

from __future__ import annotations

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval.late_pooling import pool_tokens, ward
from homefire.retrieval.token_vectors import TokenVectors
from tests.late_data import texts, unit


@pytest.mark.parametrize("count", [2, 5, 40])
def test_clusters_are_those_of_scipy(count: int) -> None:
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    vectors = unit(np.random.default_rng(count).normal(size=(count, 16)))
    distances = np.clip(1 - vectors @ vectors.T, 0, 2)
    np.fill_diagonal(distances, 0)
    linkage = hierarchy.linkage(squareform(distances, checks=False), method="ward")
    for clusters in {1, 2, count // 2, count}:
        theirs = hierarchy.fcluster(linkage, t=clusters, criterion="maxclust")
        ours = ward(vectors, clusters)
        assert len(set(ours.tolist())) == clusters
        assert np.array_equal(theirs[:, None] == theirs, ours[:, None] == ours)


def test_pooled_tokens_are_those_of_sentence_transformers() -> None:
    import torch
    from sentence_transformers.multi_vector_encoder.modules.token_pooling import HierarchicalTokenPooling

    passages = [passage for passage in texts(20) if len(passage) > 1]
    pooled = pool_tokens(TokenVectors.of(passages), 2)
    for number, passage in enumerate(passages):
        theirs = HierarchicalTokenPooling(2.0).pool_one(torch.from_numpy(passage)).numpy()
        assert pooled[number].shape == theirs.shape
        order, their_order = (np.lexsort(vectors.T.round(4)) for vectors in (pooled[number], theirs))
        assert pooled[number][order] == pytest.approx(theirs[their_order], abs=1e-4)


def test_equal_tokens_become_one() -> None:
    one, two, three = np.eye(3, dtype=np.float32)
    [pooled] = [pool_tokens(TokenVectors.of([[three, one, two, one, two]]), 2)[0]]
    assert pooled.tolist() == [three.tolist(), one.tolist(), two.tolist()]


def test_short_texts_and_no_pooling() -> None:
    tokens = TokenVectors.of([np.zeros((0, 3)), np.eye(3)[:1], np.eye(3)[:2], np.eye(3)])
    assert pool_tokens(tokens, 1) is tokens
    assert [len(pool_tokens(tokens, 3)[number]) for number in range(4)] == [0, 1, 2, 2]
    assert [len(pool_tokens(tokens, 3, protected=0)[number]) for number in range(4)] == [0, 1, 1, 1]
    with pytest.raises(InputError, match=r"pool factor is 0.5"):
        pool_tokens(tokens, 0.5)
