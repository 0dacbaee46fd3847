"""Checking an index: every file is read and compared with what was written, and what is damaged is made again from what is whole.

Knows no search. Vectors, terms and token vectors are made from the passages; passages cannot be made from anything, so a segment that has
lost them is left out, and its documents are named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.errors import InputError
from homefire.retrieval.dense import VECTORS, write_dense
from homefire.retrieval.encoder import Encoder, TokenEncoder
from homefire.retrieval.generations import COPY, MANIFEST, WAIT_SECONDS, Writer
from homefire.retrieval.index_encoders import IndexEncoders
from homefire.retrieval.index_manifest import SegmentEntry, manifest_of
from homefire.retrieval.index_store import REMEDY, IndexStore
from homefire.retrieval.index_writer import PORTION, IndexWriter
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.passage_table import SOURCES, TABLE, PassageTable
from homefire.retrieval.segment import DENSE, TERMS, TOKENS, Segment
from homefire.retrieval.stored_files import State, problems
from homefire.retrieval.terms import write_terms
from homefire.retrieval.words import Analyzer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check found; values of JSON."""

    problems: tuple[str, ...]
    """A sentence for each file that is not what was written; none where all is well."""
    repaired: tuple[str, ...] = ()
    """A sentence for each thing that was mended."""
    lost: tuple[str, ...] = ()
    """Sources of documents that cannot be made again, as far as they are known; add them again."""
    lost_passages: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.problems


def check_index(
    directory: Path | str,
    encoder: Encoder | None = None,
    *,
    token_encoder: TokenEncoder | None = None,
    repair: bool = False,
    wait: float = WAIT_SECONDS,
) -> CheckReport:
    """Reads all files of an index and compares them with what was written; `Index.open` looks at sizes and small files only.

    Args:
        directory: Of the index.
        encoder: The one that it was built with; None loads it where vectors must be made again.
        token_encoder: Likewise.
        repair: Whether to mend what can be mended.
        wait: Seconds to wait for a writer, when something is to be mended.

    Raises:
        InputError: there is no index, its manifest and the copy of that cannot be read, or it has format 1 and is damaged.
        DiskError: the directory cannot be written.
    """
    store = IndexStore(Path(directory))
    try:
        if store.is_old():
            store.old()
            return CheckReport(problems=())
        state, wrong = store.generations.checked()
        manifest_of(state)
        found = tuple(f"{one.name} {one.what}" for one in wrong)
    except (InputError, ValueError) as error:
        if not (store.directory / COPY).is_file():
            raise
        found = (_wrong_manifest(str(error), store.directory),)
    if not found or not repair:
        return CheckReport(problems=found)
    repairs = Repairs()
    with store.generations.writing(fresh=True, wait=wait) as lock:
        state = _whole_state(lock, repairs)
        encoders = IndexEncoders(str(store.directory), manifest_of(state), encoder, token_encoder)
        _Mend(store.directory, lock, state, encoders, repairs).run()
    return CheckReport(
        problems=found, repaired=tuple(repairs.done), lost=tuple(dict.fromkeys(repairs.lost)), lost_passages=repairs.lost_passages
    )


def _wrong_manifest(error: str, directory: Path) -> str:
    """What is wrong with a manifest, without the words around it that a reader of the index needs."""
    what = error.removeprefix(f"The index {str(directory)!r} is damaged: ").removesuffix(REMEDY).rstrip(" .")
    return what if what.startswith(MANIFEST) else f"{MANIFEST} cannot be read: {what}"


@dataclass(slots=True)
class Repairs:
    """What was mended so far, and what could not be."""

    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    lost_passages: int = 0


def _whole_state(lock: Writer, repairs: Repairs) -> State:
    """What the manifest says, or its copy."""
    if lock.state is not None:
        try:
            manifest_of(lock.state)
            return lock.state
        except ValueError:
            pass
    state = lock.restore()
    manifest_of(state)
    repairs.done.append(f"{MANIFEST} was restored from its copy, as of commit {state.generation}.")
    return state


