"""Rows of data files of any kind, each with the place that it stands at.

Knows no example and no data set. The one owner of `pyarrow`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from homefire.configs.rows_file import read_table
from homefire.errors import InputError, MissingExtra

_WHOLE = re.compile(r"[+-]?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class PlacedRow(NamedTuple):
    """One row and where it is from, such as `train.jsonl, line 3`."""

    place: str
    values: Mapping[str, Any]


def read_rows(path: str | Path, *, numbers: bool = False, expected: Sequence[str] = ()) -> list[PlacedRow]:
    """Reads CSV, TSV, JSON Lines, a JSON list or Parquet.

    Args:
        path: The file; its name says the kind.
        numbers: Whether columns of CSV and TSV that hold nothing but numbers become numbers, with None for empty fields.
        expected: Names of columns, for the errors of a file that has none.

    Raises:
        InputError: the file is missing or broken.
        MissingExtra: a Parquet file, and `pyarrow` is not installed.
    """
    path = Path(path)
    if path.suffix.lower() in {".parquet", ".pq"}:
        return [PlacedRow(f"{path}, row {number}", row) for number, row in enumerate(_parquet(path), 1)]
    table = read_table(path, expected or ("question", "answer"))
    rows = [(line, dict(row)) for line, row in table.rows]
    if numbers and not table.typed:
        _to_numbers([row for _, row in rows], table.columns)
    return [PlacedRow(f"{path}, line {line}", row) for line, row in rows]


def problems_of(problems: Sequence[str], advice: str, most: int = 5) -> InputError:
    """One error for all rows that are broken; the first few are named.

    Args:
        problems: What is wrong, each with its place.
        advice: What to do.
        most: How many are named.
    """
    more = f" (and {len(problems) - most} more)" if len(problems) > most else ""
    rows = "1 row is" if len(problems) == 1 else f"{len(problems)} rows are"
    return InputError(f"{rows} broken: {'; '.join(problems[:most])}{more}. {advice}")


def _parquet(path: Path) -> list[dict[str, Any]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", "data", "Reading a Parquet file")
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except FileNotFoundError:
        raise InputError(f"There is no file {path}. Check the path; a Parquet file is expected.") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet: {' '.join(str(error).split())}. Write it anew, or give CSV or JSON.") from None
    return rows


def _to_numbers(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    for column in columns:
        values = [row[column].strip() for row in rows]
        filled = [value for value in values if value]
        kinds: list[tuple[re.Pattern[str], Callable[[str], float]]] = [(_WHOLE, int), (_NUMBER, float)]
        kind = next((to for pattern, to in kinds if filled and all(map(pattern.fullmatch, filled))), None)
        if kind is float and any(_padded(value) for value in filled):
            continue
        if kind is not None:
            for row, value in zip(rows, values, strict=True):
                row[column] = kind(value) if value else None


def _padded(value: str) -> bool:
    """Whether it is rather a code than a number, such as 007."""
    digits = value.lstrip("+-")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
