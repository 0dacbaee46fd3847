"""Embeddings: passages in memory, found by the vectors that an embedder gives; saved, loaded and added to.

Knows no language model. For documents on disk, with BM25, late interaction and filters, there is `Index`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

from homefire.engine.callbacks import BaseCallback, observed
from homefire.engine.lm_options import checked_callbacks
from homefire.errors import ConfigError, InputError
from homefire.modules.embedder import Embedder
from homefire.modules.example import Prediction
from homefire.modules.saved_embeddings import SavedEmbeddings, read_embeddings, write_embeddings
from homefire.retrieval.encoder import Encoder, Vectors
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage
from homefire.retrieval.search_batches import Together
from homefire.retrieval.vector_table import VectorTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BRUTE_FORCE_THRESHOLD = 20_000
_SAME = 0.02
"""Greatest squared distance between two vectors of length 1 that one embedder gives the same text."""


class Embeddings:
    """Finds the passages whose vectors are closest to the query's: `Embeddings(texts, embedder)("a query").passages`.

    >>> from homefire.retrieval.encoder import HashEncoder
    >>> find = Embeddings(["Cats purr.", "Bread needs flour."], HashEncoder(), k=1)
    >>> find("Is there flour in bread?").indices
    [1]

    Calls of several threads at the same time are encoded and searched together; a lone call waits for nobody.

    Args:
        corpus: The passages. Their places in this list are the `indices` of what is found.
        embedder: An `Embedder`, an encoder such as `SentenceEncoder()`, or a function from texts to vectors.
        k: Passages for one query.
        callbacks: Hear the calls, beside those of the settings.
        cache: Only False: an `Embedder` keeps vectors, and searching is quick.
        brute_force_threshold: From so many passages on they are searched through FAISS; below, every one is compared.
        normalize: Whether vectors are brought to length 1, so that scores are cosines.

    Raises:
        InputError: there are no passages, they are no texts, or the embedder gave something that is no vectors.
        ConfigError: a value that cannot be used.
    """

    callbacks: tuple[BaseCallback, ...]
    _table: VectorTable

    def __init__(
        self,
        corpus: Sequence[str],
        embedder: Embedder | Encoder | Callable[..., Any],
        k: int = 5,
        callbacks: Sequence[BaseCallback] | None = None,
        cache: bool = False,
        brute_force_threshold: int = BRUTE_FORCE_THRESHOLD,
        normalize: bool = True,
    ) -> None:
        if cache is not False:
            raise ConfigError("cache is no setting of Embeddings: give it an Embedder, which keeps what it computed.")
        texts = _texts(corpus)
        if not texts:
            raise InputError("There are no passages; expected at least one: Embeddings(['a text', ...], embedder).")
        self._set(texts, embedder, _whole("k", k), normalize, _whole("brute_force_threshold", brute_force_threshold, least=0))
        self.callbacks = checked_callbacks(callbacks or ())
        self._table = VectorTable(self._encoded(texts), index_from=self.brute_force_threshold)

    @classmethod
    def from_saved(cls, path: str | Path, embedder: Embedder | Encoder | Callable[..., Any]) -> Self:
        """What `save` wrote into a folder, or DSPy; nothing but one passage is encoded again, to see that the embedder is the one.

        Raises:
            InputError: there is nothing, it is damaged, or the vectors are another embedder's.
        """
        return cls.__new__(cls).load(path, embedder)

    def load(self, path: str | Path, embedder: Embedder | Encoder | Callable[..., Any]) -> Self:
        """Takes over what `save` wrote; returns itself. Raises as `from_saved`."""
        saved = read_embeddings(Path(path))
        other = self.__new__(type(self))
        other._set(saved.corpus, embedder, saved.k, saved.normalize, saved.brute_force_threshold)
        probe = other._encoded(saved.corpus[:1])
        if probe.shape[1] != saved.vectors.shape[1] or ((probe[0] - saved.vectors[0]) ** 2).sum() > _SAME * (probe[0] ** 2).sum():
            raise InputError(
                f"The embeddings in {str(path)!r} were made by another embedder: this one gives the first passage another vector. Load "
                "them with the one that made them, or make them anew: Embeddings(corpus, embedder)."
            )
        other._table = VectorTable(saved.vectors, index_from=saved.brute_force_threshold)
        self.__dict__.update(other.__dict__)
        return self

    def save(self, path: str | Path) -> None:
        """Writes passages and vectors into a folder, in place of the embeddings that may be there; the embedder is not saved.

        Raises:
            InputError: the folder holds something else, such as an index.
            DiskError: the folder cannot be written.
        """
        with self._adding:
            corpus, vectors = list(self.corpus), self._table.vectors
        write_embeddings(Path(path), SavedEmbeddings(corpus, vectors, self.k, self.normalize, self.brute_force_threshold))

    def add(self, texts: Sequence[str]) -> int:
        """Puts more passages behind the others, and says how many."""
        new = _texts(texts)
        if new:
            vectors = self._encoded(new)
            with self._adding:
                known = len(self.corpus)
                self.corpus.extend(new)  # first the texts: a search that sees the vectors finds them
                try:
                    self._table.add(vectors)
                except BaseException:
                    del self.corpus[known:]
                    raise
        return len(new)

    def __len__(self) -> int:
        return len(self._table)

    def __call__(self, query: str, k: int | None = None) -> Prediction:
        """The passages found as `passages`, the best one first, and their places in the corpus as `indices`.

        Raises:
            InputError: the query is no text, or `k` is below 1.
        """
        with observed("module", self, {"query": query, "k": self.k if k is None else k}, self.callbacks) as call:
            call.give(prediction := self.forward(query, k))
        return prediction

    async def acall(self, query: str, k: int | None = None) -> Prediction:
        """As calling them, awaited."""
        return await asyncio.to_thread(self, query, k)

    def forward(self, query: str, k: int | None = None) -> Prediction:
        """As calling them; callbacks do not hear it."""
        return self._prediction(self._found(query, k))

    def search(self, queries: Sequence[str], k: int | None = None) -> list[list[Hit]]:
        """What is found for several queries, searched as one batch; a passage's id is its place in the corpus.

        Raises:
            InputError: `queries` is one string, holds no texts, or `k` is below 1.
        """
        if isinstance(queries, str):
            raise InputError(f"search takes a list of queries but was given the string {queries!r}; write search([query], k).")
        return self._search(self.k if k is None else _whole("k", k), _texts(queries)) if queries else []

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The embeddings themselves: copies of a program share them."""
        return self

    def _set(self, corpus: list[str], embedder: Any, k: int, normalize: bool, threshold: int) -> None:
        self.corpus = corpus
        self.embedder = embedder
        self.k = k
        self.normalize = normalize
        self.brute_force_threshold = threshold
        self.callbacks = ()
        self._adding = Lock()
        self._together = Together(self._search)
        self._embed = embedder if isinstance(embedder, Embedder) else Embedder(embedder, caching=False)

    def _found(self, query: str, k: int | None) -> list[Hit]:
        if not isinstance(query, str):
            raise InputError(f"The query is {query!r}; expected a text. For several there is search([...]).")
        return self._together(self.k if k is None else _whole("k", k), query)

    def _search(self, k: int, queries: Sequence[str]) -> list[list[Hit]]:
        scores, rows = self._table.search(self._encoded(queries, queries=True), k)
        return [
            [
                Hit(Passage(id=str(row), text=self.corpus[row], source="corpus", position=row), score, rank, {"dense": score})
                for rank, (score, row) in enumerate(zip(found_scores, found, strict=True), start=1)
            ]
            for found_scores, found in zip(scores.tolist(), rows.tolist(), strict=True)
        ]

    def _prediction(self, hits: Sequence[Hit]) -> Prediction:
        return Prediction(passages=[hit.passage.text for hit in hits], indices=[hit.passage.position for hit in hits])

    def _encoded(self, texts: Sequence[str], *, queries: bool = False) -> Vectors:
        """Shape (n_texts, dim), of length 1 where that is asked for."""
        import numpy as np

        vectors: npt.NDArray[np.float32] = self._embed.encode(texts, queries=queries)
        if self.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-10)
        return vectors


class EmbeddingsWithScores(Embeddings):
    """As `Embeddings`; the prediction also has the `scores`, which are cosines where vectors are normalized: higher is better."""

    def _prediction(self, hits: Sequence[Hit]) -> Prediction:
        return super()._prediction(hits).copy(scores=[hit.score for hit in hits])


def _texts(given: Sequence[str]) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
        raise InputError(f"The passages are a {type(given).__name__}; expected a list of texts.")
    return list(given)


def _whole(name: str, value: int, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number, {least} or more.")
    return value
