"""The encoder of real use: a sentence-transformers model, one vector a text.

Knows no index and no file format, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.configs.console import quiet_libraries
from homefire.configs.home import home
from homefire.errors import MissingExtra, UnknownModel
from homefire.retrieval.encoder import Vectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SMALL = 4000
"""Characters up to which a batch counts as small, about a thousand tokens."""


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
