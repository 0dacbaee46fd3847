"""Encoders: texts in, one vector a text out.

Knows no index and no file format: where the vectors go is not its business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from homefire.configs.console import quiet_libraries
from homefire.configs.home import home
from homefire.errors import InputError, MissingExtra, UnknownModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from sentence_transformers import SentenceTransformer

Vectors: TypeAlias = "npt.NDArray[np.float32]"

_SMALL = 4000
"""Characters up to which a batch counts as small, about a thousand tokens."""


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


class SentenceEncoder:
    """A sentence-transformers model; vectors have length 1.

    Texts beyond the model's window (256 tokens for all-minilm-l6-v2) are cut by the model. On a CPU, small batches run on one thread of the
    encoder's own, because waking more cores takes longer than the work when other threads want them.

    Args:
        model: a folder, a name that `homefire models pull` fetched, or a Hugging Face id in the local cache. Nothing is downloaded.
        device: `cpu`, `cuda`, ...; none takes the best there is.
        batch_size: texts encoded at once.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, or its folder cannot be loaded.
    """

    def __init__(self, model: Path | str = "all-minilm-l6-v2", *, device: str | None = None, batch_size: int = 32) -> None:
        folder = _folder(model)
        self.name = folder.resolve().name if folder else str(model)
        self.batch_size = batch_size
        self._model = _load(str(model), folder, device)
        dim = self._model.get_embedding_dimension()
        if dim is None:
            raise UnknownModel(f"{str(model)!r} does not say how long its vectors are; expected a sentence-transformers model.")
        self.dim = dim
        self._one_thread = _one_thread() if self._model.device.type == "cpu" else None

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape `(n_texts, dim)`, with the model's own prompt for queries when it has one."""
        return self._run(self._model.encode_query, texts)

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape `(n_texts, dim)`, with the model's own prompt for documents when it has one."""
        return self._run(self._model.encode_document, texts)

    def _run(self, encode: Callable[..., Vectors], texts: Sequence[str]) -> Vectors:
        """The library sorts the texts by length for even batches and puts the vectors back in order."""
        work = partial(encode, list(texts), batch_size=self.batch_size, show_progress_bar=False, normalize_embeddings=True)
        small = sum(map(len, texts)) <= _SMALL
        vectors = self._one_thread.submit(work).result() if self._one_thread and small else work()
        return vectors.reshape(len(texts), self.dim)


def _folder(model: Path | str) -> Path | None:
    """The folder a name leads to: itself, or the pulled model of that name; none for a Hugging Face id."""
    if Path(model).is_dir():
        return Path(model)
    pulled = home() / "models" / str(model)
    return pulled if pulled.is_dir() else None


def _load(model: str, folder: Path | None, device: str | None) -> SentenceTransformer:
    quiet_libraries()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "retrieval", "SentenceEncoder") from error
    try:
        return SentenceTransformer(str(folder or model), device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        place = (
            f"the folder {str(folder)!r} cannot be loaded: {error}" if folder else "it is no folder and not in the local Hugging Face cache"
        )
        raise UnknownModel(
            f"There is no encoder {model!r} on this machine: {place}. Expected the folder of a sentence-transformers model, the name of a "
            "pulled model or a Hugging Face id. Fetch one with: homefire models pull all-minilm-l6-v2"
        ) from error


def _one_thread() -> ThreadPoolExecutor:
    """A thread on which torch uses one core.

    `torch.set_num_threads` holds for the thread that calls it, once that has asked for its number, and for threads that ask for theirs
    later; so the number for the latter is put back at once.
    """
    import torch

    cores = torch.get_num_threads()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="homefire-encoder")
    executor.submit(torch.get_num_threads).result()
    set_threads = torch._C.set_num_threads  # vLLM's CPU engine puts a function that does nothing in place of torch.set_num_threads
    executor.submit(set_threads, 1).result()
    set_threads(cores)
    return executor
