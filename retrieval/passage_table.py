"""The passage table of a segment: an SQLite file that is written once and then only read, by the number of the row.

Knows no vector and no manifest. The first rows are those that are searched; behind them stand the spare ones: passages whose text another
passage has already, kept for the case that the other one goes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from homefire.errors import DiskError, InputError
from homefire.retrieval.document import text_key
from homefire.retrieval.filters import COLUMNS, Where, conditions
from homefire.retrieval.passage import Passage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Mask: TypeAlias = "npt.NDArray[np.bool_] | None"

TABLE = "passages.db"
SOURCES = "sources.jsonl"
"""The sources once more, so that what is lost with a damaged table has a name."""

_AT_ONCE = 500
"""Values in one statement."""
_MAPPED = 2**40
"""Bytes of the file that are read through a memory map, which takes half as long; SQLite lowers it to the most that it can."""

_TABLES = """
CREATE TABLE passage (row INTEGER PRIMARY KEY, id NOT NULL, source NOT NULL, position INTEGER NOT NULL, text NOT NULL,
                      metadata TEXT NOT NULL, key BLOB NOT NULL);
CREATE TABLE value (field NOT NULL, value NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (field, value, row)) WITHOUT ROWID;
CREATE TABLE document (source NOT NULL PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE field (name NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE counts (rows INTEGER NOT NULL, spare INTEGER NOT NULL);
"""
_INDEXES = """
CREATE UNIQUE INDEX passage_id ON passage (id);
CREATE INDEX passage_source ON passage (source);
CREATE INDEX passage_key ON passage (key);
INSERT INTO field SELECT DISTINCT field FROM value;
"""


_MERGE = (
    """INSERT INTO passage SELECT place.row, p.id, p.source, p.position, p.text, p.metadata, p.key
       FROM place JOIN other.passage p ON p.row = place.before ORDER BY place.before""",
    "INSERT INTO value SELECT v.field, v.value, place.row FROM other.value v JOIN place ON place.before = v.row",
    """INSERT OR REPLACE INTO document SELECT d.source, d.digest FROM other.document d
       WHERE EXISTS (SELECT 1 FROM other.passage p JOIN place ON place.before = p.row WHERE p.source = d.source)""",
)
"""Takes over from a table the rows that have a place in the new one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it is written and read by writers."""

    row: int
    passage: Passage
    key: bytes
    """Equal for passages whose texts count as the same."""


def key_of(text: str) -> bytes:
    """The key of a text."""
    return bytes.fromhex(text_key(text))


Keyed: TypeAlias = tuple[Passage, bytes]
"""A passage with the key of its text."""


def write_passages(folder: Path, passages: Iterable[Keyed], spare: Iterable[Keyed] = (), digests: Mapping[str, str] | None = None) -> None:
    """Writes the table into a folder.

    Args:
        folder: Where the file goes.
        passages: Row 0, row 1, ...
        spare: The rows behind them. No id stands in both.
        digests: For each source that is whole here, what its document was.

    Raises:
        InputError: metadata that JSON cannot hold.
        DiskError: the disk is full.
    """
    with _new_table(folder) as connection:
        connection.execute("BEGIN")
        count = 0
        for count, (passage, key) in enumerate(passages, start=1):
            _insert(connection, count - 1, passage, key)
            if passage.metadata:
                values = ((_stored(name), _sortable(value), count - 1) for name, value in passage.metadata.items() if value == value)
                connection.executemany("INSERT OR IGNORE INTO value VALUES (?, ?, ?)", values)
        end = count
        for end, (passage, key) in enumerate(spare, start=count + 1):
            _insert(connection, end - 1, passage, key)
        connection.execute("INSERT INTO counts VALUES (?, ?)", (count, end - count))
        pairs = ((_stored(source), digest) for source, digest in (digests or {}).items())
        connection.executemany("INSERT INTO document VALUES (?, ?)", pairs)
        connection.execute("COMMIT")


def merge_passages(folder: Path, tables: Sequence[PassageTable], keep: Sequence[npt.NDArray[np.bool_]]) -> None:
    """Writes the kept rows of some tables as one, in their order, the spare ones of all behind the others.

    Args:
        folder: Where the file goes.
        tables: Whose files are still there.
        keep: For each table which rows are kept.

    Raises:
        DiskError: the disk is full.
    """
    import numpy as np

    with _new_table(folder) as connection:
        connection.executescript("PRAGMA temp_store = MEMORY; CREATE TEMP TABLE place (before INTEGER PRIMARY KEY, row INTEGER NOT NULL)")
        count = sum(int(mask[: table.rows].sum()) for table, mask in zip(tables, keep, strict=True))
        first, first_spare = 0, count
        for table, mask in zip(tables, keep, strict=True):
            rows, spare = np.flatnonzero(mask[: table.rows]), np.flatnonzero(mask[table.rows :]) + table.rows
            connection.execute("ATTACH ? AS other", (table.uri,))
            connection.execute("BEGIN")
            connection.execute("DELETE FROM place")
            connection.executemany("INSERT INTO place VALUES (?, ?)", zip(rows.tolist(), range(first, first + len(rows)), strict=True))
            numbers = range(first_spare, first_spare + len(spare))
            connection.executemany("INSERT INTO place VALUES (?, ?)", zip(spare.tolist(), numbers, strict=True))
            for statement in _MERGE:
                connection.execute(statement)
            connection.execute("COMMIT")
            connection.execute("DETACH other")
            first, first_spare = first + len(rows), first_spare + len(spare)
        connection.execute("INSERT INTO counts VALUES (?, ?)", (count, first_spare - count))


@contextmanager
def _new_table(folder: Path) -> Iterator[sqlite3.Connection]:
    """An empty table, to which indexes are added in the end."""
    try:
        with closing(sqlite3.connect((folder / TABLE).absolute().as_uri(), uri=True, isolation_level=None)) as connection:
            connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536; {_TABLES}")
            yield connection
            connection.executescript(_INDEXES)
            _write_sources(folder, (_loaded(source) for (source,) in connection.execute("SELECT DISTINCT source FROM passage")))
    except sqlite3.OperationalError as error:
        raise DiskError(f"The passages cannot be written to {folder}: {error}. Free some space.") from error


class PassageTable:
    """A written table. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self.uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(self.uri, uri=True, check_same_thread=False)
        self._connection.execute(f"PRAGMA mmap_size = {_MAPPED}")
        self.rows, self.spare = self._one("SELECT rows, spare FROM counts")

    @classmethod
    def open(cls, folder: Path) -> PassageTable:
        """Opens the table of a folder without reading it; it may be removed from then on.

        Raises:
            FileNotFoundError: the file is missing.
            sqlite3.DatabaseError: it is no such table.
        """
        path = folder / TABLE
        path.stat()
        return cls(path)

    def fetch(self, rows: Sequence[int]) -> dict[int, Passage]:
        """The passages of some rows, in any order."""
        found: dict[int, Passage] = {}
        for some in _portions(sorted(rows)):
            marks = ",".join("?" * len(some))
            for row, *values in self._all(f"SELECT row, id, source, position, text, metadata FROM passage WHERE row IN ({marks})", some):
                found[row] = _passage(*values)
        return found

    def all(self, first: int = 0, end: int | None = None) -> Iterator[Row]:
        """All rows from one on up to another, the spare ones behind the others, a portion at a time."""
        end = self.rows + self.spare if end is None else end
        while portion := self._all("SELECT * FROM passage WHERE row >= ? AND row < ? ORDER BY row LIMIT ?", (first, end, _AT_ONCE)):
            for row, name, source, position, text, metadata, key in portion:
                yield Row(row, _passage(name, source, position, text, metadata), key)
            first = portion[-1][0] + 1

    def rows_with(self, column: str, values: Iterable[str | bytes]) -> Iterator[tuple[str | bytes, int]]:
        """Each value with each row that has it, the spare ones included.

        Args:
            column: `id`, `source` or `key`.
            values: Texts; bytes for `key`.
        """
        for some in _portions(list(values)):
            marks = ",".join("?" * len(some))
            wanted = [_stored(value) if isinstance(value, str) else value for value in some]
            found = self._all(f"SELECT {column}, row FROM passage WHERE {column} IN ({marks}) ORDER BY row", wanted)
            yield from ((value if column == "key" else _loaded(value), row) for value, row in found)

    def digests(self, sources: Iterable[str]) -> dict[str, str]:
        """What the documents of these sources were, as far as they are whole here."""
        found: dict[str, str] = {}
        for some in _portions(list(sources)):
            marks = ",".join("?" * len(some))
            pairs = self._all(f"SELECT source, digest FROM document WHERE source IN ({marks})", [_stored(source) for source in some])
            found |= {_loaded(source): digest for source, digest in pairs}
        return found

    def sources(self, keep: Mask = None) -> set[str]:
        """The sources of the rows, or of those that are kept, the spare ones included."""
        if keep is None:
            return {_loaded(source) for (source,) in self._all("SELECT DISTINCT source FROM passage", ())}
        return {_loaded(source) for source, row in self._all("SELECT source, row FROM passage", ()) if keep[row]}

    def fields(self) -> set[str]:
        """Names of the values that the passages have."""
        return {_loaded(name) for (name,) in self._all("SELECT name FROM field", ())}

    def matching(self, where: Where, known: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Which rows a filter lets through, of shape `(rows,)`.

        Args:
            where: The filter.
            known: The fields of the whole index.

        Raises:
            InputError: as `conditions`.
        """
        import numpy as np

        fits = np.ones(self.rows, dtype=np.bool_)
        for one in conditions(where, lambda: known, _stored):
            if one.field in COLUMNS:
                found = self._all(f"SELECT row FROM passage WHERE {one.sql.format(value=one.field)} AND row < ?", (*one.values, self.rows))
            else:
                found = self._all(
                    f"SELECT row FROM value WHERE field = ? AND {one.sql.format(value='value')}", (_stored(one.field), *one.values)
                )
            this = np.zeros(self.rows, dtype=np.bool_)
            this[np.fromiter(chain.from_iterable(found), dtype=np.int64, count=len(found))] = True
            fits &= this
        return fits

    def write_sources(self, folder: Path) -> None:
        """Writes the file of sources into a folder."""
        _write_sources(folder, self.sources())

    def _one(self, sql: str) -> tuple[Any, ...]:
        [row] = self._all(sql, ())
        return row

    def _all(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()


def _insert(connection: sqlite3.Connection, row: int, passage: Passage, key: bytes) -> None:
    try:
        metadata = json.dumps(passage.metadata) if passage.metadata else "{}"
    except (TypeError, ValueError) as error:
        raise _unfit(passage, str(error)) from error
    if not all(isinstance(name, str) and isinstance(value, str | int | float | bool) for name, value in passage.metadata.items()):
        raise _unfit(passage, f"its metadata is {passage.metadata!r}")
    values = (row, _stored(passage.id), _stored(passage.source), passage.position, _stored(passage.text), metadata, key)
    connection.execute("INSERT INTO passage VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _write_sources(folder: Path, sources: Iterable[str]) -> None:
    (folder / SOURCES).write_text("".join(f"{json.dumps(source)}\n" for source in sources), encoding="utf-8")


def _unfit(passage: Passage, why: str) -> InputError:
    return InputError(f"The passage {passage.id!r} cannot be saved: {why}. Metadata values must be str, int, float or bool.")


def _passage(name: str | bytes, source: str | bytes, position: int, text: str | bytes, metadata: str) -> Passage:
    values = json.loads(metadata) if metadata != "{}" else {}
    return Passage(id=_loaded(name), text=_loaded(text), source=_loaded(source), position=position, metadata=values)


def _stored(text: str) -> str | bytes:
    """Half of a surrogate pair, which SQLite takes in no text, makes a text bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _loaded(stored: str | bytes) -> str:
    return stored if isinstance(stored, str) else stored.decode("utf-8", "surrogatepass")


def _sortable(value: str | int | float | bool) -> str | bytes | int | float:
    if isinstance(value, str):
        return _stored(value)
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _portions(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
