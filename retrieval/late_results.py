"""What a late-interaction store answers: hits with ids, and what it holds.

Knows no files: values, and how they are made from a snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

from homefire.retrieval.late_snapshot import LateSnapshot
from homefire.retrieval.late_training import drift


@dataclass(frozen=True, slots=True)
class IdHit:
    """A text that answers a query."""

    id: str
    score: float
    """MaxSim: the sum over the query's tokens of the largest inner product with any of the text's; higher is better."""
    rank: int
    """1 is the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a store holds."""

    texts: int
    tokens: int
    """Of the texts that count and those that are deleted, as they are kept."""
    deleted: int
    """Texts that are still in the files but not found; `compact` removes them."""
    segments: int
    size: int
    """Bytes of all files."""
    centroids: int
    """Of the codec; 0 where there is none yet."""
    drift: float
    """How much farther from the centroids the tokens are than those that the codec was trained on: 1 is as far."""

    @property
    def bytes_per_token(self) -> float:
        """All files included."""
        return self.size / max(self.tokens, 1)


def ranked(hits: list[tuple[float, str]], k: int) -> list[IdHit]:
    """The best `k` of some scores with ids, which come in any order."""
    hits.sort(key=lambda hit: -hit[0])
    return [IdHit(one, score, rank) for rank, (score, one) in enumerate(hits[:k], start=1)]


def stats_of(snapshot: LateSnapshot) -> StoreStats:
    """Counts and sizes of a snapshot."""
    parts = [view.part for view in snapshot.views]
    return StoreStats(
        texts=len(snapshot),
        tokens=sum(part.report.tokens for part in parts),
        deleted=sum(view.entry.deleted_rows for view in snapshot.views),
        segments=len(parts),
        size=sum(record.size for record in snapshot.state.files.values()),
        centroids=snapshot.codec.centroid_count if snapshot.codec else 0,
        drift=drift(snapshot.codec, parts) if snapshot.codec else 1.0,
    )
