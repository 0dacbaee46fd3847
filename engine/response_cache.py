"""The response cache: a call whose answer is known already gets it at once, from memory or from disk.

Knows no engine and no program. One cache serves all LMs of a process, in threads and tasks; those of several processes share the files.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from homefire.configs.home import home
from homefire.engine.request import Completion, Request
from homefire.engine.response_files import FileStats, ResponseFiles
from homefire.engine.response_key import as_hit, decode_answer, encode_answer, storable
from homefire.errors import ConfigError

_MEMORY_BYTES = 64 * 2**20
_ENTRY_BYTES = 600
_TOKEN_BYTES = 40
"""About what an entry takes beside its text, and a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """Where answers are kept and how many."""

    memory: bool = True
    folder: Path | None = None
    """None: not on disk."""
    limit_bytes: int = 4 * 10**9
    memory_entries: int = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """What a cache holds and has done in this process."""

    folder: Path | None
    on_disk: FileStats
    in_memory: int
    hits: int
    misses: int


class ResponseCache:
    """Answers by key: the last ones in memory, all of them in files."""

    def __init__(self, settings: CacheSettings) -> None:
        self.settings = settings
        self.files = None if settings.folder is None else ResponseFiles(settings.folder, settings.limit_bytes)
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, tuple[tuple[Completion, ...], int]] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0

    def in_memory(self, key: str) -> tuple[Completion, ...] | None:
        """The answer of a key if memory has it; never waits."""
        with self._lock:
            found = self._answers.get(key)
            if found is None:
                if self.files is None:
                    self._misses += 1
                return None
            self._answers.move_to_end(key)
            self._hits += 1
            return found[0]

    def on_disk(self, key: str) -> tuple[Completion, ...] | None:
        """The answer of a key if a file has it; reads that file."""
        body = None if self.files is None else self.files.read(key)
        answer = None
        if self.files is not None and body is not None:
            try:
                answer = decode_answer(body)
            except ValueError:
                self.files.remove(key)
        with self._lock:
            if answer is None:
                self._misses += 1
            else:
                self._hits += 1
                self._remember(key, answer)
        return answer

    def store(self, key: str, request: Request, answer: Sequence[Completion]) -> None:
        """Keeps an answer, unless another call with the same key must not have it."""
        if not storable(request, answer):
            return
        hits = as_hit(answer)
        with self._lock:
            self._remember(key, hits)
        if self.files is not None:
            self.files.write_later(key, partial(encode_answer, hits))

    def stats(self) -> CacheStats:
        """Counts; reads all folders on disk."""
        on_disk = FileStats(0, 0) if self.files is None else self.files.stats()
        folder = self.settings.folder
        return CacheStats(folder=folder, on_disk=on_disk, in_memory=len(self._answers), hits=self._hits, misses=self._misses)

    def clear(self) -> FileStats:
        """Forgets everything, in memory and on disk.

        Returns:
            What was removed from disk.
        """
        with self._lock:
            self._answers.clear()
            self._bytes = 0
        return FileStats(0, 0) if self.files is None else self.files.clear()

    def close(self) -> None:
        """Ends the thread that writes, once it has written all."""
        if self.files is not None:
            self.files.close()

    def abandon(self) -> None:
        """Leaves files and thread to the process that this one was forked from."""
        if self.files is not None:
            self.files.abandon()

    def _remember(self, key: str, answer: tuple[Completion, ...]) -> None:
        if not self.settings.memory:
            return
        _, size = self._answers.pop(key, (None, 0))
        self._bytes -= size
        size = _ENTRY_BYTES + sum(len(one.text) + len(one.thinking) + _TOKEN_BYTES * _numbers(one) for one in answer)
        self._answers[key] = answer, size
        self._bytes += size
        while self._bytes > _MEMORY_BYTES or len(self._answers) > self.settings.memory_entries:
            _, (_, size) = self._answers.popitem(last=False)
            self._bytes -= size


