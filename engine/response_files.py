"""The response cache on disk: one file for each answer, written behind the calls and safe for several processes at once.

Knows no requests and no completions: keys and bytes. A file appears whole, by a rename, and carries a checksum; what is damaged counts as
missing. No locks, no database, so it also works on network file systems.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import queue
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from homefire.configs.console import note
from homefire.engine.threads import without_block

_SHARDS = 256
_SWEEP_SHARE = 1 / 16
"""Share of a folder's bytes that is written to it, on average, before its oldest files are looked for."""
_LEAVE_SHARE = 0.9
"""Share of the limit that is left in a folder whose oldest files were removed."""
_QUEUE = 4096
_FLUSH_SECONDS = 10.0
_ABANDONED_SECONDS = 3600.0
_HEADER = b"homefire-response-1 "


@dataclass(frozen=True, slots=True)
class FileStats:
    """What is on disk."""

    entries: int
    size: int
    """Bytes."""


class ResponseFiles:
    """Answers in files under a folder, which is made when the first one is stored.

    When the folder cannot be written the user is told once, and nothing more is stored; what is there is still read.

    Args:
        folder: Where.
        limit_bytes: About as much is kept; the oldest files go first.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._root = str(folder)
        self._queue: queue.Queue[tuple[str, Callable[[], bytes]] | None] = queue.Queue(_QUEUE)
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._writable = True

    def read(self, key: str) -> bytes | None:
        """What was stored under a key; None where there is nothing, or nothing whole."""
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return None
        head, _, body = data.partition(b"\n")
        if head == _HEADER + _checksum(key, body):
            return body
        self.remove(key)
        return None

    def remove(self, key: str) -> None:
        """Removes a damaged entry, where that is possible."""
        with suppress(OSError):
            os.unlink(self._path(key))

    def write_later(self, key: str, content: Callable[[], bytes]) -> None:
        """Stores bytes soon, on a thread of its own; where too much is waiting already, not at all.

        Args:
            key: Under which it is found again.
            content: Makes the bytes, on that thread.
        """
        if not self._writable:
            return
        if self._writer is None:
            self._start()
        with suppress(queue.Full):
            self._queue.put_nowait((key, content))

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Waits until all is written; false where that took too long."""
        deadline = time.monotonic() + seconds
        while self._queue.unfinished_tasks and self._writer is not None and self._writer.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def stats(self) -> FileStats:
        """Counts what is there; reads every folder."""
        sizes = [entry.stat().st_size for shard in self._shards() for entry in _entries(shard)]
        return FileStats(len(sizes), sum(sizes))

    def clear(self) -> FileStats:
        """Removes all entries.

        Returns:
            What was removed.
        """
        self.flush()
        sizes = []
        for shard in self._shards():
            for entry in _entries(shard):
                with suppress(OSError):
                    size = entry.stat().st_size
                    os.unlink(entry.path)
                    sizes.append(size)
            with suppress(OSError):
                os.rmdir(shard)
        return FileStats(len(sizes), sum(sizes))

    def close(self) -> None:
        """Writes what is waiting, if that does not take too long, and ends the thread."""
        atexit.unregister(self.close)
        writer = self._writer
        if writer is not None and self.flush():
            self._queue.put(None)
            writer.join(_FLUSH_SECONDS)
            self._writer = None

    def abandon(self) -> None:
        """For a forked process: what waits is written by the process that it was forked from."""
        atexit.unregister(self.close)

    def _start(self) -> None:
        with self._lock:
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="homefire-response-cache", daemon=True)
                without_block(self._writer.start)
                atexit.register(self.close)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key[2:]}"

    def _shards(self) -> Iterator[str]:
        for number in range(_SHARDS):
            yield f"{self._root}/{number:02x}"

    # Everything below runs on the writer's thread.

    def _write_all(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                if self._writable:
                    self._write(*job)
            except OSError as error:
                self._writable = False
                note(f"Answers are not cached on disk any more: {self.folder}: {error.strerror or error}. They stay in memory.")
            except Exception as error:
                note(f"An answer could not be cached on disk: {type(error).__name__}: {error}.")
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, key: str, content: Callable[[], bytes]) -> None:
        body = content()
        data = _HEADER + _checksum(key, body) + b"\n" + body
        target = self._path(key)
        shard = os.path.dirname(target)
        temporary = f"{shard}/.{secrets.token_hex(8)}"
        try:
            try:
                _write_file(temporary, data)
            except FileNotFoundError:
                os.makedirs(shard, exist_ok=True)
                _write_file(temporary, data)
            os.replace(temporary, target)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            if not os.path.exists(target):
                raise
        if random.random() < len(data) * _SHARDS / (self.limit_bytes * _SWEEP_SHARE):
            self._sweep(shard)

    def _sweep(self, shard: str) -> None:
        """Removes the oldest files of a folder that holds more than its share, and what killed processes left."""
        found = []
        for entry in _entries(shard, hidden=True):
            with suppress(OSError):
                facts = entry.stat()
                if not entry.name.startswith("."):
                    found.append((facts.st_mtime_ns, facts.st_size, entry.path))
                elif facts.st_mtime < time.time() - _ABANDONED_SECONDS:
                    os.unlink(entry.path)
        total, most = sum(size for _, size, _ in found), self.limit_bytes / _SHARDS
        if total <= most:
            return
        for _, size, path in sorted(found):
            if total <= most * _LEAVE_SHARE:
                return
            with suppress(OSError):
                os.unlink(path)
            total -= size


def _write_file(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _checksum(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode("ascii") + body).hexdigest().encode("ascii")


def _entries(shard: str, *, hidden: bool = False) -> list[os.DirEntry[str]]:
    """Files of a folder; unfinished ones have hidden names."""
    try:
        with os.scandir(shard) as entries:
            return [entry for entry in entries if hidden or not entry.name.startswith(".")]
    except OSError:
        return []
