"""Token pooling: tokens of a passage that say nearly the same become one, so that a store has fewer to keep and to compare.

Clavié et al. 2024, arXiv 2409.14683, section 3: hierarchical clustering by Ward's method, and each cluster replaced by its mean. Knows no
store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from homefire.errors import InputError
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.encoder import Vectors

    Distances = npt.NDArray[np.float64]


def pool_tokens(passages: TokenVectors, factor: float, *, protected: int = 1) -> TokenVectors:
    """Leaves about one of `factor` tokens of each passage.

    Args:
        passages: Vectors of length 1.
        factor: 1 leaves all; 2 halves what is kept and loses little, as the paper finds.
        protected: First tokens of a passage that are not pooled, such as the one that stands for the whole.

    Returns:
        As many passages; vectors of length 1.

    Raises:
        InputError: `factor` is below 1.
    """
    import numpy as np

    if factor < 1:
        raise InputError(f"The pool factor is {factor}; it must be at least 1, which pools nothing.")
    if factor == 1:
        return passages
    pooled = []
    for number in range(len(passages)):
        vectors = passages[number]
        rest = vectors[protected:]
        clusters = max(int(len(rest) // factor), 1)
        if clusters < len(rest):
            labels = ward(rest, clusters)
            means = np.zeros((clusters, passages.dim), dtype=np.float32)
            np.add.at(means, labels, rest)
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            vectors = np.concatenate([vectors[:protected], means / np.where(lengths > 0, lengths, 1)])
        pooled.append(vectors)
    return TokenVectors.of(pooled, passages.dim)


def ward(vectors: Vectors, clusters: int) -> npt.NDArray[np.int64]:
    """Clusters vectors of length 1 by Ward's method on their cosine distance.

    Chains of nearest neighbours, with the update of Lance and Williams: Murtagh and Legendre 2014, arXiv 1111.6285, section 3.

    Args:
        vectors: Shape `(n, dim)`.
        clusters: How many, from 1 to `n`.

    Returns:
        For each vector the number of its cluster, from 0, in the order in which clusters begin.
    """
    import numpy as np

    merges = _merges(np.clip(1 - vectors @ vectors.T, 0, 2).astype(np.float64) ** 2)
    parent = np.arange(len(vectors))
    for _, first, second in sorted(merges)[: len(vectors) - clusters]:
        parent[_root(parent, second)] = _root(parent, first)
    roots = [_root(parent, number) for number in range(len(vectors))]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[root] for root in roots], dtype=np.int64)


def _merges(squares: Distances) -> list[tuple[float, int, int]]:
    """All merges, each as its height and one member of either cluster, from squared distances, which are used up."""
    import numpy as np

    count = len(squares)
    sizes = np.ones(count)
    np.fill_diagonal(squares, np.inf)
    merges: list[tuple[float, int, int]] = []
    chain: list[int] = []
    while len(merges) < count - 1:
        if not chain:
            chain.append(int(np.flatnonzero(sizes)[0]))
        last = chain[-1]
        nearest = int(squares[last].argmin())
        if len(chain) > 1 and squares[last, chain[-2]] <= squares[last, nearest]:
            nearest = chain[-2]
        if len(chain) < 2 or nearest != chain[-2]:
            chain.append(nearest)
            continue
        del chain[-2:]
        height = squares[last, nearest]
        merges.append((float(height), last, nearest))
        total = sizes + sizes[last] + sizes[nearest]
        joined = ((sizes + sizes[last]) * squares[last] + (sizes + sizes[nearest]) * squares[nearest] - sizes * height) / total
        squares[last], squares[:, last] = joined, joined
        squares[last, last] = np.inf
        squares[nearest], squares[:, nearest] = np.inf, np.inf
        sizes[last], sizes[nearest] = sizes[last] + sizes[nearest], 0
    return merges


def _root(parent: npt.NDArray[np.int64], number: int) -> int:
    while parent[number] != number:
        parent[number] = number = int(parent[parent[number]])
    return number