def _numbers(completion: Completion) -> int:
    return len(completion.token_ids) + len(completion.logprobs or ())


class _Process:
    """The cache of this process, made when it is first needed."""

    lock = threading.Lock()
    cache: ResponseCache | None = None
    forks_handled = False


def response_cache() -> ResponseCache | None:
    """The cache of this process; None where it is off.

    Raises:
        ConfigError: the environment says something that cannot be used.
    """
    cache = _Process.cache
    if cache is None:
        with _Process.lock:
            cache = _Process.cache or ResponseCache(settings_of_environment())
            _use(cache)
    return cache if cache.settings.memory or cache.files is not None else None


def configure_cache(
    *,
    enable_disk_cache: bool | None = None,
    enable_memory_cache: bool | None = None,
    disk_cache_dir: str | Path | None = None,
    disk_size_limit_bytes: int | None = None,
    memory_max_entries: int | None = None,
) -> None:
    """Sets the response cache of this process; what is left out is as the environment says, which is on in memory and on disk.

    Args:
        enable_disk_cache: Whether answers are kept in files, for the next run and for other processes.
        enable_memory_cache: Whether the last answers are kept in memory.
        disk_cache_dir: Folder of the files; made when the first answer is stored. `HOMEFIRE_CACHE` in the environment says the same.
        disk_size_limit_bytes: About as much is kept on disk; the oldest answers go first. `HOMEFIRE_CACHE_LIMIT` says the same.
        memory_max_entries: Most answers in memory.

    Raises:
        ConfigError: a value that cannot be used.
    """
    settings = settings_of_environment()
    for name, value in (("disk_size_limit_bytes", disk_size_limit_bytes), ("memory_max_entries", memory_max_entries)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{name} is {value!r}; expected a whole number above 0.")
    if disk_cache_dir is not None:
        settings = replace(settings, folder=Path(disk_cache_dir).expanduser().absolute())
    elif enable_disk_cache and settings.folder is None:
        settings = replace(settings, folder=_default_folder())
    if enable_disk_cache is False:
        settings = replace(settings, folder=None)
    settings = replace(
        settings,
        memory=settings.memory if enable_memory_cache is None else enable_memory_cache,
        limit_bytes=disk_size_limit_bytes or settings.limit_bytes,
        memory_entries=memory_max_entries or settings.memory_entries,
    )
    with _Process.lock:
        before = _Process.cache
        _use(ResponseCache(settings))
    if before is not None:
        before.close()


def settings_of_environment() -> CacheSettings:
    """What `HOMEFIRE_CACHE` (`off`, `memory` or a folder) and `HOMEFIRE_CACHE_LIMIT` (bytes) say; on, where they say nothing.

    Raises:
        ConfigError: the limit is no number.
    """
    where = os.environ.get("HOMEFIRE_CACHE", "").strip()
    limit = os.environ.get("HOMEFIRE_CACHE_LIMIT", "").strip()
    if limit and not (limit.isascii() and limit.isdigit() and int(limit) > 0):
        raise ConfigError(f"HOMEFIRE_CACHE_LIMIT is {limit!r}; expected a number of bytes above 0, such as 2000000000.")
    settings = CacheSettings(limit_bytes=int(limit)) if limit else CacheSettings()
    if where.lower() == "off":
        return replace(settings, memory=False)
    if where.lower() == "memory":
        return settings
    return replace(settings, folder=Path(where).expanduser().absolute() if where else _default_folder())


def _default_folder() -> Path:
    return home() / "cache" / "responses"


def _use(cache: ResponseCache) -> None:
    """Makes it the cache of this process."""
    if not _Process.forks_handled and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _Process.forks_handled = True
    _Process.cache = cache


def _after_fork() -> None:
    """A forked process has no thread that writes, and maybe locks that nobody will open: it begins with an empty cache of its own."""
    _Process.lock = threading.Lock()
    if _Process.cache is not None:
        _Process.cache.abandon()
        _Process.cache = ResponseCache(_Process.cache.settings)
