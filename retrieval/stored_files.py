"""Files of an index as its manifest records them: sizes and checksums, and what became of them.

Knows no format of any file: bytes only.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file was when it was written."""

    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True, slots=True)
class FileProblem:
    """A file that is not what was written."""

    name: str
    """Path inside the directory, with forward slashes."""
    what: str
    """As in "is missing"."""
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a manifest says."""

    generation: int
    """Commits so far."""
    commit: str
    """Differs between any two commits."""
    content: Mapping[str, Any]
    """The owner's own part: values of JSON."""
    files: Mapping[str, FileRecord]
    """Every file by its path inside the directory, with forward slashes."""

    def below(self, name: str) -> dict[str, FileRecord]:
        """The files of one folder, or the one file of that name, by their paths inside the directory."""
        return {file: record for file, record in self.files.items() if file == name or file.startswith(name + "/")}


def problems(directory: Path, state: State, *, checksums_up_to: int | None = None) -> Iterator[FileProblem]:
    """The files of a state that are not what was written.

    Args:
        directory: Where they are.
        state: What they were.
        checksums_up_to: Files of more bytes are judged by their size alone; None reads all of them.
    """
    for name, record in state.files.items():
        path = directory / name
        try:
            found = path.stat().st_size
            if found != record.size:
                yield FileProblem(name, f"has {found} bytes, but {record.size} were written")
            elif (checksums_up_to is None or found <= checksums_up_to) and sha256(path) != record.sha256:
                yield FileProblem(name, "is not what was written")
        except FileNotFoundError:
            yield FileProblem(name, "is missing", is_missing=True)
        except OSError as error:
            yield FileProblem(name, f"cannot be read ({error.strerror or error})")


def described(folder: Path) -> dict[str, FileRecord]:
    """All files below a folder by their paths in it, with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): record_of(path) for path in files}


def record_of(file: Path) -> FileRecord:
    """What a file is now."""
    return FileRecord(file.stat().st_size, sha256(file))


def sha256(file: Path) -> str:
    """Checksum of a file's bytes."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Removes a file or a folder as far as that is possible; what is left is found by the next writer."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
