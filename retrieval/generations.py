"""Generations: a directory that holds what its `manifest.json` names, and changes from one whole state to the next.

Knows no passages and no vectors: whoever keeps something in such a directory says what its folders hold.

Files are immutable. A commit writes new ones, replaces the manifest, and then removes what no manifest names. So a kill at any moment
leaves the old state or the new one; what it left half-written is removed by the next writer. One writer holds the lock; readers need none:
memory maps and open files outlive their removal, and a reader that finds a file gone reads the newer manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from homefire.configs.console import note
from homefire.configs.home import atomic_directory, write_atomic
from homefire.errors import DiskError, InputError
from homefire.retrieval.stored_files import FileProblem, FileRecord, State, described, problems, record_of, remove

MANIFEST = "manifest.json"
COPY = "manifest.copy.json"
"""What the manifest said last, for the case that it is lost."""

LOCK = ".lock"
"""Held by the one that writes."""

WAIT_SECONDS = 60.0
"""How long a writer waits for another by default."""

_SMALL = 64 * 1024
"""Bytes up to which a file's checksum is looked at when the directory is opened."""

_NAME = re.compile(r"[a-z0-9_]+(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+")
"""Names of files in a manifest: no way leads up or out."""

_ENTRY = re.compile(r"\.?[0-9]{6,}-[0-9a-f]{8}(\..*)?|\.probe-[0-9a-f]{8}")
"""Names that a writer gives, whole or half-written: nothing else in the folders is ever removed."""

_SEAL = "sha256"
"""Key of the manifest's own checksum; manifests of before have none."""

