"""Vectors that are encoded once and looked up from then on. Run it with: .venv/bin/python scripts/bench_retrieval.py --vectors FOLDER

Searches are compared with equal vectors, and their speed without that of an encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from homefire.configs.home import atomic_directory
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_vectors import TokenVectors

MODEL = "all-minilm-l6-v2"
_AT_ONCE = 1024
"""Texts whose token vectors are in memory in full precision."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts and their vectors: one a text, and one a token in half precision, as many as `offsets` says for each."""

    texts: list[str]
    vectors: np.ndarray[Any, Any]
    halves: np.ndarray[Any, Any]
    offsets: np.ndarray[Any, Any]

    def tokens(self, places: Sequence[int]) -> TokenVectors:
        """The token vectors of some of the texts."""
        return TokenVectors.of([self.halves[self.offsets[place] : self.offsets[place + 1]] for place in places], self.halves.shape[1])


def encoded(texts: list[str], kind: str, folder: Path | None) -> Texts:
    """The texts with their vectors: encoded now, or read from the folder where an earlier run left them.

    Args:
        texts: What to encode.
        kind: `queries` or `passages`.
        folder: Keeps the vectors; None encodes anew.
    """
    if folder is None:
        return Texts(texts, *_encode(texts, kind))
    place = folder / hashlib.sha256("\0".join([MODEL, kind, *texts]).encode()).hexdigest()[:16]
    if not place.is_dir():
        with atomic_directory(place) as made:
            for name, array in zip(("vectors", "halves", "offsets"), _encode(texts, kind), strict=True):
                np.save(made / f"{name}.npy", array)
    return Texts(texts, *(np.load(place / f"{name}.npy", mmap_mode="r") for name in ("vectors", "halves", "offsets")))


def _encode(texts: list[str], kind: str) -> tuple[np.ndarray[Any, Any], ...]:
    encoder = SentenceEncoder(MODEL)
    encode = encoder.encode_queries_and_tokens if kind == "queries" else encoder.encode_passages_and_tokens
    vectors, halves, lengths = [], [], [0]
    for start in range(0, len(texts), _AT_ONCE):
        some, tokens = encode(texts[start : start + _AT_ONCE])
        vectors.append(some)
        halves.append(tokens.vectors.astype(np.float16))
        lengths.extend(np.diff(tokens.offsets).tolist())
    return np.concatenate(vectors), np.concatenate(halves), np.cumsum(lengths)


class Kept:
    """An encoder, and a token encoder, of texts that are encoded already."""

    def __init__(self, *sets: Texts) -> None:
        self.name = "kept"
        self.dim = sets[0].vectors.shape[1]
        self._places = {text: (one, place) for one in sets for place, text in enumerate(one.texts)}

    def encode_queries(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return np.stack([one.vectors[place] for one, place in self._found(texts)]) if texts else np.zeros((0, self.dim), np.float32)

    def encode_passages(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return self.encode_queries(texts)

    def _found(self, texts: Sequence[str]) -> Iterator[tuple[Texts, int]]:
        return (self._places[text] for text in texts)


class KeptTokens(Kept):
    """The same for token vectors."""

    def encode_queries(self, texts: Sequence[str]) -> Any:
        return TokenVectors.of([one.tokens([place])[0] for one, place in self._found(texts)], self.dim)
