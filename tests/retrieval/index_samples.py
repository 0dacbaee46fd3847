"""What the tests of the index share: passages, and encoders that need no model."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.token_vectors import TokenVectors

TEXTS = ["the cat sat on the mat", "dogs bark at the moon", "grammar keeps outputs typed", "a cat and a dog"]


def passages(texts: Sequence[str] = TEXTS, source: str = "s") -> list[Passage]:
    """One for each text."""
    return [Passage(id=f"id-{text}", text=text, source=source, metadata={"line": 7}) for text in texts]


def numbered(count: int, first: int = 0) -> list[Passage]:
    """Passages that differ, five of each source."""
    return [
        Passage(id=f"p{number}", text=f"passage {number} of the {words(number)}", source=f"doc-{number // 5}", metadata={"number": number})
        for number in range(first, first + count)
    ]


def words(number: int) -> str:
    """Some words that depend on a number."""
    names = ["cat", "dog", "moon", "rain", "snow", "grammar", "tower", "bread", "river", "stone"]
    return " ".join(names[(number * step + step) % len(names)] for step in (1, 3, 7))


class Renamed(HashEncoder):
    """An encoder with the name of another but vectors of its own."""

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """The opposite vectors."""
        return -super().encode_passages(texts)


class HashTokens:
    """A token encoder without a model: one vector a word, the same for the same word, in any text."""

    name = "hash tokens"

    def __init__(self, dim: int = 32) -> None:
        self.dim = dim
        self.calls = 0

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """As passages are."""
        return self.encode_passages(texts)

    def encode_passages(self, texts: Sequence[str]) -> TokenVectors:
        """One vector of length 1 a word; one for a text without words."""
        self.calls += 1
        return TokenVectors.of([np.stack([self._vector(word) for word in re.findall(r"\w+", text.lower()) or [""]]) for text in texts])

    def _vector(self, word: str) -> Vectors:
        vector = np.random.default_rng(list(word.encode())).normal(size=self.dim).astype(np.float32)
        return vector / np.float32(np.linalg.norm(vector))


def found(index: Index, query: str, k: int = 3, **options: object) -> list[str]:
    """Texts of the best passages."""
    return [hit.passage.text for hit in index.search([query], k, **options)[0]]  # type: ignore[arg-type]


def ids(index: Index) -> set[str]:
    """Of all passages."""
    return {passage.id for passage in index.passages()}
