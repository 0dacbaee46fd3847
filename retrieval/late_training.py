"""When the token vectors of a store are compressed, and when their codec is made anew.

Knows no files: says whether, and trains on a sample of what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from homefire.retrieval.late_codebook import PER_CENTROID, Bits, centroids_for
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_files import Mask
from homefire.retrieval.late_part import TokenPart
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    from homefire.retrieval.encoder import Vectors

COMPRESS_FROM = 2**15
"""Tokens from which a codec is worth its training; fewer are kept as float16, which takes 25 MB for 384 dimensions."""
MOST_DRIFT = 1.15
"""How much farther from the centroids than in training the vectors may be, before a codec is made anew."""
MOST_GROWTH = 16
"""How many times as many tokens as a codec was made for there may be: search takes longer with longer lists."""


def first_codec(
    new: TokenVectors, parts: Sequence[tuple[TokenPart, Mask]], bits: Bits, *, seed: int = 0, device: str | None = None
) -> Codec | None:
    """A codec for a store that has none yet; None while it has few tokens.

    Args:
        new: Token vectors that are being added.
        parts: What the store has, with the rows that count.
        bits: For each number of a vector.
        seed: Of every draw.
        device: Where to compute; None is the CPU.
    """
    total = len(new.vectors) + sum(part.report.tokens for part, _ in parts)
    return (
        None if total < COMPRESS_FROM else Codec.train(sample(new, parts, seed=seed), bits, expected_tokens=total, seed=seed, device=device)
    )


def worth_renewing(codec: Codec, parts: Sequence[TokenPart]) -> bool:
    """Whether the tokens of some parts have become too many for a codec, or too far from its centroids."""
    encoded = [part.report for part in parts if part.report.codec == codec.fingerprint]
    tokens = sum(report.tokens for report in encoded)
    return tokens > MOST_GROWTH * codec.training.expected_tokens or drift(codec, parts) > MOST_DRIFT


def drift(codec: Codec, parts: Sequence[TokenPart]) -> float:
    """How much farther from the codec's centroids the tokens of some parts are than those it was trained on were; 1 is as far."""
    encoded = [part.report for part in parts if part.report.codec == codec.fingerprint and part.report.tokens]
    tokens = sum(report.tokens for report in encoded)
    return codec.drift(sum(report.residual_length * report.tokens for report in encoded) / tokens) if tokens else 1.0


def sample(new: TokenVectors, parts: Sequence[tuple[TokenPart, Mask]], *, seed: int) -> Vectors:
    """Token vectors of new texts and of rows that count, each as likely, as many as a codec for all of them wants."""
    import numpy as np

    draw = np.random.default_rng(seed)
    kept = [(part, np.arange(part.rows) if mask is None else np.flatnonzero(mask)) for part, mask in parts]
    total = len(new.vectors) + sum(part.token_count(rows) for part, rows in kept)
    share = min(1.0, centroids_for(total) * (PER_CENTROID + 10) / max(total, 1))
    drawn = [part.read(rows[draw.random(len(rows)) < share]).vectors for part, rows in kept]
    taken = new.vectors if share == 1 else new.vectors[draw.random(len(new.vectors)) < share]
    return np.concatenate([*drawn, taken])
