"""Search among compressed token vectors: from the centroids near a query's tokens to few candidate rows, then exact MaxSim of those.

After PLAID, Santhanam et al. 2022, arXiv 2205.09707, section 4: candidates from the lists of the nearest centroids, pruned by what the
centroids alone say, then decompressed and scored. Knows no ids and writes no files. One query at a time, on the caller's thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from homefire.retrieval.late_codec import Compressed
from homefire.retrieval.late_files import CODES, RESIDUALS, SCALES, Mask, TokenFiles
from homefire.retrieval.maxsim import blocks, largest_of_each, tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors
    from homefire.retrieval.late_codec import Bytes, Codec

    Rows: TypeAlias = npt.NDArray[np.int64]

_BLOCK = 1024
"""Tokens that are decoded at once: their vectors stay in the processor's cache until they are compared."""
_PLAIN_BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard a search looks: more finds more of what an exhaustive one finds, and takes longer."""

    probes: int = 16
    """Centroids that are looked into for each token of the query."""
    pruned: int = 256
    """Rows that the lists of these centroids leave."""
    scored: int = 48
    """Rows whose vectors are decoded and compared, at least; three times as many as are wanted, if that is more."""


def candidates(files: TokenFiles, query: Vectors, count: int, mask: Mask, effort: Effort) -> Rows:
    """The rows that are most promising for a query, best first, at most `count`.

    Args:
        files: Without a codec, the first rows that have tokens are given.
        query: Shape `(n_tokens, dim)`; none are promising for one without tokens.
        count: How many.
        mask: Rows that may be returned.
        effort: `scored` has no meaning here.
    """
    if files.codec is None or not len(query):
        return filled(files, mask)[: count if len(query) else 0]
    return _pruned(files, centroid_scores(files.codec, query), count, mask, effort)


def search(files: TokenFiles, query: Vectors, k: int, mask: Mask, effort: Effort, device: str = "cpu") -> tuple[Vectors, Rows]:
    """The `k` best rows for a query with their scores, best first; fewer where there are fewer with tokens."""
    import numpy as np

    if not len(query) or not files.report.tokens:
        return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
    by_centroid = None if files.codec is None else centroid_scores(files.codec, query)
    wanted = max(effort.scored, 3 * k)
    rows = filled(files, mask) if by_centroid is None else _pruned(files, by_centroid, wanted, mask, effort)
    scores = exact(files, query, rows, by_centroid, device)
    order = best(scores, k)
    return scores[order], rows[order]


def exact(files: TokenFiles, query: Vectors, rows: Rows, by_centroid: Vectors | None = None, device: str = "cpu") -> Vectors:
    """MaxSim of a query with the decoded vectors of some rows.

    With q the query's token, c the centroid, r the residual and s the scale, it is s (q c + q r): q c is known for every centroid, and so
    only residuals are decoded.

    Args:
        files: Of any codec or none.
        query: Shape `(n_tokens, dim)`.
        rows: Shape `(n,)`.
        by_centroid: What `centroid_scores` gives, where it is known already.
        device: Where to decode and compare.

    Returns:
        float32 of shape `(n,)`; 0 for rows without tokens and for a query without.
    """
    import numpy as np

    offsets = np.concatenate([[0], np.cumsum(files.offsets[rows + 1] - files.offsets[rows])]).astype(np.int64)
    if not len(query) or not offsets[-1]:
        return np.zeros(len(rows), dtype=np.float32)
    if files.codec is None:
        return np.concatenate([_plain(files, query, rows[first:last], device) for first, last in blocks(offsets, _PLAIN_BLOCK)])
    if by_centroid is None:
        by_centroid = centroid_scores(files.codec, query)
    codes, residuals, scales = (files.gather(name, rows) for name in (CODES, RESIDUALS, SCALES))
    if device != "cpu":
        return _on_device(files.codec, query, by_centroid, Compressed(codes, residuals, scales), offsets, device)
    products = _residual_products(files.codec, query, residuals)
    products += np.take(by_centroid, codes, axis=1)
    products *= scales.astype(np.float32)
    return _summed(tensor(products), offsets)


def centroid_scores(codec: Codec, query: Vectors) -> Vectors:
    """Inner products with all centroids: float32 of shape `(n_tokens, n_centroids)`."""
    return (tensor(query) @ tensor(codec.centroids).T).numpy()


def filled(files: TokenFiles, mask: Mask) -> Rows:
    """The rows that may be returned and have tokens."""
    import numpy as np

    has_tokens = files.offsets[1:] > files.offsets[:-1]
    return np.flatnonzero(has_tokens if mask is None else has_tokens & mask)


def best(scores: Vectors, count: int) -> Rows:
    """Where the largest scores are, best first, at most `count`; the first of equal ones first."""
    import numpy as np

    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    border = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= border)
    return places[np.argsort(-scores[places], kind="stable")][:count]


def _pruned(files: TokenFiles, by_centroid: Vectors, count: int, mask: Mask, effort: Effort) -> Rows:
    """The rows whose centroids answer the query best, best first, at most `count`."""
    import numpy as np

    centroids = by_centroid.shape[1]
    wanted = max(effort.pruned, 2 * count)
    if (files.filled_rows if mask is None else np.count_nonzero(mask)) <= wanted:
        rows = filled(files, mask)
    else:
        probes = min(effort.probes, centroids)
        rows, scores = _listed(files, by_centroid, mask, probes)
        while len(rows) < count and probes < centroids:
            probes = min(4 * probes, centroids)
            rows, scores = _listed(files, by_centroid, mask, probes)
        rows = rows[best(scores, wanted)]
    offsets = np.concatenate([[0], np.cumsum(files.offsets[rows + 1] - files.offsets[rows])]).astype(np.int64)
    products = np.take(by_centroid, files.gather(CODES, rows), axis=1)
    scores = _summed(tensor(products), offsets)
    return rows[best(scores, count)]


def _listed(files: TokenFiles, by_centroid: Vectors, mask: Mask, probes: int) -> tuple[Rows, Vectors]:
    """The rows in the lists of the nearest centroids of each token, and a first guess of their scores.

    A token of the query that found nothing in a row counts as much as the farthest centroid that it looked into: the row's tokens are near
    none of those.
    """
    import numpy as np

    tokens, centroids = by_centroid.shape
    nearest = np.argpartition(by_centroid, centroids - probes, axis=1)[:, centroids - probes :]
    found = np.take_along_axis(by_centroid, nearest, axis=1)
    begins = files.list_offsets[nearest.ravel()]
    lengths = files.list_offsets[nearest.ravel() + 1] - begins
    ends = np.cumsum(lengths)
    listed = files.list_rows[np.repeat(begins - ends + lengths, lengths) + np.arange(ends[-1])]
    column = np.zeros(files.report.rows, dtype=np.int64)
    column[listed] = 1
    if mask is not None:
        column[~mask] = 0
    rows = np.flatnonzero(column)
    column[:] = len(rows)
    column[rows] = np.arange(len(rows))
    guesses = np.repeat(found.min(axis=1), len(rows) + 1)  # of shape (tokens, rows + 1), the last column for what the mask leaves out
    place = np.repeat(np.repeat(np.arange(tokens) * (len(rows) + 1), probes), lengths) + column[listed]
    np.maximum.at(guesses, place, np.repeat(found.ravel(), lengths))
    return rows, guesses.reshape(tokens, -1)[:, :-1].sum(axis=0)


def _residual_products(codec: Codec, query: Vectors, residuals: Bytes) -> Vectors:
    """Inner products of the query's tokens with residuals, on the CPU: float32 of shape `(n_tokens, n)`."""
    import numpy as np

    products = np.empty((len(query), len(residuals)), dtype=np.float32)
    spread = tensor(codec.spread_query(query))
    decoded = np.empty((min(_BLOCK, len(residuals)), residuals.shape[1], codec.table.shape[1]), dtype=np.float32)
    for start in range(0, len(residuals), _BLOCK):
        block = residuals[start : start + _BLOCK]
        vectors = decoded[: len(block)]
        np.take(codec.table, block, axis=0, out=vectors, mode="clip")  # every byte is in the table; this mode needs no copy
        products[:, start : start + len(block)] = spread @ tensor(vectors).view(len(block), -1).T
    return products


def _plain(files: TokenFiles, query: Vectors, rows: Rows, device: str) -> Vectors:
    """MaxSim of a query with rows that no codec compressed."""
    found = files.read(rows)
    return _summed(tensor(query, device) @ tensor(found.vectors, device).T, found.offsets)


def _on_device(
    codec: Codec, query: Vectors, by_centroid: Vectors, tokens: Compressed, offsets: npt.NDArray[np.int64], device: str
) -> Vectors:
    """MaxSim of a query with compressed rows, decoded and compared on a device with memory of its own."""
    import torch

    codes, residuals = torch.from_numpy(tokens.codes.astype("int64")).to(device), tensor(tokens.residuals, device)
    vectors = tensor(codec.table, device)[residuals.long()].view(len(codes), -1)
    products = tensor(codec.spread_query(query), device) @ vectors.T
    products += tensor(by_centroid, device)[:, codes]
    products *= tensor(tokens.scales, device).float()
    return _summed(products, offsets)


def _summed(products: torch.Tensor, offsets: npt.NDArray[np.int64]) -> Vectors:
    """MaxSim from inner products of shape `(n_query_tokens, n_tokens)`, for the rows between the offsets."""
    scores: Vectors = largest_of_each(products, offsets).sum(axis=0)
    return scores
