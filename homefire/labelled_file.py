"""The user's own labelled texts, from CSV, TSV or JSON Lines.

Knows no model and no program: it sees to it that the rows can be learnt from; `rows_file` reads the file.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from homefire.configs.rows_file import in_lines, read_table
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
    table = read_table(path, (text_column, label_column))
    if table.columns:
        for column in (text_column, label_column):
            table.column(column, "Choose with --text and --label.")
    rows: list[LabelledText] = []
    empty: list[int] = []
    for line, row in table.rows:
        text, label = ("" if value is None else str(value) for value in map(row.get, (text_column, label_column)))
        if text.strip() and label.strip():
            rows.append(LabelledText(text.strip(), label.strip(), normalised(text)))
        else:
            empty.append(line)
    if empty:
        notice(f"{path}: {len(empty)} rows have no text or no label and were left out: {in_lines(empty)}.")
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
