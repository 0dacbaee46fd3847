"""Search among compressed token vectors: from the centroids near a query's tokens to few candidate rows, then exact MaxSim of those.

After PLAID, Santhanam et al. 2022, arXiv 2205.09707, section 4: candidates from the lists of the nearest centroids, pruned before vectors
are decoded in full. Where PLAID prunes by centroids alone, here the heads of residuals are compared too, of the tokens near the query's.
Knows no ids and writes no files. One query at a time, on the caller's thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from homefire.retrieval.late_codec import Asked, Codec, Compressed
from homefire.retrieval.late_files import CODES, HEADS, SCALES, TAILS, Mask, TokenFiles, ranges
from homefire.retrieval.maxsim import blocks, largest_of_each, tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from homefire.retrieval.encoder import Vectors
    from homefire.retrieval.late_codec import Bytes, Codes, Halves

    Rows: TypeAlias = npt.NDArray[np.int64]

_BLOCK = 2**18
"""Numbers that are decoded at once: they stay in the processor's cache until they are compared."""
_PLAIN_BLOCK = 4096
_TOKENS = 4
"""A query is padded to a multiple of so many tokens: 13 take a processor longer than 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard a search looks: more finds more of what an exhaustive one finds, and takes longer."""

    probes: int = 12
    """Centroids whose lists are looked into for each token of the query."""
    near: int = 4
    """Of these, the centroids whose tokens count as near to it."""
    guessed: int = 1024
    """Listed rows whose near tokens are compared by the heads of their residuals."""
    scored: int = 32
    """Rows whose vectors are decoded and compared in full; twice as many as are wanted, if that is more."""
    listed_behind: float = 0.27
    """Listed rows that are behind the best one by more than this share of its score are left out while twice `scored` stay."""
    guessed_behind: float = 0.25
    """The same of those that were guessed, while three quarters of `scored` stay. A large number leaves out none."""


