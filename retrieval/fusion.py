"""Fusion: one score from those of several methods.

Knows no index: arrays of scores in, one array out. Every candidate has a score by every method; minus infinity stands where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homefire.retrieval.dense import Scores


def fuse(scores: Mapping[str, Scores]) -> Scores:
    """The mean of the methods' scores, each scaled to lie between 0 and 1 among the candidates of its query.

    Args:
        scores: By method, all of shape `(n_queries, n)`.

    Returns:
        Shape `(n_queries, n)`; higher is better.
    """
    import numpy as np

    total = None
    for values in scores.values():
        there = np.isfinite(values)
        low = np.where(there, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
        high = np.where(there, values, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
        width = np.where(high > low, high - low, 1)
        scaled = np.where(there, (values - np.where(np.isfinite(low), low, 0)) / width, -np.inf)
        total = scaled if total is None else total + scaled
    assert total is not None
    return (total / len(scores)).astype(np.float32)
