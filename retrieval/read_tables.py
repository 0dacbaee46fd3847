"""Files of rows, JSON Lines and CSV: each row is a document of its own.

Knows no file. A row that is broken is left out with its line; the others are read.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from homefire.configs.rows_file import in_lines
from homefire.retrieval.corpus_files import on_one_line
from homefire.retrieval.document import Document, Scalar
from homefire.retrieval.source_file import SourceFile, Unreadable

_Rows: TypeAlias = Iterator[tuple[int, dict[str, Any]]]
"""Line and values of each row."""

_TEXTS = ("text", "content", "contents", "body", "passage", "document")
_IDS = ("id", "_id", "doc_id", "docid")
_TITLES = ("title", "heading")
_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,17})$")
_FRACTION = re.compile(r"-?(?:0|[1-9]\d*)\.\d+(?:[eE][-+]?\d+)?$")
_MOST_REREAD = 20
"""Broken rows of many lines after which a CSV file is given up: each may have taken all the rest of the file for a quoted text."""


class _Broken:
    """Collects what is wrong with which lines of a file."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.first = ""

    def add(self, line: int, reason: str) -> None:
        self.first = self.first or reason
        self.lines.append(line)

    def report(self, file: SourceFile) -> None:
        if self.lines:
            which = "a row is" if len(self.lines) == 1 else f"{len(self.lines)} rows are"
            file.leave_out(f"{which} left out, in {in_lines(self.lines)}; the first: {self.first}")


def read_jsonl(file: SourceFile) -> Iterator[Document]:
    """A document for each line, which must be a JSON object.

    The text is what stands under `text`, `content`, `contents`, `body`, `passage` or `document`, under a heading of its `title` or
    `heading`; in a row without such a key all values are the text, each after its name. The source is that of the file with `#` and the
    value of `id`, `_id`, `doc_id` or `docid`, or else `#L` and the line. All other values but lists and objects are metadata, beside `line`
    and `file`.

    Raises:
        Unreadable: there is no row in the file that can be used.
    """
    broken = _Broken()
    yield from _documents(file, _json_rows(file, broken), broken, {})


def read_csv(file: SourceFile) -> Iterator[Document]:
    """As `read_jsonl`, for `,`, `;` or tab between fields and names in the first row; columns of numbers are numbers in the metadata.

    Raises:
        Unreadable: there is no row in the file that can be used.
    """
    text = file.text()
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max("\t,;", key=first.count)
    kinds = _kinds(_csv_rows(text, delimiter, _Broken()))
    broken = _Broken()
    yield from _documents(file, _csv_rows(text, delimiter, broken), broken, kinds)


def _documents(file: SourceFile, rows: _Rows, broken: _Broken, kinds: Mapping[str, type]) -> Iterator[Document]:
    """The documents of rows; `kinds` has for each column whose values are all text what they are really."""
    seen: set[str] = set()
    for line, row in rows:
        title, text = _said(row)
        id_name = _first(row, _IDS)
        source = f"{file.source}#{on_one_line(str(row[id_name]))}" if id_name else f"{file.source}#L{line}"
        if not text:
            broken.add(line, "there is no text in it.")
        elif source in seen:
            broken.add(line, f"an earlier row is called {source!r} too.")
        else:
            seen.add(source)
            yield Document(source, text, {"file": file.source, "line": line, **_metadata(row, kinds)}, title=title, lines=None)
    broken.report(file)
    if not seen and not broken.lines:
        raise Unreadable("there are no rows in it.")


def _said(row: dict[str, Any]) -> tuple[str, str]:
    """Title and text of a row."""
    if not _known(row, _TEXTS):
        id_names = _known(row, _IDS)
        return "", "\n".join(f"{name}: {_shown(value)}" for name, value in row.items() if value not in (None, "") and name not in id_names)
    title_name, text_name = _first(row, _TITLES), _first(row, _TEXTS)
    title = " ".join(str(row[title_name]).split()) if title_name else ""
    text = str(row[text_name]).strip() if text_name else ""
    return title, "\n\n".join(filter(None, (title and f"# {title}", text)))


