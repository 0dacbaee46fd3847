"""How good rankings are: nDCG and recall, as trec_eval counts them. Run it with: .venv/bin/python scripts/bench_retrieval.py

Relevance is yes or no. A passage that is ranked twice counts once, at its first place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import log2
from statistics import fmean

DEPTHS = (1, 5, 20)
"""Where recall is measured."""


def ndcg(ranked: Sequence[str], relevant: Collection[str], k: int = 10) -> float:
    """Gain of the relevant passages among the first `k`, discounted by the logarithm of their place: a share of the best possible, 0 to 1.

    Järvelin and Kekäläinen 2002, with gains of 0 and 1; a query without relevant passages has 0.
    """
    best = sum(1 / log2(place + 1) for place in range(1, min(k, len(relevant)) + 1))
    found = sum(1 / log2(place + 1) for place, name in enumerate(_once(ranked)[:k], start=1) if name in relevant)
    return found / best if best else 0.0


def recall(ranked: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant passages that are among the first `k`: 0 to 1; a query without relevant passages has 0."""
    return sum(name in relevant for name in _once(ranked)[:k]) / len(relevant) if relevant else 0.0


def quality(rankings: Sequence[Sequence[str]], relevant: Sequence[Collection[str]]) -> dict[str, float]:
    """Means over queries: `nDCG@10`, and recall as `R@1`, `R@5` and `R@20`.

    Args:
        rankings: For each query the ids of passages, best first; 20 or more where there are as many.
        relevant: For each query the ids of the relevant ones.
    """
    pairs = list(zip(rankings, relevant, strict=True))
    measured = {"nDCG@10": fmean(ndcg(ranked, wanted) for ranked, wanted in pairs)}
    return measured | {f"R@{k}": fmean(recall(ranked, wanted, k) for ranked, wanted in pairs) for k in DEPTHS}


def _once(ranked: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ranked))
