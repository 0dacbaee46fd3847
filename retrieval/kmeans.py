"""k-means: centroids that stand for many vectors.

Lloyd's algorithm from a seeded draw of the vectors themselves. Knows no codec and no tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 2048
"""Vectors that are compared with all centroids at once."""


def kmeans(vectors: torch.Tensor, count: int, *, seed: int, rounds: int = 6) -> torch.Tensor:
    """Centroids of the vectors by Euclidean distance.

    A centroid that is nearest to no vector takes the place of one of the vectors that are farthest from theirs. On a CPU equal arguments
    give equal centroids.

    Args:
        vectors: float32 of shape `(n, dim)`, on the device that does the work.
        count: Centroids wanted; where there are fewer vectors, each vector is one.
        seed: Of the first draw.
        rounds: How often vectors are assigned and centroids moved.

    Returns:
        float32 of shape `(min(count, n), dim)`.
    """
    import torch

    count = min(count, len(vectors))
    draw = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:count]
    centroids = vectors[draw.to(vectors.device)].clone()
    for _ in range(rounds if count < len(vectors) else 0):
        nearest, distances = assign(vectors, centroids)
        sizes = torch.bincount(nearest, minlength=count)
        means = torch.zeros_like(centroids).index_add_(0, nearest, vectors) / sizes.clamp(min=1)[:, None]
        empty = (sizes == 0).nonzero().flatten()
        means[empty] = vectors[distances.topk(len(empty)).indices]
        centroids = means
    return centroids


def assign(vectors: torch.Tensor, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest centroid of each vector.

    Args:
        vectors: Shape `(n, dim)`.
        centroids: Shape `(n_centroids, dim)`, at least one.

    Returns:
        Number of the centroid, int64 of shape `(n,)`, and the squared distance to it, float32 of the same shape.
    """
    import torch

    halves = centroids.square().sum(dim=1) / -2
    nearest = torch.empty(len(vectors), dtype=torch.int64, device=vectors.device)
    distances = torch.empty(len(vectors), dtype=torch.float32, device=vectors.device)
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        best = torch.addmm(halves[None], vectors[block], centroids.T).max(dim=1)
        nearest[block] = best.indices
        distances[block] = vectors[block].square().sum(dim=1) - 2 * best.values  # |v - c|^2 = |v|^2 - 2 (v c - |c|^2 / 2)
    return nearest, distances