def search(
    files: TokenFiles, query: Vectors, k: int, mask: Mask, effort: Effort, asked: Asked | None = None, device: str = "cpu"
) -> tuple[Vectors, Rows]:
    """The `k` best rows for a query with their scores, best first; fewer where there are fewer with tokens.

    Args:
        files: Of any codec or none.
        query: Shape `(n_tokens, dim)`.
        k: How many.
        mask: Rows that may be returned.
        effort: How hard to look.
        asked: What the codec makes of the query, where it is known already.
        device: Where to decode and compare.
    """
    import numpy as np

    if not len(query) or not files.report.tokens:
        return np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
    if files.codec is None:
        rows = filled(files, mask)
    else:
        asked, wanted = asked or files.codec.ask(query), max(effort.scored, 2 * k)
        least = max(3 * effort.scored // 4, k + k // 4)
        few = _allowed(files, mask) <= wanted
        rows = filled(files, mask) if few else _promising(files, files.codec, asked, wanted, mask, effort, least)
    scores = exact(files, query, rows, asked, device)
    order = best(scores, k)
    return scores[order], rows[order]


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
    return _promising(files, files.codec, files.codec.ask(query), count, mask, effort)


def exact(files: TokenFiles, query: Vectors, rows: Rows, asked: Asked | None = None, device: str = "cpu") -> Vectors:
    """MaxSim of a query with the decoded vectors of some rows.

    Args:
        files: Of any codec or none.
        query: Shape `(n_tokens, dim)`.
        rows: Shape `(n,)`.
        asked: What the codec makes of the query, where it is known already.
        device: Where to decode and compare.

    Returns:
        float32 of shape `(n,)`; 0 for rows without tokens and for a query without.
    """
    import numpy as np

    offsets = _offsets(files.lengths(rows))
    if not len(query) or not offsets[-1]:
        return np.zeros(len(rows), dtype=np.float32)
    if files.codec is None:
        return np.concatenate([_plain(files, query, rows[first:last], device) for first, last in blocks(offsets, _PLAIN_BLOCK)])
    asked = asked or files.codec.ask(query)
    if device != "cpu":
        return _on_device(files.codec, asked, files.compressed(rows), offsets, device)
    codes, heads, tails, scales = (files.gather(name, rows) for name in (CODES, HEADS, TAILS, SCALES))
    return _summed(tensor(_products(files.codec, asked, codes, (heads, tails), scales)), offsets)


def filled(files: TokenFiles, mask: Mask) -> Rows:
    """The rows that may be returned and have tokens."""
    import numpy as np

    has_tokens = files.offsets[1:] > files.offsets[:-1]
    return np.flatnonzero(has_tokens if mask is None else has_tokens & mask)


def _allowed(files: TokenFiles, mask: Mask) -> int:
    """At most how many rows may be returned."""
    import numpy as np

    return files.filled_rows if mask is None else int(np.count_nonzero(mask))


def best(scores: Vectors, count: int) -> Rows:
    """Where the largest scores are, best first, at most `count`; the first of equal ones first."""
    import numpy as np

    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    border = np.partition(scores, len(scores) - count)[len(scores) - count]
    places = np.flatnonzero(scores >= border)
    return places[np.argsort(-scores[places], kind="stable")][:count]


def _near_best(scores: Vectors, count: int, least: int, behind: float) -> Rows:
    """As `best`, without those that are behind the best one by more than this share of its score, while `least` stay."""
    import numpy as np

    order = best(scores, count)
    if len(order) <= least:
        return order
    first = scores[order[0]]
    return order[: max(least, int(np.count_nonzero(scores[order] >= first - behind * abs(first))))]


def _promising(files: TokenFiles, codec: Codec, asked: Asked, count: int, mask: Mask, effort: Effort, least: int | None = None) -> Rows:
    """The rows that answer the query best by centroids and heads, best first.

    At most `count`: those far behind the best are left out while `least` stay; None leaves out none.
    """
    import numpy as np

    allowed, guessed = _allowed(files, mask), max(effort.guessed, 2 * count)
    probes = min(effort.probes, codec.centroid_count)
    while True:
        nearest = np.argpartition(asked.by_centroid, -probes, axis=1)[:, -probes:]
        rows = filled(files, mask) if allowed <= guessed else _listed(files, asked.by_centroid, nearest, mask, guessed, 2 * count, effort)
        if len(rows) >= min(count, allowed) or probes == codec.centroid_count:
            scores = _guesses(files, codec, asked, rows, nearest, min(max(effort.near, probes // 4), probes))
            return rows[_near_best(scores, count, count if least is None else least, effort.guessed_behind)]
        probes = min(4 * probes, codec.centroid_count)


def _listed(files: TokenFiles, by_centroid: Vectors, nearest: Rows, mask: Mask, count: int, least: int, effort: Effort) -> Rows:
    """The rows that are listed under the nearest centroids of many tokens, best first.

    A token of the query that finds nothing in a row counts as the farthest of its centroids: the row's tokens are near none of them.

    Args:
        files: With a codec.
        by_centroid: Shape `(n_tokens, n_centroids)`.
        nearest: Centroids of each token, of shape `(n_tokens, probes)`.
        mask: Rows that may be returned.
        count: At most how many.
        least: How many of them stay however far they are behind.
        effort: Says what is far.
    """
    import numpy as np

    found = np.take_along_axis(by_centroid, nearest, axis=1)
    begins = files.list_offsets[nearest.ravel()]
    lengths = files.list_offsets[nearest.ravel() + 1] - begins
    listed = files.list_rows[ranges(begins, lengths)]
    column = np.zeros(files.report.rows, dtype=np.int64)
    column[listed] = 1
    if mask is not None:
        column[~mask] = 0
    rows = np.flatnonzero(column)
    column[:] = len(rows)
    column[rows] = np.arange(len(rows))
    guesses = np.repeat(found.min(axis=1), len(rows) + 1)  # of shape (tokens, rows + 1), the last column for what the mask leaves out
    first = np.repeat(np.arange(len(nearest)) * (len(rows) + 1), nearest.shape[1])
    np.maximum.at(guesses, np.repeat(first, lengths) + column[listed], np.repeat(found.ravel(), lengths))
    scores: Vectors = guesses.reshape(len(nearest), -1)[:, :-1].sum(axis=0)
    return rows[_near_best(scores, count, least, effort.listed_behind)]


def _guesses(files: TokenFiles, codec: Codec, asked: Asked, rows: Rows, nearest: Rows, near: int) -> Vectors:
    """MaxSim of the query with those tokens of some rows that are near to any of its tokens, by centroids and heads.

    A token of the query that finds nothing better counts as the farthest of the centroids that are near to it, as in WARP, Scheerer et al.
    2025, arXiv 2501.17788 (WARP-select).

    Args:
        files: With a codec.
        codec: Of the files.
        asked: The query.
        rows: Shape `(n_rows,)`.
        nearest: Centroids of each token, of shape `(n_tokens, probes)`.
        near: How many of them are near.

    Returns:
        float32 of shape `(n_rows,)`.
    """
    import numpy as np

    found = np.take_along_axis(asked.by_centroid, nearest, axis=1)
    nearer = np.argpartition(found, -near, axis=1)[:, -near:]
    least = np.take_along_axis(found, nearer, axis=1).min(axis=1)
    probed = np.zeros(codec.centroid_count, dtype=np.bool_)
    probed[np.take_along_axis(nearest, nearer, axis=1)] = True
    lengths = files.lengths(rows)
    places = ranges(files.offsets[rows], lengths)
    kept = np.flatnonzero(probed[np.take(files.columns[CODES], places)])
    offsets = kept.searchsorted(_offsets(lengths))
    places = np.take(places, kept)
    codes, heads, scales = (np.take(files.columns[name], places, axis=0) for name in (CODES, HEADS, SCALES))
    largest = largest_of_each(tensor(_products(codec, asked, codes, (heads,), scales)), offsets)
    scores: Vectors = np.maximum(largest, least[:, None]).sum(axis=0)
    return scores


def _products(codec: Codec, asked: Asked, codes: Codes, residuals: Sequence[Bytes], scales: Halves) -> Vectors:
    """Inner products of a query's tokens with encoded ones, on the CPU.

    With q the query's token, c the centroid, r the residual and s the scale, one is s (q c + q r): q c is known for every centroid, and so
    only residuals are decoded.

    Args:
        codec: Of the tokens.
        asked: The query.
        codes: Of shape `(n,)`.
        residuals: One or more runs of their bytes, each of shape `(n, n_bytes)`, from the first on. What is missing counts as 0.
        scales: Of shape `(n,)`.

    Returns:
        float32 of shape `(n_query_tokens, n)`.
    """
    import numpy as np

    count = len(asked.spread)
    padded = -(-count // _TOKENS) * _TOKENS
    spread = np.zeros((padded, asked.spread.shape[1]), dtype=np.float32)
    spread[:count] = asked.spread
    products = np.zeros((padded, len(codes)), dtype=np.float32)
    products[:count] = np.take(asked.by_centroid, codes, axis=1)  # fails at a code that is no centroid's, as damaged files have
    first = 0
    for run in residuals:
        numbers = run.shape[1] * codec.table.shape[1]
        rows = max(_BLOCK // max(numbers, 1), 1)
        decoded = np.empty((min(rows, len(run)), run.shape[1], codec.table.shape[1]), dtype=np.float32)
        left, right = tensor(spread)[:, first : first + numbers], tensor(decoded).view(len(decoded), numbers).T
        for start in range(0, len(run), rows):
            block = run[start : start + rows]
            np.take(codec.table, block, axis=0, out=decoded[: len(block)], mode="clip")  # every byte is in it; this mode needs no copy
            tensor(products)[:, start : start + rows].addmm_(left, right[:, : len(block)])
        first += numbers
    products *= scales.astype(np.float32)
    return products[:count]


def _on_device(codec: Codec, asked: Asked, tokens: Compressed, offsets: npt.NDArray[np.int64], device: str) -> Vectors:
    """MaxSim of a query with compressed rows, decoded and compared on a device with memory of its own."""
    import torch

    codes = torch.from_numpy(tokens.codes.astype("int64")).to(device)
    vectors = tensor(codec.table, device)[tensor(tokens.residuals, device).long()].view(len(codes), -1)
    products = tensor(asked.spread, device) @ vectors.T + tensor(asked.by_centroid, device)[:, codes]
    return _summed(products * tensor(tokens.scales, device).float(), offsets)


def _plain(files: TokenFiles, query: Vectors, rows: Rows, device: str) -> Vectors:
    """MaxSim of a query with rows that no codec compressed."""
    found = files.read(rows)
    return _summed(tensor(query, device) @ tensor(found.vectors, device).T, found.offsets)


def _summed(products: torch.Tensor, offsets: npt.NDArray[np.int64]) -> Vectors:
    """MaxSim from inner products of shape `(n_query_tokens, n_tokens)`, for the rows between the offsets."""
    scores: Vectors = largest_of_each(products, offsets).sum(axis=0)
    return scores


def _offsets(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where runs of these lengths begin and end."""
    import numpy as np

    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
