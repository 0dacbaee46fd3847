"""The encoders of an index: as they were given, or loaded when they are first needed; and always those that it was built with.

Knows no file of an index and no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

from homefire.errors import InputError
from homefire.retrieval.encoder import Encoder, HashEncoder, Vectors
from homefire.retrieval.index_manifest import EncoderEntry
from homefire.retrieval.sentence_encoder import SentenceEncoder

Probe = tuple[str, Vectors]
"""A text of the index, and the vector of shape `(dim,)` that it has there."""

_TOLERANCE = 0.02
"""Squared distance of two vectors of one text that different machines may give."""


def entry_of(encoder: Encoder) -> EncoderEntry:
    """What an index notes of an encoder, so that it is found and known again."""
    match encoder:
        case HashEncoder():
            return EncoderEntry(name=encoder.name, dim=encoder.dim, kind="hash")
        case SentenceEncoder():
            return EncoderEntry(name=encoder.name, dim=encoder.dim, kind="sentence", model=encoder.name)
        case _:
            return EncoderEntry(name=encoder.name, dim=encoder.dim)


class IndexEncoders:
    """The encoders of one index. Methods may be called from any thread.

    Args:
        where: Of the index; shown in errors.
        entry: Of the encoder that the index was built with; None where it has no dense part.
        encoder: The one that was given; None loads what the entry names, when it is needed.
        probe: Gives a text with its vector, where the index has one.

    Raises:
        InputError: the one that was given is another than the index was built with.
    """

    def __init__(
        self, where: str, entry: EncoderEntry | None, encoder: Encoder | None, probe: Callable[[], Probe | None] = lambda: None
    ) -> None:
        self._where = where
        self._entry = entry
        self._probe = probe
        self._lock = Lock()
        self._encoder = encoder
        if encoder is not None and entry is not None:
            self._require(encoder, entry)

    @property
    def encoder(self) -> Encoder:
        """Of one vector a text.

        Raises:
            InputError: the index has no dense part, or it must be opened with its encoder.
            UnknownModel: its encoder is not on this machine.
            MissingExtra: a library is not installed.
        """
        with self._lock:
            if self._encoder is None:
                if self._entry is None:
                    raise InputError(f"The index {self._where!r} has no vectors, so it has no encoder. Search it with method='bm25'.")
                encoder = _load(self._entry, self._where)
                self._require(encoder, self._entry)
                self._encoder = encoder
            return self._encoder

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries, of shape `(n_texts, dim)`."""
        return _checked(self.encoder, self.encoder.encode_queries(_clean(texts)), len(texts))

    def passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, of shape `(n_texts, dim)`."""
        return _checked(self.encoder, self.encoder.encode_passages(_clean(texts)), len(texts))

    def _require(self, encoder: Encoder, entry: EncoderEntry) -> None:
        found = entry_of(encoder)
        if (found.name, found.dim) != (entry.name, entry.dim):
            raise InputError(
                f"The index {self._where!r} was built with the encoder {entry.name!r} ({entry.dim} dimensions), but "
                f"{found.name!r} ({found.dim}) was given. Open it with {entry.name!r}, or build it again with {found.name!r}."
            )
        if entry.fingerprint is not None and found.fingerprint is not None:
            same = entry.fingerprint == found.fingerprint
        else:
            probe = self._probe()
            same = probe is None or float(((self._vector(encoder, probe[0]) - probe[1]) ** 2).sum()) <= _TOLERANCE
        if not same:
            raise InputError(
                f"The encoder {encoder.name!r} gives a passage of the index {self._where!r} another vector than the one in the index: it "
                "is not the encoder that built it, only called the same. Open it with that one, or build it again."
            )

    def _vector(self, encoder: Encoder, text: str) -> Vectors:
        vectors = _checked(encoder, encoder.encode_passages(_clean([text])), 1)
        return vectors.reshape(-1)


def _load(entry: EncoderEntry, where: str) -> Encoder:
    if entry.kind == "hash":
        return HashEncoder(entry.dim)
    if entry.kind == "sentence":
        return SentenceEncoder(entry.model or entry.name)
    raise InputError(
        f"The index {where!r} was built with the encoder {entry.name!r}, which homefire does not know. Open it with that one: "
        "Index.open(directory, encoder)."
    )


def _clean(texts: Sequence[str]) -> list[str]:
    """The texts without halves of surrogate pairs, which no tokenizer takes."""
    return [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _checked(encoder: Encoder, vectors: Vectors, count: int) -> Vectors:
    import numpy as np

    if vectors.shape != (count, encoder.dim) or not np.isfinite(vectors).all():
        raise InputError(
            f"The encoder {encoder.name!r} gave an array of shape {vectors.shape}; expected finite numbers of shape "
            f"({count}, {encoder.dim}). Repair the encoder."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)