_OWN = ("format", "generation", "commit", "files", _SEAL)
"""Keys of a manifest that are not its owner's."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Draft:
    """A folder that is being written."""

    name: str
    """Its path inside the directory once it is whole, as in `segments/000012-1f0c`."""
    path: Path
    """Where to write its files now; this path ends with the block."""


class Generations:
    """Reads and writes such a directory. Holds no open file, so that it may be made anew at any time.

    Args:
        directory: The directory; it need not exist yet.
        format: Number of the manifest's layout; others are refused.
        what: What the directory holds, as in "index"; used in errors.
        folders: Names of the folders that hold what the manifest names. Everything else in them is removed by a commit.
        remedy: What to do about damage: the end of such errors, one or two sentences.
        making: How one is made where there is none.
    """

    def __init__(self, directory: Path, *, format: int, what: str, folders: tuple[str, ...], remedy: str, making: str = "") -> None:
        self.directory = directory
        self.format = format
        self.what = what
        self.folders = folders
        self.remedy = remedy
        self.making = making

    def read(self, name: str = MANIFEST) -> State:
        """The state that the manifest names now, or that its copy names.

        Raises:
            InputError: there is none, it has another format, it cannot be read, or it names a file outside the directory.
        """
        values = self.values(name)
        if values["format"] != self.format:
            raise InputError(
                f"The {self.what} {str(self.directory)!r} has format {values['format']!r}; expected {self.format}. "
                "Build it again with this version."
            )
        return self._state(values)

    def values(self, name: str = MANIFEST) -> dict[str, Any]:
        """The manifest as it stands in the file, of any format.

        Raises:
            InputError: as `read`.
        """
        try:
            values = json.loads((self.directory / name).read_text(encoding="utf-8"))
            if not isinstance(values, dict) or "format" not in values:
                raise ValueError("it names no format")
        except (FileNotFoundError, NotADirectoryError):
            if name != COPY and (self.directory / COPY).is_file():
                raise self.damaged(f"{name} is missing") from None
            how = f": {self.making}" if self.making else ""
            raise InputError(f"There is no {self.what} in {str(self.directory)!r}; make one first{how}.") from None
        except (OSError, ValueError) as error:
            raise self.damaged(f"{name} cannot be read ({error})") from error
        return values

    def open(self, load: Callable[[State], T]) -> T:
        """What `load` makes of the newest state; again with the newer one when a writer removed files meanwhile.

        `load` must open every file that it will ever need.

        Raises:
            InputError: as `read`, or a file is missing, has another size than was written or, a small one, another checksum.
        """
        while True:
            state = self.read()
            try:
                for problem in problems(self.directory, state, checksums_up_to=_SMALL):
                    raise FileNotFoundError(problem.name) if problem.is_missing else self.damaged(f"{problem.name} {problem.what}")
                return load(state)
            except FileNotFoundError as error:
                if self.read().commit == state.commit:
                    raise self.damaged(f"{error.filename or error}, which {MANIFEST} names, is missing") from error

    def checked(self) -> tuple[State, list[FileProblem]]:
        """The newest state, and those of its files that are not what was written; every file is read.

        A writer may remove files meanwhile; then the newer state is looked at.

        Raises:
            InputError: as `read`.
        """
        while True:
            state = self.read()
            found = list(problems(self.directory, state))
            if not found or self.read().commit == state.commit:
                return state, found

    def damaged(self, what: str) -> InputError:
        """The error for damage: `what` is a part of a sentence, as in "vectors.npy is missing"."""
        return InputError(f"The {self.what} {str(self.directory)!r} is damaged: {what}. {self.remedy}")

    @contextmanager
    def writing(self, *, fresh: bool = False, wait: float = WAIT_SECONDS) -> Iterator[Writer]:
        """Holds the lock of the directory for a block that may commit, once or several times; nothing changes but by a commit.

        Args:
            fresh: What will be committed stands in the place of what is there, which may be damaged or nothing at all.
            wait: Seconds to wait for another writer; it is named on the console.

        Raises:
            InputError: another one still writes after that time; or as `read`, unless `fresh`.
            DiskError: the directory cannot be written.
        """
        lock = FileLock(self.directory / LOCK)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._acquire(lock, wait)
        except OSError as error:
            raise self._unwritable(error) from error
        sign = self.directory / ".writer"
        try:
            with suppress(OSError):
                sign.write_text(
                    f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC", "utf-8"
                )
            writer = Writer(self, self._state_for_writing(fresh))
            try:
                yield writer
            finally:
                writer.discard(writer.pending)
        finally:
            with suppress(OSError):
                sign.unlink()
            lock.release()

    def _acquire(self, lock: FileLock, wait: float) -> None:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        other = "another process"
        with suppress(OSError):
            other = (self.directory / ".writer").read_text("utf-8") or other
        if wait > 0:
            note(f"The {self.what} {self.directory} is being written by {other}; waiting up to {wait:g} s.")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise InputError(
                f"The {self.what} {str(self.directory)!r} is still being written by {other} after waiting {wait:g} s; there can be one "
                "writer at a time. Repeat the call when the other has ended."
            ) from None

    def _state_for_writing(self, fresh: bool) -> State | None:
        if not fresh:
            return self.read()
        try:
            return self.read()
        except InputError:
            return None

    def _state(self, values: dict[str, Any]) -> State:
        try:
            files = {str(name): FileRecord(int(record["size"]), str(record["sha256"])) for name, record in values["files"].items()}
            content = {key: value for key, value in values.items() if key not in _OWN}
            state = State(generation=int(values["generation"]), commit=str(values["commit"]), content=content, files=files)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self.damaged(f"{MANIFEST} cannot be read ({type(error).__name__}: {error})") from error
        for name in files:
            if not _NAME.fullmatch(name) or name.split("/")[0] not in self.folders:
                raise self.damaged(f"{MANIFEST} names {name!r}, which no {self.what} has")
        if _SEAL in values and values[_SEAL] != _seal(values):
            raise self.damaged(f"{MANIFEST} is not what was written")
        return state

    def _unwritable(self, error: BaseException) -> DiskError:
        while isinstance(error, DiskError) and error.__cause__ is not None:
            error = error.__cause__
        why = (error.strerror if isinstance(error, OSError) else None) or error
        return DiskError(
            f"The {self.what} {str(self.directory)!r} cannot be written: {why}. Free some space, or choose a folder that you can write."
        )


class Writer:
    """Makes one state after the other, while the lock is held. `Generations.writing` gives it."""

    def __init__(self, generations: Generations, state: State | None) -> None:
        self.state = state
        """The newest state; None where there is none that can be read."""
        self._generations = generations
        self._written: dict[str, FileRecord] = {}
        if state is not None:
            self._sweep(state)

    @contextmanager
    def folder(self, kind: str) -> Iterator[Draft]:
        """Yields a new folder to write into, which is whole and on the disk when the block ends well, and gone when it does not.

        Args:
            kind: One of the generations' `folders`.

        Raises:
            DiskError: it cannot be written. Any OSError of the block counts as that, so read and compute before.
        """
        name = self._name(kind)
        target = self._generations.directory / name
        try:
            with atomic_directory(target) as path:
                yield Draft(name, path)
            self._written |= {f"{name}/{file}": record for file, record in described(target).items()}
        except (OSError, DiskError) as error:
            raise self._generations._unwritable(error) from error

    def file(self, kind: str, suffix: str, data: bytes) -> str:
        """Writes one new file and says its name inside the directory, as in `deleted/000012-1f0c.npy`.

        Raises:
            DiskError: it cannot be written.
        """
        name = self._name(kind) + suffix
        self._put(name, data)
        self._written[name] = record_of(self._generations.directory / name)
        return name

    def commit(self, content: Mapping[str, Any], names: set[str]) -> State:
        """Makes a new state the directory's, and removes what it does not name.

        Args:
            content: The owner's part of the manifest: values of JSON, under keys other than format, generation, commit, files and sha256.
            names: The folders and files that it consists of, from this writer or from the state before.

        Raises:
            DiskError: the manifest cannot be written; then all is as before.
        """
        known = {**(self.state.files if self.state else {}), **self._written}
        files = {file: record for file, record in known.items() if _entry(file) in names}
        generation = 1 if self.state is None else self.state.generation + 1
        state = State(generation=generation, commit=secrets.token_hex(8), content=dict(content), files=files)
        own = {"format": self._generations.format, "generation": generation, "commit": state.commit}
        values = own | dict(content) | {"files": {name: asdict(record) for name, record in files.items()}}
        text = json.dumps(values | {_SEAL: _seal(values)}, indent=1)
        self._put(MANIFEST, text)
        self.state, self._written = state, {}
        with suppress(DiskError):
            write_atomic(self._generations.directory / COPY, text)
        self._sweep(state)
        return state

    @property
    def pending(self) -> set[str]:
        """Folders and files that were written and are not committed."""
        return {_entry(file) for file in self._written}

    def discard(self, names: Iterable[str]) -> None:
        """Removes those of the folders and files that were written and are not committed, before a commit would."""
        for name in self.pending & set(names):
            self._written = {file: record for file, record in self._written.items() if _entry(file) != name}
            remove(self._generations.directory / name)

    def restore(self) -> State:
        """Puts the copy of the manifest in the place of one that cannot be read.

        Raises:
            InputError: the copy cannot be read either.
            DiskError: the manifest cannot be written.
        """
        state = self._generations.read(COPY)
        self._put(MANIFEST, (self._generations.directory / COPY).read_bytes())
        self.state = state
        return state

    def _put(self, name: str, data: str | bytes) -> None:
        try:
            write_atomic(self._generations.directory / name, data)
        except DiskError as error:
            raise self._generations._unwritable(error) from error

    def _name(self, kind: str) -> str:
        generation = 1 if self.state is None else self.state.generation + 1
        return f"{kind}/{generation:06d}-{secrets.token_hex(4)}"

    def _sweep(self, state: State) -> None:
        """Removes what neither the state nor this writer names: the lock says that nobody else is writing."""
        kept = {_entry(file) for file in state.files} | self.pending
        for kind in self._generations.folders:
            folder = self._generations.directory / kind
            for path in folder.iterdir() if folder.is_dir() else ():
                if _ENTRY.fullmatch(path.name) and f"{kind}/{path.name}" not in kept:
                    remove(path)
        for pattern in (f".{MANIFEST.split('.')[0]}.*tmp-*", f".probe-{'[0-9a-f]' * 8}"):
            for path in self._generations.directory.glob(pattern):
                remove(path)


def _seal(values: Mapping[str, Any]) -> str:
    """Checksum of a manifest's values, whatever their order and the blanks between them."""
    return hashlib.sha256(json.dumps({key: value for key, value in values.items() if key != _SEAL}, sort_keys=True).encode()).hexdigest()


def _entry(file: str) -> str:
    """The folder of a file, or the file itself, as the directory lists it: `segments/000012-1f0c`."""
    return "/".join(file.split("/")[:2])
