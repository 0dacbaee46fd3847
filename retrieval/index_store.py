"""The directory of an index: opened as snapshots, written under its lock.

Knows no encoder's model and no search.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homefire.retrieval.generations import MANIFEST, WAIT_SECONDS, Generations, Writer
from homefire.retrieval.index_manifest import FOLDERS, FORMAT
from homefire.retrieval.snapshot import Opened, Snapshot, open_snapshot
from homefire.retrieval.stored_files import State

REMEDY = "Mend it with homefire.check_index(directory, repair=True), or build it again with Index.build."


class IndexStore:
    """One index directory.

    Args:
        directory: It need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.generations = Generations(directory, format=FORMAT, what="index", folders=FOLDERS, remedy=REMEDY)

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

        return self.generations.open(load)

    def mark(self) -> tuple[int, int, int]:
        """Differs after any commit; costs less than reading the manifest. Zeros where there is none."""
        try:
            found = os.stat(self.directory / MANIFEST)
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    @contextmanager
    def writing(self, wait: float = WAIT_SECONDS) -> Iterator[tuple[Writer, Snapshot]]:
        """Holds the lock for a block that changes what there is.

        Raises:
            InputError: another one writes, there is no index, or it is damaged.
            DiskError: the directory cannot be written.
        """
        with self.generations.writing(wait=wait) as writer:
            yield writer, self.open()
