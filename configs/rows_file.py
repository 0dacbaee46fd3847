"""Files of rows with named columns: CSV, TSV, JSON Lines and JSON lists, read and written.

Knows no signature and no label: every mistake that such a file can have becomes an error that says what to do.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.configs.home import require_directory, write_atomic
from homefire.errors import DiskError, InputError

_WRITTEN = (".csv", ".json", ".jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a file holds."""

    path: Path
    columns: tuple[str, ...]
    """Names in the header row, or keys of the JSON objects in the order in which they first occur."""
    rows: tuple[tuple[int, dict[str, Any]], ...]
    """The line that a row begins in, and its values by column; a key that a JSON object lacks is not there."""
    typed: bool
    """Whether values have the types of JSON; otherwise all of them are text."""

    def column(self, name: str, advice: str = "") -> str:
        """The name itself, when there is such a column.

        Raises:
            InputError: there is none; the message names the nearest one.
        """
        if name in self.columns:
            return name
        by_case = {column.casefold(): column for column in self.columns}
        near = difflib.get_close_matches(name.casefold(), list(by_case), n=1, cutoff=0.5)
        guess = f" Did you mean {by_case[near[0]]!r}?" if near else ""
        raise InputError(f"{self.path} has no column {name!r}.{guess} Its columns are: {', '.join(self.columns)}. {advice}".rstrip())


def read_table(path: str | Path, expected: Sequence[str]) -> Table:
    """Reads CSV (`,`, `;` or tab between fields), TSV, JSON Lines, a JSON list of objects or a single one, in UTF-8.

    Args:
        path: the file; `.tsv` and `.tab` are read as TSV, `.jsonl` and `.ndjson` as JSON Lines, `.json` as any of the last three, all
            others as CSV with a header row.
        expected: names of columns, for the errors of a file that has none.

    Raises:
        InputError: the file is missing, broken or not UTF-8.
    """
    path = Path(path)
    content = _decoded(path)
    if path.suffix.lower() in {".json", ".jsonl", ".ndjson"}:
        rows = tuple(_json_file(path, content, expected) if path.suffix.lower() == ".json" else _json_rows(path, content, expected))
        return Table(path=path, columns=tuple(dict.fromkeys(name for _, row in rows for name in row)), rows=rows, typed=True)
    header, rows = _csv_rows(path, content, expected)
    return Table(path=path, columns=header, rows=rows, typed=False)


def check_writable(path: Path) -> None:
    """Finds out before the work whether `write_rows` will be able to write there.

    Raises:
        InputError: the name of the file does not say its kind.
        DiskError: the folder cannot be written.
    """
    if path.suffix.lower() not in _WRITTEN:
        raise InputError(f"Rows cannot be saved as {path.name!r}: the name must end in {', '.join(_WRITTEN)}. Choose another name.")
    if path.is_dir():
        raise DiskError(f"Rows cannot be saved as {path}: that is a folder. Name a file in it.")
    require_directory(path.absolute().parent, "the saved rows")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes JSON values, whole or not at all; in CSV whatever is no text is JSON, and None is an empty field.

    Raises:
        InputError: the name of the file does not say its kind.
        DiskError: the file cannot be written.
    """
    check_writable(path)
    match path.suffix.lower():
        case ".csv":
            text = csv_text(rows)
        case ".json":
            text = json.dumps(list(rows), ensure_ascii=False, indent=2) + "\n"
        case _:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text)


def in_lines(numbers: Sequence[int], most: int = 10) -> str:
    """Line numbers in words, the first of them when there are many."""
    shown = ", ".join(str(number) for number in numbers[:most])
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{more}"


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV under a header; whatever is no text is JSON, and None is an empty field."""
    cells = [{name: _cell(value) for name, value in row.items()} for row in rows]
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in cells for name in row)), restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(cells)
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Check the path; a CSV file with a header row is expected.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. A file of rows in CSV, TSV or JSON is expected.") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}. Save it as UTF-8 "
            f"(in a spreadsheet: 'CSV UTF-8'), or convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8{path.suffix}"
        ) from None


def _csv_rows(path: Path, content: str, expected: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[int, dict[str, Any]], ...]]:
    """Header and rows; of two columns with one name the first counts."""
    first_line = content.split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() in {".tsv", ".tab"} else max(",;\t", key=first_line.count)
    fields = _csv_fields(path, content, delimiter)
    _, first = next(fields, (0, None))
    if first is None:
        columns = " and ".join(repr(name) for name in expected)
        raise InputError(f"{path} is empty; a header row with the columns {columns} is expected, then the rows.")
    header = [field.strip() for field in first]
    rows = []
    for line, values in fields:
        if len(values) != len(header):
            raise InputError(
                f"{path} is broken in line {line}: {len(values)} fields, but the header has {len(header)} ({', '.join(header)}). "
                f"A text with {delimiter!r} in it must stand in double quotes. Correct the row, or save the data as JSON Lines (.jsonl)."
            )
        first_ones = dict(zip(reversed(header), reversed(values), strict=True))
        rows.append((line, {name: first_ones[name] for name in header}))
    return tuple(dict.fromkeys(header)), tuple(rows)


def _csv_fields(path: Path, content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row that is not empty, and the line that it begins in."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(
                f"{path} is broken in the row that begins in line {line}: {error}. A quote that is opened must be closed, and a quote "
                'inside a quoted text is written twice (""). Correct the row, or save the data as JSON Lines (.jsonl).'
            ) from None
        if any(field.strip() for field in fields):
            yield line, fields


def _json_rows(path: Path, content: str, expected: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, raw in enumerate(content.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except json.JSONDecodeError as error:
            also = ", or the file one list of them" if path.suffix.lower() == ".json" else ""
            raise InputError(
                f"{path} is broken in line {line}: {error.msg} at character {error.pos + 1}. Each line must be one JSON object{also}."
            ) from None
        yield line, _json_object(path, line, row, expected)


def _json_file(path: Path, content: str, expected: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """A list of objects, one object, or one on each line."""
    if content.lstrip().startswith("["):
        return _json_list(path, content, expected)
    try:
        row = json.loads(content)
    except json.JSONDecodeError:
        return _json_rows(path, content, expected)
    return iter([(1, _json_object(path, 1, row, expected))])


def _json_list(path: Path, content: str, expected: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a list, read one by one so that each has its line."""
    decoder, blank = json.JSONDecoder(), re.compile(r"[\s]*")
    place, line = content.index("[") + 1, 1 + content.count("\n", 0, content.index("[") + 1)
    separator = ""
    while True:
        start = blank.match(content, place).end()  # type: ignore[union-attr]
        line += content.count("\n", place, start)
        if content[start : start + 1] == "]" and separator != ",":
            return
        try:
            row, place = decoder.raw_decode(content, start)
            after = blank.match(content, place).end()  # type: ignore[union-attr]
            separator = content[after : after + 1]
            if separator not in {",", "]"}:
                raise json.JSONDecodeError("Expecting ',' or ']'", content, after)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path} is broken in line {error.lineno}: {error.msg} at character {error.colno}. A list of JSON objects is expected."
            ) from None
        yield line, _json_object(path, line, row, expected)
        if separator == "]":
            return
        line += content.count("\n", start, after + 1)
        place = after + 1


def _json_object(path: Path, line: int, row: Any, expected: Sequence[str]) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    example = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: ..." for name in expected)
    raise InputError(f"{path} is broken in line {line}: a JSON object is expected, such as {{{example}}}.")
