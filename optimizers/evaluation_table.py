"""Tables of evaluations for the terminal: a handful of rows with long cells shortened, failures first.

Knows no program and no metric.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from homefire.modules.example import Prediction
from homefire.optimizers.evaluation_row import Row

_CELL = 80
_MOST_COLUMNS = 6


def rows_table(rows: Sequence[Row], title: str, most: int) -> Table:
    """Rows of an evaluation: the fields of the examples, the outputs, the score or the error.

    Args:
        rows: All rows.
        title: What stands above.
        most: Rows that are shown: failures first, then the lowest scores, in the order of the examples.
    """
    shown = worst(rows, most)
    fields = _names((row.example for _, row in shown))
    outputs = _names((row.prediction for _, row in shown if row.prediction is not None))
    rest = len(rows) - len(shown)
    table = Table(title=title, title_justify="left", caption_justify="left", caption=f"{rest} more rows" if rest else None)
    table.add_column("#", justify="right", no_wrap=True)
    for name in fields:
        table.add_column(Text(name), overflow="fold")
    for name in outputs:
        table.add_column(Text(f"→ {name}"), overflow="fold", style="cyan")
    table.add_column("Score", justify="right", no_wrap=True)
    if any(row.error for _, row in shown):
        table.add_column("Error", overflow="fold", style="red")
    for place, row in shown:
        predicted = row.prediction or Prediction()
        cells = [cell(row.example.get(name)) for name in fields] + [cell(predicted.get(name)) for name in outputs]
        errors = [cell(row.error)] if len(table.columns) > len(cells) + 2 else []
        table.add_row(str(place + 1), *cells, score_text(row), *errors)
    return table


def worst(rows: Sequence[Row], most: int) -> list[tuple[int, Row]]:
    """The rows that are most worth a look, with their places: failures, then the lowest scores; in the order of the examples."""
    order = sorted(range(len(rows)), key=lambda place: (rows[place].error is None, rows[place].score, place))
    return [(place, rows[place]) for place in sorted(order[:most])]


def score_text(row: Row) -> Text:
    """The score: a sign for right and wrong, otherwise the number."""
    if row.error is not None:
        return Text("failed", style="bold red")
    if row.score in (0.0, 1.0):
        return Text("✔", style="green") if row.score else Text("✘", style="red")
    return Text(f"{row.score:.3g}")


def cell(value: Any) -> Text:
    """A value as it fits in a table."""
    if value is None:
        return Text("")
    return Text(shorten(value if isinstance(value, str) else str(value), _CELL, placeholder=" …"))


def as_text(part: RenderableType, width: int = 120) -> str:
    """What Rich would draw, as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _names(records: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))[:_MOST_COLUMNS]
