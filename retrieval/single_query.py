"""Single queries: what makes a batch-first search usable as a function `index(query, k=3)`, the way programs and DSPy's users write it.

Knows no index but its `search`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from homefire.retrieval.found import Found
from homefire.retrieval.hit import Hit
from homefire.retrieval.search_batches import Together

Options = tuple[int, Mapping[str, Any]]
"""How many, and the other arguments of a search."""


class SingleQuery(ABC):
    """Answers one query at a time; those of several threads at the same moment go through `search` as one batch."""

    @abstractmethod
    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """The `k` best passages for each query, best first."""

    def __call__(self, query: str, k: int = 3, **options: Any) -> Found:
        """What is found for one query: `.passages` are the texts, and each hit has `text`, `score` and `passage`.

        Args:
            query: What to look for.
            k: How many.
            options: As of `search`.
        """
        return Found(self._together((k, options), query))

    @cached_property
    def _together(self) -> Together[Options, str, list[Hit]]:
        return Together(lambda key, queries: self.search(queries, key[0], **key[1]))
