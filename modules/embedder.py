"""Embedder: vectors of texts, from an encoder on this machine, a model on a server, or a function of yours.

Knows no corpus and no index. Nothing leaves the machine unless the name of the model says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.engine.http_embeddings import aembedded, embedded
from homefire.engine.http_engine import HttpEngine
from homefire.engine.remote import RemoteSettings, is_remote, remote_engine
from homefire.engine.response_cache import response_cache
from homefire.errors import ConfigError, InputError, MissingExtra
from homefire.retrieval.encoder import Encoder, Vectors
from homefire.retrieval.sentence_encoder import SentenceEncoder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CALL = frozenset(field.name for field in fields(RemoteSettings)) - {"extra_body"}
_MEMORY_BYTES = 64 * 2**20
_BATCH = 200


class Embedder:
    """Gives the vectors of texts: `embedder(["a", "b"])` is an array of shape (2, dim), `embedder("a")` one of shape (dim,), float32.

    Batches that were asked for before come from memory; those of models on servers also from the response cache on disk, so that nothing is
    paid for twice. `configure_cache` and `HOMEFIRE_CACHE` hold for both.

    Args:
        model: A sentence encoder on this machine, by the name under which it was pulled, its folder or its Hugging Face id in the local
            cache; a model on a server, as in `openai/text-embedding-3-small`; an encoder; or a function from texts to vectors.
        batch_size: Texts in one call of the model.
        caching: Whether to keep what was computed.
        options: Of models on servers: `api_base`, `api_key`, `headers`, `timeout`, `num_retries`, `max_batch`, and more fields of every
            request, such as `dimensions`. Of functions: more arguments.

    Raises:
        UnknownModel: no such model on this machine.
        ConfigError: a model on a server without its key or address, or a value that cannot be used.
        MissingExtra: what runs the model is not installed.
    """

    def __init__(
        self, model: str | Path | Encoder | Callable[..., Any], batch_size: int = _BATCH, caching: bool = True, **options: Any
    ) -> None:
        self.model = model
        self.batch_size = _checked_batch(batch_size)
        self.caching = caching
        self._kept = _Kept()
        self._encoder: Encoder | None = None
        self._engine: HttpEngine | None = None
        self.options: dict[str, Any] = dict(options)
        if isinstance(model, str) and is_remote(model):
            settings = RemoteSettings(**{name: self.options.pop(name) for name in list(self.options) if name in _CALL})
            self._engine = remote_engine(model, settings)
        elif not callable(model):
            if options:
                raise ConfigError(f"An encoder on this machine takes no {', '.join(options)}. Write Embedder({model!r}).")
            self._encoder = SentenceEncoder(model) if isinstance(model, str | Path) else model

    def __call__(
        self, inputs: str | Sequence[str], batch_size: int | None = None, caching: bool | None = None, **options: Any
    ) -> npt.NDArray[np.float32]:
        """The vectors of texts, or the vector of one.

        Args:
            inputs: A text or several.
            batch_size: For this call.
            caching: For this call.
            options: Over those of the embedder.

        Raises:
            InputError: not texts, or the function gave something that is no vectors.
            ServerError: the server refused, or gave no vectors.
        """
        texts, several = _texts(inputs)
        parts = [self._batch(part, {**self.options, **options}, caching) for part in self._parts(texts, batch_size)]
        return _joined(parts, several)

    async def acall(
        self, inputs: str | Sequence[str], batch_size: int | None = None, caching: bool | None = None, **options: Any
    ) -> npt.NDArray[np.float32]:
        """As calling the embedder, awaited: batches go to a server at the same time; local work is done on a thread."""
        texts, several = _texts(inputs)
        asked = {**self.options, **options}
        parts = [self._abatch(part, asked, caching) for part in self._parts(texts, batch_size)]
        return _joined(list(await asyncio.gather(*parts)), several)

    def encode(self, texts: Sequence[str], *, queries: bool = False) -> Vectors:
        """The vectors of texts, shape (n_texts, dim); as queries where the model tells these from passages."""
        if self._encoder is None:
            return self(list(texts))
        return _joined([self._batch(part, {}, None, queries) for part in self._parts(_texts(list(texts))[0], None)], several=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Embedder:
        """The embedder itself: copies of a program share the model."""
        return self

    def _parts(self, texts: list[str], batch_size: int | None) -> list[list[str]]:
        size = self.batch_size if batch_size is None else _checked_batch(batch_size)
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def _batch(self, texts: list[str], options: Mapping[str, Any], caching: bool | None, queries: bool = False) -> Vectors:
        keep = self.caching if caching is None else caching
        key = self._key(texts, options, queries) if keep else None
        found = None if key is None else self._kept.get(key, on_disk=self._engine is not None)
        if found is not None:
            return found
        made = _checked(self._computed(texts, options, queries), len(texts), self._who())
        return made if key is None else self._kept.put(key, made, on_disk=self._engine is not None)

    async def _abatch(self, texts: list[str], options: Mapping[str, Any], caching: bool | None) -> Vectors:
        if self._engine is None:
            return await asyncio.to_thread(self._batch, texts, options, caching)
        keep = self.caching if caching is None else caching
        key = self._key(texts, options, False) if keep else None
        found = None if key is None else await asyncio.to_thread(self._kept.get, key, on_disk=True)
        if found is not None:
            return found
        made = _checked(await aembedded(self._engine, texts, options), len(texts), self._who())
        return made if key is None else self._kept.put(key, made, on_disk=True)

    def _computed(self, texts: list[str], options: Mapping[str, Any], queries: bool) -> Any:
        if self._engine is not None:
            return embedded(self._engine, texts, options)
        if self._encoder is not None:
            return self._encoder.encode_queries(texts) if queries else self._encoder.encode_passages(texts)
        assert callable(self.model)
        return self.model(texts, **options)

    def _key(self, texts: list[str], options: Mapping[str, Any], queries: bool) -> str | None:
        """What a batch is kept under; None where its options cannot be told from others."""
        identity = "" if self._engine is None else self._engine.identity
        try:
            said = json.dumps(["embeddings", identity, queries, sorted(options.items()), texts])
        except (TypeError, ValueError):
            return None
        return hashlib.sha256(said.encode("ascii")).hexdigest()

    def _who(self) -> str:
        return f"The model {self.model!r}" if isinstance(self.model, str | Path) else f"{self.model!r}"


class _Kept:
    """Vectors of batches: the last ones in memory, and those that were paid for in the response cache's files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrays: OrderedDict[str, Vectors] = OrderedDict()
        self._bytes = 0

    def get(self, key: str, *, on_disk: bool) -> Vectors | None:
        import numpy as np

        cache = response_cache()
        if cache is None:
            return None
        with self._lock:
            if (found := self._arrays.get(key)) is not None:
                self._arrays.move_to_end(key)
                return found.copy()
        body = cache.files.read(key) if on_disk and cache.files is not None else None
        if body is None:
            return None
        rows, _, data = body.partition(b"\n")
        return np.frombuffer(data, dtype="<f4").reshape(int(rows), -1).copy() if rows.isdigit() and data else None

    def put(self, key: str, vectors: Vectors, *, on_disk: bool) -> Vectors:
        cache = response_cache()
        if cache is None:
            return vectors
        with self._lock:
            self._bytes += vectors.nbytes if key not in self._arrays else 0
            self._arrays[key] = vectors.copy()
            while self._bytes > _MEMORY_BYTES and len(self._arrays) > 1:
                _, old = self._arrays.popitem(last=False)
                self._bytes -= old.nbytes
        if on_disk and cache.files is not None:
            cache.files.write_later(key, partial(_packed, vectors.copy()))
        return vectors


