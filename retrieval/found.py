"""Found: what one query found in an index, as a sequence of hits and as the lists that programs read from it.

Knows no index and no language model.
"""

from __future__ import annotations

from homefire.retrieval.hit import Hit


class Found(tuple[Hit, ...]):
    """The hits of one query, the best one first: `found[0].text`, `for hit in found`, and `found.passages` for a prompt."""

    __slots__ = ()

    @property
    def passages(self) -> list[str]:
        """The texts."""
        return [hit.passage.text for hit in self]

    @property
    def scores(self) -> list[float]:
        """The score of each; higher is better."""
        return [hit.score for hit in self]

    @property
    def ids(self) -> list[str]:
        """The id of each passage."""
        return [hit.passage.id for hit in self]

    @property
    def sources(self) -> list[str]:
        """Where each passage is from."""
        return [hit.passage.source for hit in self]

    def __repr__(self) -> str:
        return f"Found({', '.join(repr(hit) for hit in self)})"
