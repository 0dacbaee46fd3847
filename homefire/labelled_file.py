"""The user's own labelled texts, from CSV, TSV or JSON Lines.

Knows no model and no program: every mistake that such a file can have becomes an error that says what to do.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from homefire.errors import InputError
from homefire.labelled_text import LabelledText, distinct, normalised

_FEWEST_PER_LABEL = 5

_log = logging.getLogger(__name__)


def read_labelled(
    path: str | Path, text_column: str, label_column: str, *, fewest_rows: int = 30, notice: Callable[[str], None] = _log.warning
) -> list[LabelledText]:
    """Reads a user's own examples from CSV (`,`, `;` or tab between fields), TSV or JSON Lines, in UTF-8.

    Rows without text or label are skipped with a notice; so are repeated texts, and texts that occur under two labels.

    Args:
        path: the file; `.tsv` and `.tab` are read as TSV, `.jsonl` and `.ndjson` as JSON Lines, all others as CSV with a header row.
        text_column: name of the column, or key, of the text.
        label_column: name of the column, or key, of the class.
        fewest_rows: fewer usable rows than that are refused.
        notice: is told in one sentence what was left out and why.

    Raises:
        InputError: the file is missing, broken or not UTF-8, lacks a column, or has too few rows or labels to learn from.
    """
    path = Path(path)
    if text_column == label_column:
        raise InputError(f"Text and label were both to be read from the column {text_column!r}; name two different columns.")
    content = _decoded(path)
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        records = _json_records(path, content, (text_column, label_column))
    else:
        records = _csv_records(path, content, (text_column, label_column))
    rows: list[LabelledText] = []
    empty: list[int] = []
    for line, text, label in records:
        if text.strip() and label.strip():
            rows.append(LabelledText(text.strip(), label.strip(), normalised(text)))
        else:
            empty.append(line)
    if empty:
        notice(f"{path}: {len(empty)} rows have no text or no label and were left out: {_lines(empty)}.")
    kept = distinct(rows)
    if len(kept) < len(rows):
        notice(f"{path}: {len(rows) - len(kept)} rows repeat a text or give it a second label and were left out.")
    _check_usable(path, kept, label_column, len(empty), fewest_rows)
    return kept


def _check_usable(path: Path, rows: Sequence[LabelledText], label_column: str, empty: int, fewest_rows: int) -> None:
    labels = Counter(row.label for row in rows)
    if len(rows) < fewest_rows:
        raise InputError(
            f"{path} has {len(rows)} usable rows (different texts with a label; {empty} rows lack one of the two); "
            f"at least {fewest_rows} are needed to train and to measure. Add more examples."
        )
    if len(labels) < 2:
        raise InputError(
            f"All {len(rows)} rows of {path} have the label {next(iter(labels))!r}; there is nothing to tell apart. "
            f"Add rows with other labels, or name the right column: --label COLUMN (now {label_column!r})."
        )
    if len(rows) < _FEWEST_PER_LABEL * len(labels):
        raise InputError(
            f"{path} has {len(labels)} different labels in {len(rows)} rows; at least {_FEWEST_PER_LABEL} rows per label are expected. "
            f"Is {label_column!r} the column of the classes? Name the right one with --label COLUMN, merge rare labels, or add rows."
        )


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Check the path; a CSV file with a header row is expected.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. A file of rows in CSV, TSV or JSON Lines is expected.") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}. Save it as UTF-8 "
            f"(in a spreadsheet: 'CSV UTF-8'), or convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8{path.suffix}"
        ) from None


def _csv_records(path: Path, content: str, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    first_line = content.split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() in {".tsv", ".tab"} else max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    places: list[int] = []
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise InputError(
                f"{path} is broken in the row that begins in line {line}: {error}. A quote that is opened must be closed, and a quote "
                'inside a quoted text is written twice (""). Correct the row, or save the data as JSON Lines (.jsonl).'
            ) from None
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [field.strip() for field in fields]
            places = [_place(path, header, column) for column in columns]
            continue
        if len(fields) != len(header):
            raise InputError(
                f"{path} is broken in line {line}: {len(fields)} fields, but the header has {len(header)} ({', '.join(header)}). "
                f"A text with {delimiter!r} in it must stand in double quotes. Correct the row, or save the data as JSON Lines (.jsonl)."
            )
        yield line, fields[places[0]], fields[places[1]]
    if header is None:
        raise InputError(f"{path} is empty; a header row with the columns {columns[0]!r} and {columns[1]!r} is expected, then the rows.")


def _json_records(path: Path, content: str, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    names: list[str] = []
    for line, raw in enumerate(content.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} is broken in line {line}: {error.msg} at character {error.pos + 1}. Each line must be one JSON object."
            ) from None
        if not isinstance(record, dict):
            raise InputError(
                f'{path} is broken in line {line}: a JSON object is expected, such as {{"{columns[0]}": ..., "{columns[1]}": ...}}.'
            )
        names = names or [_named(path, list(record), column) for column in columns]
        text, label = ("" if value is None else str(value) for value in map(record.get, names))
        yield line, text, label


def _place(path: Path, header: Sequence[str], column: str) -> int:
    return list(header).index(_named(path, header, column))


def _named(path: Path, names: Sequence[str], column: str) -> str:
    if column in names:
        return column
    by_case = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(column.casefold(), list(by_case), n=1, cutoff=0.5)
    guess = f" Did you mean {by_case[near[0]]!r}?" if near else ""
    raise InputError(f"{path} has no column {column!r}.{guess} Its columns are: {', '.join(names)}. Choose with --text and --label.")


def _lines(numbers: Sequence[int], most: int = 10) -> str:
    shown = ", ".join(str(number) for number in numbers[:most])
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"
