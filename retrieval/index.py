"""The index: a directory of passages and their vectors, searched by inner product with FAISS.

Knows no language model and no encoder but the protocol.

A write makes a new generation of files and then replaces `manifest.json`, which names them: a kill at any moment leaves the old index or
the new one, whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING

from filelock import FileLock

from homefire.configs.home import atomic_directory, require_directory, write_atomic
from homefire.errors import DiskError, InputError, MissingExtra
from homefire.retrieval.encoder import Encoder, Vectors
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage
from homefire.retrieval.single_query import SingleQuery

if TYPE_CHECKING:
    import faiss

FORMAT = 1
MANIFEST = "manifest.json"
PASSAGES = "passages.jsonl"
VECTORS = "vectors.faiss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an index directory holds."""

    format: int
    generation: int
    """Writes so far."""
    encoder: str
    dim: int
    metric: str
    count: int
    corpus_sha256: str
    """Over the ids of the passages in order: equal for equal corpora."""
    files: dict[str, str]
    """SHA-256 of each file: the passages, then the vectors."""


class Index(SingleQuery):
    """Passages that can be searched. Make one with `Index.build` or `Index.open`."""

    def __init__(self, directory: Path, encoder: Encoder, manifest: Manifest, passages: list[Passage], vectors: faiss.Index) -> None:
        self.directory = directory
        self.encoder = encoder
        self.manifest = manifest
        self._passages = passages
        self._vectors = vectors
        self._adding = Lock()

    @classmethod
    def build(cls, directory: Path | str, passages: Iterable[Passage], encoder: Encoder) -> Index:
        """Encodes the passages and writes an index, in place of the one that the directory may hold.

        A passage given twice is kept once.

        Raises:
            InputError: there are no passages, or two different ones share an id.
            DiskError: the directory cannot be written.
            MissingExtra: faiss is not installed.
        """
        unique = _new(passages, [])
        if not unique:
            raise InputError("There are no passages to index; expected at least one. Check that the files you read hold text.")
        vectors = _faiss().IndexFlatIP(encoder.dim)
        vectors.add(_encode(encoder, unique))
        folder = Path(directory)
        return cls(folder, encoder, _write(folder, encoder, unique, vectors), unique, vectors)

    @classmethod
    def open(cls, directory: Path | str, encoder: Encoder) -> Index:
        """Opens an index and checks its files.

        Raises:
            InputError: there is no index, a file is missing or damaged, or the index was built with another encoder.
            MissingExtra: faiss is not installed.
        """
        folder = Path(directory)
        manifest = _read_manifest(folder)
        if (manifest.encoder, manifest.dim) != (encoder.name, encoder.dim):
            raise InputError(
                f"The index {str(folder)!r} was built with the encoder {manifest.encoder!r} ({manifest.dim} dimensions), but "
                f"{encoder.name!r} ({encoder.dim}) was given. Open it with {manifest.encoder!r}, or build it again with {encoder.name!r}."
            )
        try:
            passages, vectors = _load(folder, manifest)
        except FileNotFoundError:
            if _read_manifest(folder) == manifest:
                raise _damaged(folder, f"a file that {MANIFEST} names is missing") from None
            return cls.open(folder, encoder)
        if ((_encode(encoder, passages[:1])[0] - vectors.reconstruct(0)) ** 2).sum() > 0.02:
            raise InputError(
                f"The encoder {encoder.name!r} gives the first passage of the index {str(folder)!r} another vector than the one in the "
                "index: it is not the encoder that built it, only called the same. Open it with that one, or build it again."
            )
        return cls(folder, encoder, manifest, passages, vectors)

    def __len__(self) -> int:
        return len(self._passages)

    def __deepcopy__(self, memo: dict[int, object]) -> Index:
        """The index itself: copies of a program share it."""
        return self

    def search(self, queries: Sequence[str], k: int = 3) -> list[list[Hit]]:
        """The `k` best passages for each query, best first; all of them when the index has fewer.

        Raises:
            InputError: `k` is below 1, or `queries` is one string.
        """
        if isinstance(queries, str):
            raise InputError(f"search takes a list of queries but was given the string {queries!r}; write search([query], k).")
        if k < 1:
            raise InputError(f"k is {k}; it must be at least 1.")
        if not queries:
            return []
        vectors = self._vectors
        scores, places = vectors.search(_checked(self.encoder, self.encoder.encode_queries(queries), len(queries)), min(k, vectors.ntotal))
        rows = (zip(row, row_scores, strict=True) for row, row_scores in zip(places.tolist(), scores.tolist(), strict=True))
        return [[Hit(self._passages[place], score, rank) for rank, (place, score) in enumerate(row, start=1)] for row in rows]

    def add(self, passages: Iterable[Passage]) -> int:
        """Adds the passages that the index does not hold yet, on disk too, and says how many they were.

        The files are written anew each time, so add many at once.

        Raises:
            InputError: a passage has the id of a different one, or the index on disk was changed since it was opened.
            DiskError: the directory cannot be written.
        """
        with self._adding:
            new = _new(passages, self._passages)
            if new:
                vectors = _faiss().clone_index(self._vectors)
                vectors.add(_encode(self.encoder, new))
                together = self._passages + new
                self.manifest = _write(self.directory, self.encoder, together, vectors, replaces=self.manifest.generation)
                self._passages, self._vectors = together, vectors
            return len(new)


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtra("faiss-cpu", "retrieval", "Index") from error
    return faiss


