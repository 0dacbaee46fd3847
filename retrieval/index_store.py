"""The directory of an index: opened as snapshots, written under its lock, and brought to today's format when it is first written.

Knows no encoder's model and no search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from homefire.errors import InputError
from homefire.retrieval.encoded import Encoded
from homefire.retrieval.format_1 import FOLDERS_1, FORMAT_1, OldIndex, read_format_1
from homefire.retrieval.generations import COPY, LOCK, MANIFEST, WAIT_SECONDS, Generations, Writer
from homefire.retrieval.index_manifest import FOLDERS, FORMAT, EncoderEntry
from homefire.retrieval.index_plan import planned
from homefire.retrieval.index_writer import IndexWriter
from homefire.retrieval.snapshot import Opened, Snapshot, open_snapshot
from homefire.retrieval.stored_files import State, remove

MAKING = "homefire index build INDEX PATH..., or Index.build(folder, documents)"
REMEDY = "Mend it with `homefire index check DIRECTORY --repair` or homefire.check_index(directory, repair=True), or build it again."


class IndexStore:
    """One index directory.

    Args:
        directory: It need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.generations = Generations(directory, format=FORMAT, what="index", folders=FOLDERS, remedy=REMEDY, making=MAKING)

    def open(self, opened: Opened | None = None) -> Snapshot:
        """The newest state.

        Args:
            opened: What need not be opened again.

        Raises:
            InputError: there is no index, or it is damaged.
            MissingExtra: a library is not installed.
        """

        def load(state: State) -> Snapshot:
            try:
                return open_snapshot(self.directory, state, opened or Opened())
            except ValueError as error:
                raise self.generations.damaged(str(error)) from error

        if self.is_old():
            try:
                with TemporaryDirectory(prefix="homefire-index-", ignore_cleanup_errors=True) as folder:
                    return self._opened_old(Path(folder))
            except InputError:
                if self.is_old():
                    raise  # else it was written anew meanwhile
        return self.generations.open(load)

    def mark(self) -> tuple[int, int, int]:
        """Differs after any commit; costs less than reading the manifest. Zeros where there is none."""
        try:
            found = os.stat(self.directory / MANIFEST)
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    def is_old(self) -> bool:
        """Whether it has format 1.

        Raises:
            InputError: there is no index, or its manifest cannot be read.
        """
        return bool(self.generations.values()["format"] == FORMAT_1)

    @contextmanager
    def writing(self, wait: float = WAIT_SECONDS) -> Iterator[tuple[Writer, Snapshot]]:
        """Holds the lock for a block that changes what there is, which has today's format then.

        Raises:
            InputError: another one writes, there is no index, or it is damaged.
            DiskError: the directory cannot be written.
        """
        with self.generations.writing(fresh=self.is_old(), wait=wait) as writer:
            if self.is_old():
                write_anew(self.directory, writer, self.old())
                self._remove_old()
            yield writer, self.open()

    @contextmanager
    def replacing(self, wait: float = WAIT_SECONDS) -> Iterator[Writer]:
        """Holds the lock for a block that puts a new index in the place of whatever there is.

        Raises:
            InputError: another one writes, or a manifest of something else is there.
            DiskError: the directory cannot be written.
        """
        self._require_no_other()
        with self.generations.writing(fresh=True, wait=wait) as writer:
            try:
                was_old = self.is_old()
            except InputError:
                was_old = False
            yield writer
            if was_old:
                self._remove_old()

    def remove(self) -> None:
        """Removes the files of the index, and the directory if it holds nothing else."""
        for name in (MANIFEST, COPY, *FOLDERS, LOCK):
            remove(self.directory / name)
        with suppress(OSError):
            self.directory.rmdir()

    def _require_no_other(self) -> None:
        """Programs of all kinds keep a `manifest.json`; a damaged one of an index is not alone.

        Raises:
            InputError: it is of something else.
        """
        try:
            others = not self.generations.values().keys() & {"methods", "encoder"}
        except InputError:
            alone = not any((self.directory / name).exists() for name in (COPY, "segments")) and not any(self.directory.glob(FOLDERS_1))
            others = (self.directory / MANIFEST).exists() and alone
        if others:
            raise InputError(
                f"The folder {str(self.directory)!r} has a {MANIFEST} that is of no index. Name another folder for the index, or take "
                "that file out."
            )

    def _remove_old(self) -> None:
        for path in self.directory.glob(FOLDERS_1):
            remove(path)

    def old(self) -> OldIndex:
        """What an index of format 1 holds.

        Raises:
            InputError: it is damaged.
        """
        try:
            return read_format_1(self.directory, self.generations.values())
        except FileNotFoundError as error:
            raise self.generations.damaged(f"{error.filename}, which {MANIFEST} names, is missing") from error
        except ValueError as error:
            raise self.generations.damaged(str(error)) from error

    def _opened_old(self, folder: Path) -> Snapshot:
        """An index of format 1 as today's, made in a folder that may go when it is opened."""
        copy = IndexStore(folder)
        with copy.generations.writing(fresh=True) as writer:
            return write_anew(folder, writer, self.old())


def write_anew(directory: Path, writer: Writer, old: OldIndex) -> Snapshot:
    """Writes what an index of format 1 holds in today's format, without encoding it again; BM25 comes in addition."""
    places = {passage.text: place for place, passage in enumerate(old.passages)}

    def encode(texts: Sequence[str]) -> Encoded:
        return Encoded(old.vectors[[places[text] for text in texts]], None)

    kind = "hash" if old.encoder == "hash" else "sentence"
    entry = EncoderEntry(name=old.encoder, dim=old.vectors.shape[1], kind=kind, model_name=old.encoder)
    made = IndexWriter(directory, writer, planned(entry), None, encode)
    made.add(old.passages)
    made.merge()
    return made.commit()
