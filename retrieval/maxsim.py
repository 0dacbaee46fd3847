"""MaxSim: how well the token vectors of a passage answer those of a query, compared one by one.

Khattab and Zaharia 2020, ColBERT, arXiv 2004.12832, section 3.3: the sum over the query's tokens of the largest inner product with any of
the passage's tokens. Knows no store and no compression.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from homefire.errors import MissingExtra
from homefire.retrieval.one_core import on_one_core
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors

    Offsets = npt.NDArray[np.int64]

_QUERY_TOKENS = 256
_PASSAGE_TOKENS = 4096
"""Tokens that are compared at once on a CPU: the products of a block stay in its cache."""
_ON_DEVICE = 16
"""Times as many of both on a device with memory of its own."""
_SMALL = 2e9
"""Multiplications up to which one core does the work."""


def maxsim(queries: TokenVectors, passages: TokenVectors, *, device: str | None = None) -> Vectors:
    """Scores every query against every passage: exact, exhaustive, a block at a time.

    Args:
        queries: Their token vectors.
        passages: Their token vectors.
        device: Where to compute: `cpu`, `cuda`, ...; None is the CPU.

    Returns:
        float32 of shape `(n_queries, n_passages)`; higher is better. 0 where the query or the passage has no tokens.

    Raises:
        InputError: the vectors of the two have different dimensions.
        MissingExtra: torch is not installed.
    """
    import numpy as np

    if len(passages.vectors):
        queries.require(passages.dim, "the queries")
    scores = np.zeros((len(queries), len(passages)), dtype=np.float32)
    if not scores.size or not queries.vectors.size or not passages.vectors.size:
        return scores
    work = len(queries.vectors) * passages.vectors.size
    if work <= _SMALL and device in (None, "cpu"):
        on_one_core(lambda _: _fill(scores, queries, passages, "cpu"), [None])
    else:
        _fill(scores, queries, passages, device or "cpu")
    return scores


def _fill(scores: Vectors, queries: TokenVectors, passages: TokenVectors, device: str) -> None:
    factor = 1 if device == "cpu" else _ON_DEVICE
    query_blocks = list(blocks(queries.offsets, _QUERY_TOKENS * factor))
    for first, last in blocks(passages.offsets, _PASSAGE_TOKENS * factor):
        begin, end = passages.offsets[first], passages.offsets[last]
        vectors = tensor(passages.vectors[begin:end], device)
        offsets = passages.offsets[first : last + 1] - begin
        for top, bottom in query_blocks:
            start, stop = queries.offsets[top], queries.offsets[bottom]
            products = tensor(queries.vectors[start:stop], device) @ vectors.T  # (n_query_tokens, n_passage_tokens)
            best = largest_of_each(products, offsets)  # (n_query_tokens, n_passages)
            scores[top:bottom, first:last] = sums_of_each(best, queries.offsets[top : bottom + 1] - start)


def blocks(offsets: Offsets, most: int) -> Iterator[tuple[int, int]]:
    """Runs of texts that have at most `most` tokens together, or are one text."""
    first, count = 0, len(offsets) - 1
    while first < count:
        last = int(offsets.searchsorted(offsets[first] + most, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def tensor(array: npt.NDArray[Any], device: str = "cpu") -> torch.Tensor:
    """The array as a tensor; on the CPU without a copy where the array may be written."""
    import numpy as np

    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", "retrieval", "Late interaction") from error
    return torch.from_numpy(array if array.flags.writeable else np.array(array)).to(device)


def largest_of_each(products: torch.Tensor, offsets: Offsets) -> Vectors:
    """For each row the largest value of each text.

    Args:
        products: Shape `(n_rows, n_tokens)`, on any device.
        offsets: Shape `(n_texts + 1,)`, where each text's columns begin and end; from 0 to `n_tokens`.

    Returns:
        float32 of shape `(n_rows, n_texts)`; 0 for texts without tokens.
    """
    import numpy as np

    lengths = np.diff(offsets)
    filled = lengths > 0
    if products.device.type == "cpu":
        best = np.maximum.reduceat(products.numpy(), offsets[:-1][filled], axis=1) if filled.any() else None
    else:
        best = _scattered(products, lengths[filled])
    if best is not None and filled.all():
        return best
    every = np.zeros((len(products), len(lengths)), dtype=np.float32)
    if best is not None:
        every[:, filled] = best
    return every


def _scattered(products: torch.Tensor, lengths: Offsets) -> Vectors:
    """`largest_of_each` of texts that have tokens, where the products are."""
    import torch

    text_of = torch.repeat_interleave(torch.from_numpy(lengths).to(products.device))
    best = products.new_full((len(products), len(lengths)), -torch.inf)
    best.scatter_reduce_(1, text_of.expand_as(products), products, "amax")
    return best.cpu().numpy()


def sums_of_each(best: Vectors, offsets: Offsets) -> Vectors:
    """Sums the rows of each query.

    Args:
        best: Shape `(n_query_tokens, n_texts)`.
        offsets: Shape `(n_queries + 1,)`, where each query's rows begin and end.

    Returns:
        float32 of shape `(n_queries, n_texts)`; 0 for queries without tokens.
    """
    import numpy as np

    sums = np.zeros((len(offsets) - 1, best.shape[1]), dtype=np.float32)
    filled = np.diff(offsets) > 0
    if filled.any():
        sums[filled] = np.add.reduceat(best, offsets[:-1][filled], axis=0)
    return sums
