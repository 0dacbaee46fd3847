"""Token vectors for tests of late interaction: texts about topics, so that near ones exist.

Everything comes from a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from homefire.retrieval.encoder import Vectors
from homefire.retrieval.late_store import LateInteractionStore
from homefire.retrieval.token_vectors import TokenVectors


def unit(vectors: Vectors) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def texts(count: int, *, dim: int = 24, words: int = 200, longest: int = 20, noise: float = 0.25, seed: int = 0) -> list[Vectors]:
    """As many texts of up to so many tokens, each token a word of few with some noise. One in ten has no tokens."""
    draw = np.random.default_rng(seed)
    vocabulary = unit(np.random.default_rng(1).normal(size=(words, dim)))
    found = []
    for _ in range(count):
        length = 0 if draw.random() < 0.1 else int(draw.integers(1, longest + 1))
        scatter = noise / np.sqrt(dim) * draw.normal(size=(length, dim))
        found.append(unit(vocabulary[draw.integers(0, words, length)] + scatter))
    return found


def questions(passages: list[Vectors], count: int, *, tokens: int = 5, seed: int = 2) -> TokenVectors:
    """As many queries, each with some tokens of one passage and some noise."""
    draw = np.random.default_rng(seed)
    long = [passage for passage in passages if len(passage) >= tokens]
    dim = long[0].shape[1]
    chosen = [long[number] for number in draw.integers(0, len(long), count)]
    picked = [one[draw.choice(len(one), tokens, replace=False)] for one in chosen]
    return TokenVectors.of([unit(one + 0.2 / np.sqrt(dim) * draw.normal(size=one.shape)) for one in picked])


PASSAGES = texts(300)
IDS = [f"text {number}" for number in range(300)]


def filled(folder: Path, ids: Sequence[str] = IDS, passages: Sequence[Vectors] = PASSAGES, **options: object) -> LateInteractionStore:
    """A store of these passages."""
    store = LateInteractionStore.create(folder, 24, **options)  # type: ignore[arg-type]
    store.add(ids, passages)
    return store
