"""Files of evaluations: the whole result as JSON, the rows as CSV, and a journal that an interrupted evaluation goes on from.

Knows no program and no metric.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from homefire.configs.home import require_directory, write_atomic
from homefire.configs.rows_file import csv_text
from homefire.errors import DiskError, InputError
from homefire.modules.example import Example
from homefire.optimizers.evaluation_row import Row, flat_records, full_record, json_fields, row_of

_VERSION = 1
_MARK = "homefire_evaluation"
_JOURNAL = "homefire_evaluation_journal"


def write_result(path: Path, head: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Writes a result as JSON, whole or not at all.

    Raises:
        DiskError: the file cannot be written.
    """
    content = {_MARK: _VERSION, **head, "rows": [full_record(row) for row in rows]}
    write_atomic(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def read_result(path: Path) -> tuple[dict[str, Any], list[Row]]:
    """What `write_result` wrote.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content[_MARK] != _VERSION:
            raise InputError(f"{path} was written by a newer homefire (form {content[_MARK]}, this one reads {_VERSION}). Update homefire.")
        return content, [row_of(record) for record in content["rows"]]
    except OSError as error:
        raise InputError(f"The evaluation {path} cannot be read: {error.strerror or error}. Check the path.") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no evaluation. Expected is a file that result.to_json('{path.name}') wrote.") from None


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Writes one line for every row, under a header; see `flat_records`.

    Raises:
        DiskError: the file cannot be written.
    """
    write_atomic(path, csv_text(flat_records(rows)))


class Journal:
    """A file that each row is appended to as it ends, so that a killed evaluation goes on from there.

    Args:
        path: The file, JSON Lines; made if need be.
        examples: What is evaluated, in order.
        identity: What must be the same when it goes on: texts that stand for the program and the metric, by name.

    Raises:
        InputError: the file is of another evaluation.
        DiskError: it cannot be written.
    """

    def __init__(self, path: Path, examples: Sequence[Example], identity: Mapping[str, str]) -> None:
        self.path = path
        self._lock = threading.Lock()
        data = sha256(json.dumps([json_fields(example) for example in examples], sort_keys=True).encode()).hexdigest()[:16]
        self._head = {_JOURNAL: _VERSION, "examples": data, **identity}
        self.done: dict[int, Row] = {}
        """Rows of earlier runs by the place of their example, but for those that failed, which get another try."""
        require_directory(path.absolute().parent, "the rows of the evaluation")
        self._open(examples)

    def add(self, place: int, row: Row) -> None:
        """Appends a row; called from any thread. The row outlives a kill of this process."""
        self._write({"place": place, **full_record(row)})

    def _open(self, examples: Sequence[Example]) -> None:
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        whole = lines[:-1]  # what a kill cut off in the middle has no line break
        if not whole:
            self.path.write_bytes(b"")
            self._write(self._head)
            return
        self._check(whole[0])
        for line in whole[1:]:
            try:
                record = json.loads(line)
                row = row_of(record, examples[record["place"]])
            except (ValueError, KeyError, TypeError, IndexError):
                continue
            if row.error is None:
                self.done[record["place"]] = row
        if lines[-1]:
            with self.path.open("rb+") as file:
                file.truncate(sum(len(line) + 1 for line in whole))

    def _check(self, line: bytes) -> None:
        try:
            head = json.loads(line)
            known = isinstance(head, dict) and head[_JOURNAL] == _VERSION
        except (ValueError, KeyError):
            known = False
        if not known:
            raise InputError(f"{self.path} is no journal of an evaluation. Give resume= a new file, such as 'evaluation.jsonl'.")
        if changed := [name for name, value in self._head.items() if head.get(name) != value]:
            raise InputError(
                f"{self.path} belongs to another evaluation: the {' and the '.join(changed)} changed since. Delete it to begin anew, "
                "or give resume= another file; answers that are in the response cache cost nothing."
            )

    def _write(self, record: Mapping[str, Any]) -> None:
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        try:
            with self._lock, self.path.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise DiskError(f"{self.path} cannot be appended to: {error.strerror or error}. Free some space; then resume.") from None
