"""Texts as vectors of both kinds, and encoding that remembers some of them.

Knows no encoder: whatever gives vectors for texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from homefire.retrieval.encoder import Vectors
from homefire.retrieval.token_vectors import TokenVectors


@dataclass(frozen=True, slots=True)
class Encoded:
    """Some texts as vectors."""

    vectors: Vectors | None
    """One a text, of shape `(n_texts, dim)`; None where they are not wanted."""
    tokens: TokenVectors | None
    """One a token; None where they are not wanted."""


Encode = Callable[[Sequence[str]], Encoded]
"""Gives the vectors of some texts."""


class Remembered:
    """Encodes texts, but for some that are encoded already.

    Args:
        encode: For the others.
        texts: Those that are.
        encoded: Their vectors.
    """

    def __init__(self, encode: Encode, texts: Sequence[str], encoded: Encoded) -> None:
        self._encode = encode
        self._places = {text: place for place, text in enumerate(texts)}
        self._encoded = encoded

    def __call__(self, texts: Sequence[str]) -> Encoded:
        import numpy as np

        others = [text for text in texts if text not in self._places]
        if len(others) == len(texts):
            return self._encode(texts)
        new = self._encode(others) if others else Encoded(None, None)
        known, order, place = self._encoded, [], 0
        for text in texts:
            order.append((new, place) if text not in self._places else (known, self._places[text]))
            place += text not in self._places
        return Encoded(
            None if known.vectors is None else np.stack([one.vectors[place] for one, place in order if one.vectors is not None]),
            None if known.tokens is None else TokenVectors.of([one.tokens[place] for one, place in order if one.tokens], known.tokens.dim),
        )
