"""The documents of files and folders, one by one, with a bar that knows how many there will be and a list of what was skipped.

Knows no index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from homefire.configs.console import Task, progress
from homefire.retrieval.corpus_files import CorpusFile
from homefire.retrieval.document import Document
from homefire.retrieval.reading import Unread, find_files, read_documents


class Corpus:
    """The documents below some paths. Sources are relative to the working folder, so that a path means the same however it is written.

    Args:
        paths: Files and folders.

    Raises:
        InputError: a path leads nowhere, or there is no file among them that can be read.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.unread = Unread()
        """What was not read, as far as it has been tried."""
        self.count = 0
        """Documents that were read."""
        self.files = find_files(paths, base=Path.cwd(), report=self.unread)

    @contextmanager
    def documents(self) -> Iterator[Iterator[Document]]:
        """Reads them, for a block that takes them in, and shows how far it is."""
        with progress("Indexing documents", len(self.files)) as task:
            yield self._read(task)
            task.update(description="Indexing documents")

    def _read(self, task: Task) -> Iterator[Document]:
        expected = _Expected(self.files, task)
        paths = [file.path for file in self.files]
        for document in read_documents(paths, base=Path.cwd(), report=self.unread):
            yield document
            self.count += 1
            expected.after(document)
        task.update(total=self.count, description="Encoding and writing the last ones")


class _Expected:
    """Guesses how many documents there will be: those before stand to all as the bytes of their files do."""

    def __init__(self, files: list[CorpusFile], task: Task) -> None:
        self._files = files
        self._sizes = [_size(file.path) for file in files]
        self._all = sum(self._sizes)
        self._task = task
        self._place = 0
        self._before = 0
        """Bytes of the files before this one."""
        self._inside = 0
        """Characters of this one's documents."""
        self._count = 0

    def after(self, document: Document) -> None:
        """Moves the bar on."""
        self._count += 1
        while self._place < len(self._files) - 1 and not _is_of(document, self._files[self._place]):
            self._before += self._sizes[self._place]
            self._place += 1
            self._inside = 0
        self._inside += len(document.text)
        rows = document.source != self._files[self._place].source
        done = self._before + (min(self._inside, self._sizes[self._place]) if rows else self._sizes[self._place])
        files_left = len(self._files) - self._place - 1
        if rows and done:
            total = max(self._count + files_left, round(self._count * self._all / done))
        else:
            total = max(self._count + files_left, int(self._task.total or 0))
        self._task.update(completed=self._count, total=total)


def _is_of(document: Document, file: CorpusFile) -> bool:
    return document.source == file.source or document.source.startswith(file.source + "#")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