def _metadata(row: dict[str, Any], kinds: Mapping[str, type]) -> dict[str, Scalar]:
    """What of a row is neither its text nor its title; nothing where all of it is the text."""
    said = _known(row, _TEXTS)
    if not said:
        return {}
    said |= _known(row, _TITLES)
    typed = {name: _typed(value, kinds[name]) if name in kinds else value for name, value in row.items() if name not in said}
    return {name: scalar for name, value in typed.items() if (scalar := _scalar(value)) is not None}


def _known(row: dict[str, Any], wanted: tuple[str, ...]) -> set[str]:
    """The names in a row that are wanted, in whatever letter case."""
    return {name for name in row if name.casefold() in wanted}


def _first(row: dict[str, Any], wanted: tuple[str, ...]) -> str | None:
    """The name of the first wanted column that has a value in the row."""
    filled = [name for name in _known(row, wanted) if row[name] not in (None, "") and not isinstance(row[name], list | dict)]
    return min(filled, key=lambda name: (wanted.index(name.casefold()), name), default=None)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _scalar(value: Any) -> Scalar | None:
    """A value as metadata holds it; None where it cannot."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return str(value)
    return value if isinstance(value, str | int | float) and value != "" else None


def _json_rows(file: SourceFile, broken: _Broken) -> _Rows:
    for line, raw in enumerate(io.StringIO(file.text(), newline="\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except json.JSONDecodeError as error:
            broken.add(line, f"{error.msg} at character {error.pos + 1}; each line must be one JSON object.")
        except (RecursionError, ValueError) as error:
            broken.add(line, f"{error}; each line must be one JSON object.")
        else:
            if isinstance(row, dict):
                yield line, row
            else:
                broken.add(line, 'it is no JSON object, such as {"text": ...}.')


def _csv_rows(text: str, delimiter: str, broken: _Broken) -> _Rows:
    header: list[str] | None = None
    for line, fields in _csv_fields(text, delimiter, broken):
        if header is None:
            header = [field.strip() or f"column {number}" for number, field in enumerate(fields, start=1)]
        elif len(fields) != len(header):
            broken.add(line, f"it has {len(fields)} fields and the header {len(header)}; a text with {delimiter!r} in it stands in quotes.")
        else:
            first_ones = dict(zip(reversed(header), reversed(fields), strict=True))
            yield line, {name: first_ones[name] for name in header}


def _csv_fields(text: str, delimiter: str, broken: _Broken) -> Iterator[tuple[int, list[str]]]:
    """The fields of every row that is not empty, and the line that it begins in; after a broken row reading goes on in its second line."""
    lines = list(io.StringIO(text, newline=""))
    begin = reread = 0
    while begin < len(lines) and reread <= _MOST_REREAD:
        reader = csv.reader((lines[number] for number in range(begin, len(lines))), delimiter=delimiter, strict=True)
        while True:
            first = begin + reader.line_num
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                broken.add(first + 1, f"{error}; a quote within quotes is written twice, and each that is opened is closed.")
                reread += begin + reader.line_num - first > 1
                begin = first + 1
                break
            if any(field.strip() for field in fields):
                yield first + 1, fields


def _kinds(rows: _Rows) -> dict[str, type]:
    """For each column `int` or `float` where every value is one, otherwise `str`."""
    kinds: dict[str, type] = {}
    for _, row in rows:
        for name, cell in row.items():
            value = cell.strip()
            if value and not _WHOLE.match(value):
                kinds[name] = float if _FRACTION.match(value) and kinds.get(name, float) in (int, float) else str
            else:
                kinds.setdefault(name, int)
    return kinds


def _typed(cell: str, kind: type) -> Scalar:
    if kind is str:
        return cell
    value = cell.strip()
    return "" if not value else float(value) if kind is float else int(value)
