"""KNN: the examples of a set that are most like some inputs.

Knows no model; what makes vectors of texts is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from homefire.errors import InputError, MissingExtra
from homefire.modules.example import Example
from homefire.modules.prompt_text import input_text
from homefire.retrieval.encoder import Encoder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vectorizer = Callable[[list[str]], Any]
"""Vectors for texts, one row each."""


class KNN:
    """Finds the k nearest examples, by the cosine between the vectors of their inputs; the nearest comes first.

    Args:
        k: How many.
        trainset: Examples that know their inputs.
        vectorizer: An encoder, or a function from texts to vectors.

    Raises:
        InputError: there are no examples, or k is below 1.
        ValueError: an example does not know its inputs.
    """

    def __init__(self, k: int, trainset: Sequence[Example], vectorizer: Vectorizer | Encoder) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1 or not trainset:
            raise InputError(f"k is {k!r} and there are {len(trainset)} examples; expected 1 or more of both: KNN(3, trainset, encoder).")
        self.k = k
        self.trainset = list(trainset)
        self.embedding = vectorizer
        self._vectors = self._encoded([_text(example.inputs()) for example in self.trainset])

    def __call__(self, **inputs: Any) -> list[Example]:
        """The nearest examples."""
        likeness = self._vectors @ self._encoded([_text(inputs)])[0]
        return [self.trainset[place] for place in (-likeness).argsort(kind="stable")[: self.k]]

    def _encoded(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Unit vectors, (n_texts, dim)."""
        try:
            import numpy as np
        except ImportError:
            raise MissingExtra("numpy", "retrieval", "Finding nearest examples") from None
        encode: Any = self.embedding if callable(self.embedding) else self.embedding.encode_queries
        vectors = np.asarray(encode(texts), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise InputError(f"The vectorizer gave an array of shape {vectors.shape} for {len(texts)} texts; expected ({len(texts)}, dim).")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: npt.NDArray[np.float32] = vectors / np.where(lengths == 0, 1, lengths)
        return unit


def _text(inputs: Mapping[str, Any] | Example) -> str:
    return " | ".join(f"{name}: {input_text(name, inputs[name])}" for name in inputs)
