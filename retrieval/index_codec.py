"""The codec of an index under change: trained once there are vectors enough, and again when they have outgrown it.

Knows no passage table and no search: token vectors in, a codec out.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

from homefire.retrieval.generations import Writer
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_part import TokenPart

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from homefire.retrieval.encoder import Vectors

SAMPLE = 1024
"""Passages whose token vectors a codec is trained on."""

_ENOUGH = 10_000
"""Token vectors from which on they are compressed; fewer are kept in float16."""
_GROWTH = 16
"""Times as many tokens as it was trained for: four times as many centroids would be good then."""
_DRIFT = 1.2
"""Times the distance to the centroids that there was in training."""


class IndexCodec:
    """Holds the codec that new token vectors are compressed by.

    Args:
        writer: Holds the lock of the index; a new codec is written into a folder of its own.
        bits: For each number of a vector.
        codec: The one there is; None where there is none yet.
        name: Its folder.
    """

    def __init__(self, writer: Writer, bits: Literal[1, 2, 4], codec: Codec | None, name: str | None) -> None:
        self._writer = writer
        self._bits = bits
        self.codec = codec
        self.name = name

    def train(self, sample: Vectors, expected_tokens: int) -> None:
        """Trains a codec on some vectors, unless all together are too few for one."""
        if expected_tokens < _ENOUGH or not len(sample):
            return
        codec = Codec.train(sample, self._bits, expected_tokens=expected_tokens)
        with self._writer.folder("codecs") as draft:
            codec.save(draft.path)
        self.codec, self.name = codec, draft.name

    def fit(self, parts: Sequence[tuple[TokenPart, npt.NDArray[np.bool_]]], *, again: bool) -> None:
        """Trains a codec for the rows that count of some parts, where there is none, or where the one there is fits them no more.

        Args:
            parts: With the rows that count.
            again: Whether the codec may be replaced: only where these parts are all that there are.
        """
        tokens = sum(part.report.tokens for part, _ in parts)
        if self.codec is not None:
            if not again:
                return
            compressed = [part.report for part, _ in parts if part.report.codec == self.codec.fingerprint]
            count = sum(report.tokens for report in compressed)
            length = sum(report.residual_length * report.tokens for report in compressed) / max(count, 1)
            if tokens <= _GROWTH * self.codec.training.expected_tokens and self.codec.drift(length) <= _DRIFT:
                return
        if tokens >= _ENOUGH:
            self.train(_sample(parts), tokens)


def _sample(parts: Sequence[tuple[TokenPart, npt.NDArray[np.bool_]]]) -> Vectors:
    """Token vectors of some rows, evenly from all parts."""
    import numpy as np

    rows = [(part, row) for part, mask in parts for row in np.flatnonzero(mask).tolist()]
    chosen = Random(0).sample(rows, min(SAMPLE, len(rows)))
    found = [part.read(np.array([row for one, row in chosen if one is part], dtype=np.int64)).vectors for part, _ in parts]
    return np.concatenate([vectors for vectors in found if len(vectors)] or [np.zeros((0, parts[0][0].dim), dtype=np.float32)])