def _packed(vectors: Vectors) -> bytes:
    return b"%d\n" % len(vectors) + vectors.astype("<f4").tobytes()


def _texts(inputs: str | Sequence[str]) -> tuple[list[str], bool]:
    if isinstance(inputs, str):
        return [inputs], False
    texts = list(inputs) if isinstance(inputs, Sequence) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise InputError(f"The embedder was given a {type(inputs).__name__}; expected a text, or a list of texts.")
    if not texts:
        raise InputError("The embedder was given no texts; expected at least one.")
    return texts, True


def _joined(parts: Sequence[Vectors], several: bool) -> Vectors:
    import numpy as np

    if len({part.shape[1] for part in parts}) > 1:
        raise InputError(f"The batches have vectors of different lengths: {', '.join(str(part.shape[1]) for part in parts)}.")
    whole: Vectors = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return whole if several else whole[0]


def _checked(made: Any, count: int, who: str) -> Vectors:
    """An array of shape (count, dim)."""
    try:
        import numpy as np
    except ImportError as error:
        raise MissingExtra("numpy", "retrieval", "Embedder") from error
    try:
        vectors = np.asarray(made, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{who} gave something that is no array of numbers ({error}); expected a vector for each of {count} texts."
        ) from None
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1] or not np.isfinite(vectors).all():
        raise InputError(f"{who} gave an array of shape {vectors.shape}; expected finite numbers of shape ({count}, dim).")
    return vectors


def _checked_batch(size: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"batch_size is {size!r}; expected a whole number above 0.")
    return size
