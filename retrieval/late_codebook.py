"""What a residual codec is made of, and how it is found from a sample of token vectors.

Santhanam et al. 2022, ColBERTv2, arXiv 2112.01488, section 3.3: centroids by k-means, and buckets for what is left of a vector. Knows no
bytes and no files.

Beyond the paper, residuals are turned to their principal axes, so that the first few numbers say most of an inner product; each axis has a
scale of its own; and the buckets begin as the paper's quantiles and move until each stands for the mean of what is in it (Lloyd 1982,
doi 10.1109/TIT.1982.1056489).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, sqrt
from typing import TYPE_CHECKING, Any, Literal

from homefire.errors import InputError
from homefire.retrieval.kmeans import assign, kmeans

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors

Bits = Literal[1, 2, 4]

MOST_CENTROIDS = 2**14
"""More would make training take long; with 100 million tokens each stands for 6,000."""
PER_CENTROID = 32
"""Vectors a centroid is trained on."""

_HELD_OUT = 8_000
"""Most vectors that say what residuals are like; the centroids are not trained on them."""
_HEAD_SHARE = 0.63
"""Share of the residuals' squared length that the head holds."""
_LLOYD_ROUNDS = 40
_SCALARS = 500_000
"""Most numbers that the buckets are found from."""
_TINY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a codec was trained on."""

    tokens: int
    """Vectors in the sample."""
    expected_tokens: int
    """Vectors that the number of centroids was chosen for."""
    residual_length: float
    """Mean distance to the nearest centroid of vectors that the centroids were not trained on, as a share of their length."""
    seed: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Codebook:
    """What a codec is made of. Centroids and residuals are on the turned axes."""

    bits: Bits
    """For each number of a residual."""
    head_dims: int
    """Axes, the first ones, that are enough for a good guess of an inner product; a multiple of 8, or all."""
    centroids: npt.NDArray[np.float16]
    """Of shape `(n_centroids, dim)`."""
    rotation: Vectors
    """float32 of shape `(dim, dim)`: a vector times it is the vector on the turned axes; its transpose turns back."""
    spread: Vectors
    """Scale of the residuals on each axis, float32 of shape `(dim,)`."""
    cutoffs: Vectors
    """Borders between the buckets of a scaled residual, float32 of shape `(2 ** bits - 1,)`."""
    weights: Vectors
    """What each bucket stands for, float32 of shape `(2 ** bits,)`."""
    training: Training


def centroids_for(tokens: int) -> int:
    """How many centroids are good for that many tokens: a power of 2 near twice the square root."""
    return min(1 << round(log2(2 * sqrt(max(tokens, 1)))), MOST_CENTROIDS)


def make_codebook(sample: Vectors, bits: Bits, *, expected_tokens: int, centroids: int | None, seed: int, device: str) -> Codebook:
    """Finds centroids, axes and buckets.

    Args:
        sample: Finite, of shape `(n, dim)`, at least one.
        bits: For each number of a residual.
        expected_tokens: Vectors that will be encoded.
        centroids: How many; None is as many as are good for the expected tokens. Fewer where the sample is too small for them.
        seed: Of every draw.
        device: Where to compute.
    """
    if bits not in (1, 2, 4):
        raise InputError(f"bits is {bits!r}; it must be 1, 2 or 4.")
    if centroids is not None and centroids < 1:
        raise InputError(f"centroids is {centroids}; it must be at least 1.")
    import torch

    order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(seed)).numpy()
    held_out = min(max(len(order) // 8, 1), _HELD_OUT)
    wanted = min(centroids or centroids_for(expected_tokens), MOST_CENTROIDS, max((len(order) - held_out) // 4, 1))
    trained_on = order[held_out:][: wanted * PER_CENTROID] if len(order) > 1 else order
    found = kmeans(torch.from_numpy(sample[trained_on]).to(device), wanted, seed=seed)
    vectors = torch.from_numpy(sample[order[:held_out]]).to(device)
    left = vectors - found[assign(vectors, found)[0]]
    rotation, spread = _axes(left)
    cutoffs, weights = _buckets(left @ rotation / spread, bits)
    length = float((left.norm(dim=1) / vectors.norm(dim=1).clamp(min=_TINY)).mean())
    return Codebook(
        bits=bits,
        head_dims=_head(spread),
        centroids=(found @ rotation).half().cpu().numpy(),
        rotation=_array(rotation),
        spread=_array(spread),
        cutoffs=_array(cutoffs),
        weights=_array(weights),
        training=Training(tokens=len(order), expected_tokens=expected_tokens, residual_length=length, seed=seed),
    )


def _axes(left: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The principal axes of residuals as columns, the widest first, and the spread along each.

    From few residuals not much is known about single axes: then the spreads are drawn to their mean.
    """
    import torch

    count, dim = left.shape
    variances, axes = torch.linalg.eigh((left.T @ left / count).double().cpu())
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    doubt = dim / (count + dim)
    spread = ((1 - doubt) * variances + doubt * variances.mean()).sqrt().clamp(min=_TINY)
    return axes.float().to(left.device), spread.float().to(left.device)


def _buckets(scaled: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Borders and values of buckets for scaled residuals of any shape."""
    import torch

    values = scaled.flatten()
    ordered = values[:: max(1, len(values) // _SCALARS)].double().sort().values
    count, levels = len(ordered), 2**bits
    sums = torch.nn.functional.pad(ordered.cumsum(0), (1, 0))
    middles = (torch.arange(levels, device=values.device) * 2 + 1) * count // (2 * levels)
    weights = ordered[middles]
    for _ in range(_LLOYD_ROUNDS):
        ends = torch.searchsorted(ordered, (weights[1:] + weights[:-1]) / 2)
        edges = torch.nn.functional.pad(torch.nn.functional.pad(ends, (1, 0)), (0, 1), value=count)
        sizes = edges.diff()
        weights = torch.where(sizes > 0, sums[edges].diff() / sizes.clamp(min=1), weights)
    return (weights[1:] + weights[:-1]) / 2, weights


def _head(spread: torch.Tensor) -> int:
    """How many axes the head has."""
    shares = spread.square().cumsum(0) / spread.square().sum()
    enough = int((shares < _HEAD_SHARE).sum()) + 1
    return min(-(-enough // 8) * 8, len(spread))


def _array(tensor: torch.Tensor) -> Any:
    """As float32 of NumPy."""
    return tensor.float().cpu().contiguous().numpy()
