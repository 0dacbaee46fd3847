"""A hit: one passage that answers a query, with how well it does.

Knows no index: a value that every way of searching gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from homefire.retrieval.passage import Passage


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that answers a query."""

    passage: Passage
    score: float
    """By the method that ranked it; higher is better. A dense score is an inner product, at most 1 for vectors of length 1."""
    rank: int
    """1 is the best."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """The score by each method that was computed, under the method's name."""

    @property
    def text(self) -> str:
        """The passage's text."""
        return self.passage.text

    @property
    def long_text(self) -> str:
        """Another name of `text`."""
        return self.passage.text