class _Mend:
    """Makes the segments of an index whole again, and commits those that are."""

    def __init__(self, directory: Path, lock: Writer, state: State, encoders: IndexEncoders, repairs: Repairs) -> None:
        self._directory = directory
        self._lock = lock
        self._manifest = manifest_of(state)
        self._bad = {one.name for one in problems(directory, state)}
        self._repairs = repairs
        name = self._manifest.codec
        self._lost_codec = name is not None and self._is_bad(name)
        codec = Codec.open(directory / name) if name and not self._lost_codec else None
        self._codec = codec
        self._writer = IndexWriter(directory, lock, self._manifest, None, encoders.passages, codec=codec)

    def run(self) -> None:
        """Does it."""
        if not self._bad:
            return
        kept: list[tuple[SegmentEntry, Segment]] = []
        again: list[SegmentEntry] = []
        for entry in self._manifest.segments:
            if f"{entry.name}/{TABLE}" in self._bad:
                self._leave_out(entry)
            elif self._needs_encoder(entry):
                again.append(entry)
            else:
                kept.append((entry, Segment.open(self._directory, self._cheaply_mended(entry), self._manifest.methods, self._codec)))
        tables = {entry.name: PassageTable.open(self._directory / entry.name) for entry in again}
        tables |= {entry.name: segment.table for entry, segment in kept}
        for entry, segment in kept:
            self._writer.hold(segment, self._deleted(entry, tables))
        for entry in again:
            self._encode_again(entry, tables[entry.name], self._deleted(entry, tables))
        self._writer.commit()

    def _is_bad(self, name: str) -> bool:
        return any(file == name or file.startswith(f"{name}/") for file in self._bad)

    def _needs_encoder(self, entry: SegmentEntry) -> bool:
        methods = self._manifest.methods if entry.rows else ()
        vectors = "dense" in methods and f"{entry.name}/{DENSE}/{VECTORS}" in self._bad
        return vectors or ("late" in methods and (self._lost_codec or self._is_bad(f"{entry.name}/{TOKENS}")))

    def _leave_out(self, entry: SegmentEntry) -> None:
        self._repairs.lost_passages += entry.live
        if f"{entry.name}/{SOURCES}" not in self._bad:
            with (self._directory / entry.name / SOURCES).open(encoding="utf-8") as lines:
                self._repairs.lost += map(json.loads, lines)
        self._repairs.done.append(f"{entry.name} was left out with {entry.live} passages: {TABLE} is damaged.")

    def _cheaply_mended(self, entry: SegmentEntry) -> str:
        """The segment, or a new one with its whole files and those that can be made of them."""
        if not self._is_bad(entry.name):
            return entry.name
        old = self._directory / entry.name
        with self._lock.folder("segments") as draft:
            for path in old.iterdir():
                if path.is_dir() and not self._is_bad(f"{entry.name}/{path.name}"):
                    shutil.copytree(path, draft.path / path.name)
            shutil.copy(old / TABLE, draft.path)
            table = PassageTable.open(draft.path)
            table.write_sources(draft.path)
            if f"{entry.name}/{SOURCES}" in self._bad:
                self._repairs.done.append(f"The list of the sources of {entry.name} was written again.")
            if self._is_bad(f"{entry.name}/{DENSE}"):
                self._make_dense(old / DENSE, draft.path / DENSE, entry)
            if self._is_bad(f"{entry.name}/{TERMS}"):
                (draft.path / TERMS).mkdir()
                texts = (row.passage.text for row in table.all(0, table.rows))
                write_terms(draft.path / TERMS, texts, Analyzer.of(self._manifest.language))
                self._repairs.done.append(f"The terms of {entry.name} were counted again.")
        return draft.name

    def _make_dense(self, old: Path, new: Path, entry: SegmentEntry) -> None:
        import numpy as np

        new.mkdir()
        write_dense(new, np.load(old / VECTORS, mmap_mode="r"))
        self._repairs.done.append(f"The dense part of {entry.name} was made again from its vectors.")

    def _encode_again(self, entry: SegmentEntry, table: PassageTable, deleted: npt.NDArray[np.int64]) -> None:
        gone = set(deleted.tolist())
        rows = (row for row in table.all() if row.row not in gone)
        while portion := [row.passage for row in islice(rows, PORTION)]:
            self._writer.add(portion, table.digests({passage.source for passage in portion}))
        self._repairs.done.append(f"The {entry.live} passages of {entry.name} were encoded again.")

    def _deleted(self, entry: SegmentEntry, tables: Mapping[str, PassageTable]) -> npt.NDArray[np.int64]:
        """The deleted rows; where they are not known any more, those whose document or id stands in another segment too."""
        import numpy as np

        if entry.deleted is None or entry.deleted not in self._bad:
            return np.load(self._directory / entry.deleted) if entry.deleted else np.zeros(0, dtype=np.int64)
        table, found = tables[entry.name], set[int]()
        sources = table.sources()
        for other in [other for name, other in tables.items() if name != entry.name]:
            ids = [row.passage.id for row in table.all()]
            found |= {row for _, row in table.rows_with("id", {str(name) for name, _ in other.rows_with("id", ids)})}
            found |= {row for _, row in table.rows_with("source", other.digests(sources))}
        back = entry.deleted_rows + entry.deleted_spare - len(found)
        self._repairs.done.append(
            f"Which passages of {entry.name} are deleted is not known any more: about {max(back, 0)} are found again. Remove them again."
        )
        return np.array(sorted(found), dtype=np.int64)
