"""EvaluationResult: the scores of a program with a row for every example, to look at, to save and to load.

Knows no program and no metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from homefire.configs.home import write_atomic
from homefire.errors import MissingExtra
from homefire.modules.example import Example, Prediction
from homefire.optimizers.evaluation_file import read_result, write_csv, write_result
from homefire.optimizers.evaluation_page import page
from homefire.optimizers.evaluation_row import Row, flat_records, interval_of
from homefire.optimizers.evaluation_table import rows_table
from homefire.optimizers.report_data import interval_in_percent
from homefire.optimizers.statistics import Interval

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Scores of a program, with a row for every example in order."""

    rows: tuple[Row, ...]
    seconds: float
    metric: str = ""
    """Name of the metric."""
    program: str = ""
    """Name of the program."""

    @property
    def mean(self) -> float:
        """Mean score; for metrics that say right or wrong, the share of right answers, 0 to 1. Of no rows it is not a number."""
        return sum(row.score for row in self.rows) / len(self.rows) if self.rows else math.nan

    @property
    def score(self) -> float:
        """The mean in percent, rounded to two digits."""
        return round(100 * self.mean, 2)

    @property
    def results(self) -> list[tuple[Example, Prediction, float]]:
        """Example, prediction and score of every row; failed rows have an empty prediction."""
        return [(row.example, row.prediction or Prediction(), row.score) for row in self.rows]

    @property
    def interval(self) -> Interval:
        """95% interval of the mean: Wilson's for right and wrong, otherwise by bootstrap."""
        return interval_of([row.score for row in self.rows])

    @property
    def valid(self) -> int:
        """Examples whose outputs had their types."""
        return sum(row.prediction is not None for row in self.rows)

    @property
    def failures(self) -> list[Row]:
        """Rows in which the program or the metric failed."""
        return [row for row in self.rows if row.error is not None]

    @property
    def tokens_per_second(self) -> float:
        """Prompt and completion tokens over the whole evaluation's seconds."""
        return sum(row.prompt_tokens + row.completion_tokens for row in self.rows) / max(self.seconds, 1e-9)

    def summary(self) -> str:
        """Score, interval and failures in one line."""
        if not self.rows:
            return "no examples"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{100 * self.mean:.1f}% ({interval_in_percent(self.interval)}) of {len(self.rows)} examples{failed}"

    def table(self, most: int = _SHOWN) -> Table:
        """A table for the terminal: the failures and lowest scores among its rows first.

        Args:
            most: Rows that are shown.
        """
        return rows_table(self.rows, " · ".join(filter(None, (self.metric, self.summary()))), most)

    def show(self, most: int = _SHOWN) -> None:
        """Prints the table."""
        from rich.console import Console

        Console(highlight=False).print(self.table(most))

    def records(self, **also: str) -> list[dict[str, Any]]:
        """A flat record of JSON values for every row; see `flat_records`."""
        return flat_records(self.rows, **also)

    def to_csv(self, path: str | Path) -> Path:
        """Writes one line for every row and returns the path.

        Raises:
            DiskError: the file cannot be written.
        """
        write_csv(Path(path), self.rows)
        return Path(path)

    def to_json(self, path: str | Path) -> Path:
        """Writes everything but the traces, for `EvaluationResult.load`, and returns the path.

        Raises:
            DiskError: the file cannot be written.
        """
        head = {"metric": self.metric, "program": self.program, "seconds": self.seconds}
        if self.rows:
            head |= {"score": self.score, "interval": [self.interval.low, self.interval.high]}
        write_result(Path(path), head, self.rows)
        return Path(path)

    def to_html(self, path: str | Path) -> Path:
        """Writes one file that a browser shows and that loads nothing, and returns the path.

        Raises:
            DiskError: the file cannot be written.
        """
        write_atomic(Path(path), page(self.rows, metric=self.metric, program=self.program, seconds=self.seconds))
        return Path(path)

    def to_pandas(self) -> Any:
        """A data frame of the flat records.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError:
            raise MissingExtra("pandas", "data", "A data frame of an evaluation") from None
        return pandas.DataFrame(self.records())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The result that `to_json` wrote; the fields of its examples and predictions are JSON values, and there are no traces.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        head, rows = read_result(Path(path))
        return cls(rows=tuple(rows), seconds=float(head["seconds"]), metric=str(head["metric"]), program=str(head["program"]))

    def __float__(self) -> float:
        return self.score

    def __repr__(self) -> str:
        return f"EvaluationResult(score={self.score}, rows={len(self.rows)}, failures={len(self.rows) - self.valid})"
