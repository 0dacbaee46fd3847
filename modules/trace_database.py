"""The SQLite file of a trace store: its tables, one transaction for a batch of runs, and the removal of old ones.

Knows no thread and no program. A connection belongs to whoever opened it; readers and writers of several processes do not wait for each
other (write-ahead log).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from homefire.errors import DiskError, InputError
from homefire.modules.stored_trace import Rows

MIGRATIONS = (
    """
    CREATE TABLE signatures (key TEXT PRIMARY KEY, described TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE traces (
        id TEXT PRIMARY KEY, program TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL,
        inputs TEXT NOT NULL, outputs TEXT NOT NULL, calls TEXT NOT NULL, models TEXT NOT NULL, error TEXT,
        steps INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, size INTEGER NOT NULL
    );
    CREATE INDEX traces_by_time ON traces (started);
    CREATE TABLE steps (
        trace TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE, position INTEGER NOT NULL,
        id TEXT NOT NULL, path TEXT NOT NULL, signature TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT,
        started REAL NOT NULL, seconds REAL NOT NULL, error TEXT, body TEXT NOT NULL,
        PRIMARY KEY (trace, position)
    );
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY, trace TEXT NOT NULL REFERENCES traces (id) ON DELETE CASCADE,
        score REAL, text TEXT NOT NULL, labels TEXT NOT NULL, at REAL NOT NULL
    );
    CREATE INDEX feedback_by_trace ON feedback (trace);
    """,
)
"""Statements that make each version of the tables from the one before; the file's `user_version` says which it has."""

_APPLICATION = 0x68667472
_BUSY_SECONDS = 10.0
_OPEN_ATTEMPTS = 100
_CHUNK = 200
"""Runs that are removed in one go."""
_LEAVE_SHARE = 0.9


def connect(path: Path, *, make: bool = True) -> sqlite3.Connection:
    """Opens the file, made and brought to the newest version where need be.

    Raises:
        InputError: it is there but no trace store, or one of a newer homefire; or it is not there and `make` is false.
        DiskError: it cannot be opened.
    """
    if make:
        _make_folder(path)
    elif not path.exists():
        raise InputError(f"There is no trace store at {path}. Record one: with homefire.TraceStore({str(path)!r}).recording(): ...")
    for attempt in range(_OPEN_ATTEMPTS):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path)
            return connection
        except BaseException as error:
            connection.close()
            if not is_locked(error) or attempt == _OPEN_ATTEMPTS - 1:
                raise
            time.sleep(0.05)
    raise AssertionError("the loop returns or raises")


@contextmanager
def opened(path: Path, *, make: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection for a block.

    Raises:
        InputError: as `connect`, and a damaged file.
        DiskError: the file cannot be read or written.
    """
    try:
        connection = connect(path, make=make)
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise DiskError(f"The trace store {path} cannot be used: {error}. Give another path: TraceStore(...).") from error
    except sqlite3.DatabaseError as error:
        raise InputError(f"The trace store {path} is damaged: {error}. Move the file away to begin a new one.") from error


def is_locked(error: BaseException) -> bool:
    """Whether another process holds the file for the moment."""
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def write(connection: sqlite3.Connection, batch: Sequence[Rows]) -> None:
    """Writes runs in one transaction: all of them or none."""
    signatures = [item for rows in batch for item in rows.signatures.items()]
    with _transaction(connection):
        connection.executemany("INSERT OR IGNORE INTO signatures VALUES (?, ?)", signatures)
        connection.executemany(f"INSERT OR IGNORE INTO traces VALUES ({_places(13)})", [rows.trace for rows in batch])
        connection.executemany(f"INSERT OR IGNORE INTO steps VALUES ({_places(11)})", [row for rows in batch for row in rows.steps])


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the file that hold something."""
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def remove_old(connection: sqlite3.Connection, limit_bytes: int, before: float) -> int:
    """Removes runs that began before a time, and the oldest where the file is too large; the file gets smaller.

    Args:
        connection: To the file.
        limit_bytes: About as much is kept.
        before: Seconds since 1970.

    Returns:
        How many were removed.
    """
    removed = 0
    while count := _delete(connection, "SELECT id FROM traces WHERE started < ? LIMIT ?", (before, _CHUNK)):
        removed += count
    if used_bytes(connection) > limit_bytes:
        while used_bytes(connection) > limit_bytes * _LEAVE_SHARE:
            count = _delete(connection, "SELECT id FROM traces ORDER BY started LIMIT ?", (_some(connection),))
            removed += count
            if not count:
                break
    if removed:
        shrink(connection)
    return removed


def shrink(connection: sqlite3.Connection) -> None:
    """Gives the space of removed runs back to the disk."""
    with _transaction(connection):
        connection.execute("DELETE FROM signatures WHERE key NOT IN (SELECT signature FROM steps)")
    connection.execute("PRAGMA incremental_vacuum").fetchall()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _delete(connection: sqlite3.Connection, which: str, values: tuple[float, ...]) -> int:
    with _transaction(connection):
        return connection.execute(f"DELETE FROM traces WHERE id IN ({which})", values).rowcount


def _some(connection: sqlite3.Connection) -> int:
    """A twentieth of all runs, so that a few rounds are enough for any size of run."""
    count = connection.execute("SELECT count(*) FROM traces").fetchone()[0]
    return max(1, min(_CHUNK, int(count) // 20))


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"The folder {path.parent} for traces cannot be made: {error.strerror or error}. Give another path.") from error


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version == 0 and _has_tables(connection):
        version = _version(connection)  # another process may just have made them
        if version == 0:
            raise InputError(f"{path} is a database of something else, not a trace store. Give another path: TraceStore(...).")
    if version > len(MIGRATIONS):
        raise InputError(
            f"The trace store {path} was written by a newer homefire (tables {version}, known up to {len(MIGRATIONS)}). Update."
        )
    if version == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
    if version < len(MIGRATIONS):
        _migrate(connection)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA journal_size_limit = 16000000")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has_tables(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _migrate(connection: sqlite3.Connection) -> None:
    """Brings the tables to the newest version in one transaction; another process may have done so meanwhile."""
    with _transaction(connection):
        for statements in MIGRATIONS[_version(connection) :]:
            for statement in filter(str.strip, statements.split(";")):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _places(count: int) -> str:
    return ", ".join("?" * count)
