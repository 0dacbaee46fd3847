"""The encoders of an index: as they were given, or loaded when they are first needed; and always those that it was built with.

Knows no file of an index and no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from homefire.errors import InputError
from homefire.retrieval.encoded import Encoded
from homefire.retrieval.encoder import Encoder, HashEncoder, TokenEncoder, Vectors
from homefire.retrieval.index_manifest import EncoderEntry, Manifest
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import ColbertEncoder, SentenceTokenEncoder
from homefire.retrieval.token_vectors import TokenVectors

Probe = tuple[str, Vectors]
"""A text of the index, and the vector of shape `(dim,)` that it has there."""

_TOLERANCE = 0.02
"""Squared distance of two vectors of one text that different machines may give."""


def entry_of(encoder: Encoder | TokenEncoder) -> EncoderEntry:
    """What an index notes of an encoder, so that it is found and known again; a class derived from one of ours cannot be made again."""
    name, dim = encoder.name, encoder.dim
    if type(encoder) is HashEncoder:
        return EncoderEntry(name=name, dim=dim, kind="hash")
    if type(encoder) is SentenceEncoder:
        return _sentence_entry("sentence", name, dim, encoder)
    if type(encoder) is SentenceTokenEncoder:
        return _sentence_entry("sentence tokens", name, dim, encoder.encoder)
    if type(encoder) is ColbertEncoder:
        folder = str(encoder.folder.absolute())
        return EncoderEntry(name=name, dim=dim, fingerprint=encoder.fingerprint, kind="colbert", model=folder, model_name=name)
    return EncoderEntry(name=name, dim=dim)


class IndexEncoders:
    """The encoders of one index. Methods may be called from any thread.

    Args:
        where: The index; shown in errors.
        manifest: Says which encoders it was built with.
        encoder: Of one vector a text; None loads what the manifest names, when it is needed.
        token_encoder: Of one vector a token; None likewise.
        probe: Gives a text with its vector, where the index has one.

    Raises:
        InputError: one that was given is another than the index was built with.
    """

    def __init__(
        self,
        where: str,
        manifest: Manifest,
        encoder: Encoder | None = None,
        token_encoder: TokenEncoder | None = None,
        probe: Callable[[], Probe | None] = lambda: None,
    ) -> None:
        self._where = where
        self._entry, self._token_entry = manifest.encoder, manifest.token_encoder
        self._probe = probe
        self._lock = Lock()
        self._encoder = encoder
        self._token_encoder = token_encoder
        if encoder is not None and self._entry is not None:
            self._require_encoder(encoder, self._entry)
        if token_encoder is not None and self._token_entry is not None:
            self._require(entry_of(token_encoder), self._token_entry)

    @property
    def given(self) -> Encoder | None:
        """The encoder, where it was given or is loaded already."""
        return self._encoder

    @property
    def given_for_tokens(self) -> TokenEncoder | None:
        """The token encoder, likewise."""
        return self._token_encoder

    @property
    def encoder(self) -> Encoder:
        """Of one vector a text.

        Raises:
            InputError: the index has no vectors, or it must be opened with its encoder.
            UnknownModel: its encoder is not on this machine.
            MissingExtra: a library is not installed.
        """
        with self._lock:
            return self._loaded_encoder()

    @property
    def token_encoder(self) -> TokenEncoder:
        """Of one vector a token. Errors as for `encoder`."""
        with self._lock:
            if self._token_encoder is None:
                entry = self._token_entry
                if entry is None:
                    raise InputError(f"The index {self._where!r} has no token vectors. Search it by another method.")
                encoder = self._load_token_encoder(entry)
                self._require(entry_of(encoder), entry)
                self._token_encoder = encoder
            return self._token_encoder

    def queries(self, texts: Sequence[str], *, dense: bool, late: bool) -> Encoded:
        """Queries as those vectors that are wanted; both for the price of one where one model gives both."""
        clean = _clean(texts)
        if dense and late and (both := self._one_model()):
            vectors, tokens = both.encode_queries_and_tokens(clean)
            return Encoded(self._checked(vectors, len(texts)), self._checked_tokens(tokens, len(texts)))
        return Encoded(
            self._checked(self.encoder.encode_queries(clean), len(texts)) if dense else None,
            self._checked_tokens(self.token_encoder.encode_queries(clean), len(texts)) if late else None,
        )

    def passages(self, texts: Sequence[str]) -> Encoded:
        """Passages as all vectors that the index has."""
        clean, dense, late = _clean(texts), self._entry is not None, self._token_entry is not None
        if dense and late and (both := self._one_model()):
            vectors, tokens = both.encode_passages_and_tokens(clean)
            return Encoded(self._checked(vectors, len(texts)), self._checked_tokens(tokens, len(texts)))
        return Encoded(
            self._checked(self.encoder.encode_passages(clean), len(texts)) if dense else None,
            self._checked_tokens(self.token_encoder.encode_passages(clean), len(texts)) if late else None,
        )

    def _one_model(self) -> SentenceEncoder | None:
        """The model that gives both kinds of vectors, where it is one."""
        tokens, encoder = self.token_encoder, self.encoder
        return tokens.encoder if isinstance(tokens, SentenceTokenEncoder) and tokens.encoder is encoder else None

    def _loaded_encoder(self) -> Encoder:
        if self._encoder is None:
            if self._entry is None:
                raise InputError(f"The index {self._where!r} has no vectors of passages. Search it by another method.")
            encoder = self._load_encoder(self._entry)
            self._require_encoder(encoder, self._entry)
            self._encoder = encoder
        return self._encoder

    def _load_encoder(self, entry: EncoderEntry) -> Encoder:
        if entry.kind == "hash":
            return HashEncoder(entry.dim)
        if entry.kind == "sentence":
            return _sentence_encoder(entry)
        raise self._unknown(entry, "encoder")

    def _load_token_encoder(self, entry: EncoderEntry) -> TokenEncoder:
        if entry.kind == "sentence tokens":
            same = self._entry is not None and self._entry.kind == "sentence" and self._entry.fingerprint == entry.fingerprint
            encoder = self._loaded_encoder() if same or self._encoder is not None else None
            return SentenceTokenEncoder(encoder if isinstance(encoder, SentenceEncoder) else _sentence_encoder(entry))
        if entry.kind == "colbert":
            return ColbertEncoder(_place(entry))
        raise self._unknown(entry, "token_encoder")

    def _unknown(self, entry: EncoderEntry, argument: str) -> InputError:
        return InputError(
            f"The index {self._where!r} was built with the encoder {entry.name!r}, which homefire does not know. Open it with that one: "
            f"Index.open(directory, {argument}=...)."
        )

    def _require_encoder(self, encoder: Encoder, entry: EncoderEntry) -> None:
        found = entry_of(encoder)
        self._require(found, entry)
        if entry.fingerprint is None or found.fingerprint is None:
            probe = self._probe()
            if probe is not None:
                vector = _required(encoder, encoder.encode_passages(_clean([probe[0]])), 1)
                if float(((vector - probe[1]) ** 2).sum()) > _TOLERANCE:
                    raise self._same_name(entry)

    def _require(self, found: EncoderEntry, entry: EncoderEntry) -> None:
        if (found.name, found.dim) != (entry.name, entry.dim):
            raise InputError(
                f"The index {self._where!r} was built with the encoder {entry.name!r} ({entry.dim} dimensions), but "
                f"{found.name!r} ({found.dim}) was given. Open it with {entry.name!r}, or build it again with {found.name!r}."
            )
        if entry.fingerprint and found.fingerprint and entry.fingerprint != found.fingerprint:
            raise self._same_name(entry)

    def _same_name(self, entry: EncoderEntry) -> InputError:
        return InputError(
            f"The encoder {entry.name!r} gives a passage of the index {self._where!r} another vector than the one in the index: it "
            "is not the encoder that built it, only called the same. Open it with that one, or build it again."
        )

    def _checked(self, vectors: Vectors, count: int) -> Vectors:
        return _required(self.encoder, vectors, count)

    def _checked_tokens(self, tokens: TokenVectors, count: int) -> TokenVectors:
        encoder = self.token_encoder
        if len(tokens) != count:
            raise InputError(f"The encoder {encoder.name!r} gave the token vectors of {len(tokens)} texts for {count}. Repair the encoder.")
        return tokens.require(encoder.dim, "the texts")


def _sentence_entry(kind: str, name: str, dim: int, encoder: SentenceEncoder) -> EncoderEntry:
    return EncoderEntry(
        name=name,
        dim=dim,
        fingerprint=encoder.fingerprint,
        kind=kind,
        model=str(encoder.folder.absolute()),
        model_name=encoder.name,
        query_prompt=encoder.query_prompt,
        passage_prompt=encoder.passage_prompt,
    )


def _sentence_encoder(entry: EncoderEntry) -> SentenceEncoder:
    return SentenceEncoder(_place(entry), query_prompt=entry.query_prompt, passage_prompt=entry.passage_prompt)


def _place(entry: EncoderEntry) -> str:
    """What to load: the folder where the model was, or what has its name on this machine."""
    return entry.model if entry.model and Path(entry.model).is_dir() else entry.model_name or entry.name


def _clean(texts: Sequence[str]) -> list[str]:
    """The texts without halves of surrogate pairs, which no tokenizer takes."""
    return [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def _required(encoder: Encoder, vectors: Vectors, count: int) -> Vectors:
    import numpy as np

    if vectors.shape != (count, encoder.dim) or not np.isfinite(vectors).all():
        raise InputError(
            f"The encoder {encoder.name!r} gave an array of shape {vectors.shape}; expected finite numbers of shape "
            f"({count}, {encoder.dim}). Repair the encoder."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)
