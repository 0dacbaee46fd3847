"""Fusion: one score from those of several methods.

Knows no index: arrays of scores in, one array out. Every candidate has a score by every method; minus infinity stands where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.dense import Scores

WEIGHTS = {"late": 2.0}
"""What a method counts; 1 for those that are not named. Late interaction counts as much as one vector a text and BM25 together.

Chosen on 809 training claims of SciFact, 1,500 questions of SQuAD and Cranfield: `scripts/bench_retrieval.py` shows other queries.
"""

_PLACES = 60.0


def fuse(scores: Mapping[str, Scores]) -> Scores:
    """The weighted mean of the methods' standard scores: by how many standard deviations a candidate is above the mean of its query.

    A convex combination of normalised scores finds more than their ranks do: Bruch et al. 2022, arXiv 2210.11934. Standard scores need no
    bounds of the methods' scores, which encoders do not give.

    Args:
        scores: By method, all of shape `(n_queries, n)`. A candidate that only some methods have scored counts as the worst by the others.

    Returns:
        Shape `(n_queries, n)`; higher is better. Minus infinity where no method has a score.
    """
    import numpy as np

    total = sum(WEIGHTS.get(method, 1.0) for method in scores)
    known = _known(scores)
    fused = np.zeros(known.shape)
    for method, values in scores.items():
        filled = _filled(values, known)
        count = np.maximum(known.sum(axis=1, keepdims=True), 1)
        apart = np.where(known, filled - filled.sum(axis=1, keepdims=True) / count, 0)
        deviation = np.sqrt((apart**2).sum(axis=1, keepdims=True) / count)
        flat = deviation <= 1e-6 * np.abs(filled).max(axis=1, keepdims=True, initial=0)  # equal scores, but for rounding, say nothing
        fused += WEIGHTS.get(method, 1.0) / total * np.where(flat, 0, apart / np.where(flat, 1, deviation))
    return np.where(known, fused, -np.inf).astype(np.float32)


def reciprocal_rank(scores: Mapping[str, Scores]) -> Scores:
    """The sum over the methods of 1 / (60 + rank), which looks at ranks alone (Cormack et al. 2009).

    Args:
        scores: As for `fuse`.

    Returns:
        As of `fuse`.
    """
    import numpy as np

    known = _known(scores)
    fused = np.zeros(known.shape)
    for values in scores.values():
        order = np.argsort(-np.where(known, _filled(values, known), -np.inf), axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, known.shape[1] + 1)[None], axis=1)
        fused += 1 / (_PLACES + ranks)
    return np.where(known, fused, -np.inf).astype(np.float32)


def _known(scores: Mapping[str, Scores]) -> npt.NDArray[np.bool_]:
    """Where there is a candidate."""
    import numpy as np

    known: npt.NDArray[np.bool_] = np.logical_or.reduce([np.isfinite(values) for values in scores.values()], axis=0)
    return known


def _filled(values: Scores, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The scores of a method with its worst one where it has none of a candidate, and 0 where there is no candidate."""
    import numpy as np

    there = np.isfinite(values)
    worst = np.where(there, values, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    worst = np.where(np.isfinite(worst), worst, 0)
    filled: npt.NDArray[np.float64] = np.where(there, values, np.where(known, worst, 0)).astype(np.float64)
    return filled
