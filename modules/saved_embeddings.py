"""Embeddings in a folder: the passages, their vectors and the settings, written as a whole or not at all, and read with their checksums.

Knows no embedder. Also reads the folders that DSPy's `Embeddings.save` writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.errors import InputError
from homefire.retrieval.encoder import Vectors
from homefire.retrieval.generations import MANIFEST, Generations
from homefire.retrieval.stored_files import State

FORMAT = 1
_KEY = "embeddings"
"""Of the manifest: the settings. Nothing else has it."""
_FOLDER = "parts"
_CORPUS = "corpus.json"
_VECTORS = "vectors.npy"
_DSPY = ("config.json", "corpus_embeddings.npy")
_DSPY_THRESHOLD = 20_000


@dataclass(frozen=True, slots=True)
class SavedEmbeddings:
    """What a folder holds."""

    corpus: list[str]
    vectors: Vectors
    """Shape (n_passages, dim)."""
    k: int
    normalize: bool
    brute_force_threshold: int


def write_embeddings(folder: Path, saved: SavedEmbeddings) -> None:
    """Writes into a folder, in place of the embeddings that may be there.

    Raises:
        InputError: the folder is another thing's, such as an index's.
        DiskError: it cannot be written.
    """
    import numpy as np

    _require_ours(folder)
    corpus = json.dumps(saved.corpus).encode("ascii")
    with _generations(folder).writing(fresh=True) as writer:
        with writer.folder(_FOLDER) as draft:
            (draft.path / _CORPUS).write_bytes(corpus)
            np.save(draft.path / _VECTORS, np.ascontiguousarray(saved.vectors, dtype=np.float32))
        settings = {"k": saved.k, "normalize": saved.normalize, "brute_force_threshold": saved.brute_force_threshold}
        writer.commit({_KEY: settings, "part": draft.name}, {draft.name})


def read_embeddings(folder: Path) -> SavedEmbeddings:
    """Reads a folder.

    Raises:
        InputError: there is nothing, or it is damaged.
    """
    if (folder / MANIFEST).exists():
        _require_ours(folder)
        return _generations(folder).open(lambda state: _of_state(folder, state))
    if all((folder / name).is_file() for name in _DSPY):
        return _read(folder, folder / _DSPY[0], folder / _DSPY[1], None)
    raise InputError(
        f"There are no embeddings in {str(folder)!r}. Make some, and save them there: Embeddings(corpus, embedder).save(folder)."
    )


def _require_ours(folder: Path) -> None:
    """Indexes and programs of all kinds keep a `manifest.json`; damaged embeddings are known by what stands beside it.

    Raises:
        InputError: that of the folder is no manifest of embeddings.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ours = isinstance(values, dict) and _KEY in values
    except OSError:
        return
    except ValueError:
        ours = (folder / _FOLDER).is_dir()
    if not ours:
        raise InputError(f"The folder {str(folder)!r} holds no embeddings but something else with a {MANIFEST}. Name another folder.")


def _of_state(folder: Path, state: State) -> SavedEmbeddings:
    part = folder / str(state.content.get("part"))
    return _read(folder, part / _CORPUS, part / _VECTORS, state.content.get(_KEY))


def _read(folder: Path, texts: Path, vectors: Path, settings: Any) -> SavedEmbeddings:
    """Reads two files; without settings the first one has them beside the texts, as DSPy writes it."""
    import numpy as np

    try:
        held = json.loads(texts.read_text(encoding="utf-8"))
        corpus, values = (held["corpus"], held) if settings is None else (held, settings)
        array = np.load(vectors, allow_pickle=False)
        saved = SavedEmbeddings(
            corpus,
            np.ascontiguousarray(array, dtype=np.float32),
            int(values["k"]),
            bool(values["normalize"]),
            int(values.get("brute_force_threshold", _DSPY_THRESHOLD)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from None
    if not isinstance(corpus, list) or not corpus or not all(isinstance(text, str) for text in corpus):
        raise _damaged(folder, "the passages are no texts")
    if array.ndim != 2 or len(array) != len(corpus):
        raise _damaged(folder, f"there are vectors of shape {array.shape} for {len(corpus)} passages")
    return saved


def _generations(folder: Path) -> Generations:
    return Generations(
        folder, format=FORMAT, what="embeddings", folders=(_FOLDER,), remedy="Make and save them anew: Embeddings(corpus, embedder)."
    )


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"The embeddings in {str(folder)!r} are damaged: {what}. Make and save them anew: Embeddings(corpus, embedder).")
