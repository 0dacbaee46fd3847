"""Segments in a writer's hands: which of their rows will count, and which segments should become one.

Knows no commit and no encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from homefire.retrieval.segment import Segment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_TIER = 1000
_FACTOR = 4
"""Segments of up to 1,000 passages, of up to 4,000, and so on are merged when there are four of a kind."""


class Held:
    """A segment, and which of its rows count in what will be committed."""

    def __init__(self, segment: Segment, deleted: npt.NDArray[np.int64], file: str | None = None) -> None:
        import numpy as np

        self.segment = segment
        self.file = file
        """Holds the deleted rows; None where there are none, or where they are still to be written."""
        self.rows: int = segment.table.rows
        """Those that are searched; the spare ones are behind them."""
        self.gone = np.zeros(self.rows + segment.table.spare, dtype=np.bool_)
        self.gone[deleted] = True

    @property
    def live(self) -> int:
        """Passages that will be searched."""
        return self.rows - int(self.gone[: self.rows].sum())

    @property
    def is_empty(self) -> bool:
        """Whether no row counts, the spare ones included."""
        return bool(self.gone.all())

    def sources(self) -> set[str]:
        """Of the rows that count."""
        return self.segment.table.sources(~self.gone if self.gone.any() else None)


def to_merge(some: Sequence[Held]) -> list[Held]:
    """Those that should become one now; none where that can wait."""
    tiers: dict[int, list[Held]] = {}
    for held in some:
        tiers.setdefault(_tier(held.live), []).append(held)
    crowded = [tier for tier in tiers.values() if len(tier) >= _FACTOR]
    hollow = [[held] for held in some if 2 * held.live < held.rows]
    return next(iter([*crowded, *hollow]), [])


def _tier(passages: int) -> int:
    tier = 0
    while passages > _TIER:
        passages //= _FACTOR
        tier += 1
    return tier
