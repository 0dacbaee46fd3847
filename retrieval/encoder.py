"""Encoders: texts in, vectors out, one a text or one a token; and one that needs no model.

Knows no index and no file format: where the vectors go is not its business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from homefire.errors import InputError, MissingExtra
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Vectors: TypeAlias = "npt.NDArray[np.float32]"


class Encoder(Protocol):
    """Turns texts into vectors whose inner products say how well a passage answers a query: higher is better.

    Vectors are float32 of shape `(n_texts, dim)`, in the order of the texts. Methods may be called from any thread.
    """

    @property
    def name(self) -> str:
        """Says which vectors these are: an index opens only with an encoder of the name it was built with."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """One vector a query."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """One vector a passage."""
        ...


class TokenEncoder(Protocol):
    """Turns texts into one vector a token. A passage answers a query well when each token of the query is close to some token of it.

    That is MaxSim: the best inner product with a token of the passage, summed over the tokens of the query (ColBERT, arXiv 2004.12832,
    section 3.3). Methods may be called from any thread.
    """

    @property
    def name(self) -> str:
        """Says which vectors these are: an index opens only with a token encoder of the name it was built with."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a query; every text has at least one."""
        ...

    def encode_passages(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a passage; every text has at least one."""
        ...


class HashEncoder:
    """Bags of words hashed into vectors of length 1, without a model: texts are close when they share words. For tests, yours too.

    Signed feature hashing: Weinberger et al. 2009, arXiv 0902.2206, section 2. A text without words gives zeros.
    """

    def __init__(self, dim: int = 4096) -> None:
        if dim < 1:
            raise InputError(f"dim is {dim}; it must be at least 1.")
        self.name = "hash"
        self.dim = dim

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """As passages are."""
        return self.encode_passages(texts)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape `(n_texts, dim)`."""
        try:
            import numpy as np
        except ImportError as error:
            raise MissingExtra("numpy", "retrieval", "HashEncoder") from error
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                digest = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())
                row[(digest >> 1) % self.dim] += 1 if digest & 1 else -1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        return vectors