def _new(passages: Iterable[Passage], held: Sequence[Passage]) -> list[Passage]:
    """The passages whose id is not held yet, each once."""
    known = {passage.id: passage.text for passage in held}
    new: list[Passage] = []
    for passage in passages:
        if known.setdefault(passage.id, passage.text) != passage.text:
            raise InputError(f"Two passages with different texts have the id {passage.id!r}; give each text an id of its own.")
        if len(known) > len(held) + len(new):
            new.append(passage)
    return new


def _encode(encoder: Encoder, passages: Sequence[Passage]) -> Vectors:
    return _checked(encoder, encoder.encode_passages([passage.text for passage in passages]), len(passages))


def _checked(encoder: Encoder, vectors: Vectors, count: int) -> Vectors:
    import numpy as np

    if vectors.shape != (count, encoder.dim) or not np.isfinite(vectors).all():
        raise InputError(
            f"The encoder {encoder.name!r} gave an array of shape {vectors.shape}; expected finite numbers of shape "
            f"({count}, {encoder.dim}). Repair the encoder."
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _write(folder: Path, encoder: Encoder, passages: Sequence[Passage], vectors: faiss.Index, replaces: int | None = None) -> Manifest:
    """Writes the next generation, points the manifest to it, and removes the others.

    With `replaces`, the index on disk must be of that generation.
    """
    try:
        lines = "".join(json.dumps(asdict(passage)) + "\n" for passage in passages)
    except TypeError as error:
        raise InputError(f"A passage cannot be saved: {error}. Metadata values must be str, int, float or bool.") from error
    with FileLock(require_directory(folder, "the index") / ".lock"):
        found = _generation(folder)
        if replaces is not None and replaces != found:
            raise InputError(f"The index {str(folder)!r} was changed since it was opened. Open it again and repeat the call.")
        target = folder / f"generation-{found + 1:06d}"
        shutil.rmtree(target, ignore_errors=True)
        with atomic_directory(target) as draft:
            (draft / PASSAGES).write_text(lines, encoding="utf-8", newline="\n")
            try:
                _faiss().write_index(vectors, str(draft / VECTORS))
            except RuntimeError as error:
                raise DiskError(f"The vectors of the index {str(folder)!r} cannot be written: {error}. Free some space.") from error
        manifest = Manifest(
            format=FORMAT,
            generation=found + 1,
            encoder=encoder.name,
            dim=encoder.dim,
            metric="inner_product",
            count=len(passages),
            corpus_sha256=hashlib.sha256("\n".join(passage.id for passage in passages).encode()).hexdigest(),
            files={f"{target.name}/{name}": _sha256(target / name) for name in (PASSAGES, VECTORS)},
        )
        write_atomic(folder / MANIFEST, json.dumps(asdict(manifest), indent=2))
        for path in folder.glob("generation-*"):
            if path != target:
                shutil.rmtree(path, ignore_errors=True)
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise InputError(
                f"The index {str(folder)!r} has format {values['format']!r}; expected {FORMAT}. Build it again with this version."
            )
        return Manifest(**values)
    except FileNotFoundError:
        raise InputError(f"There is no index in {str(folder)!r}; make one with Index.build.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read ({error})") from error


def _generation(folder: Path) -> int:
    """Of the index in the folder; 0 when there is none that can be read."""
    try:
        return _read_manifest(folder).generation
    except InputError:
        return 0


def _load(folder: Path, manifest: Manifest) -> tuple[list[Passage], faiss.Index]:
    for name, expected in manifest.files.items():
        if _sha256(folder / name) != expected:
            raise _damaged(folder, f"{name} is not what was written")
    passages_file, vectors_file = (folder / name for name in manifest.files)
    with passages_file.open(encoding="utf-8") as lines:
        passages = [Passage(**json.loads(line)) for line in lines]
    return passages, _faiss().read_index(str(vectors_file))


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(f"The index {str(folder)!r} is damaged: {what}. Build it again with Index.build.")
