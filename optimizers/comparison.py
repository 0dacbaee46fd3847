"""Comparison of two evaluations of the same examples: how large the difference is, whether it may be luck, and what changed.

Knows no program and no metric.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from homefire.errors import InputError
from homefire.optimizers.evaluation_result import EvaluationResult
from homefire.optimizers.evaluation_row import Row, is_binary, json_fields
from homefire.optimizers.evaluation_table import as_text, cell, score_text
from homefire.optimizers.statistics import Interval, bootstrap_mean, mcnemar, paired_difference, paired_permutation

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One example in both evaluations."""

    before: Row
    after: Row

    @property
    def change(self) -> float:
        """Score after less score before."""
        return self.after.score - self.before.score


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two evaluations of the same examples, example by example; the first is called before, the second after."""

    pairs: tuple[Pair, ...]
    difference: float
    """Mean score after less mean score before."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """How likely a difference of at least this size is if both are equally good; two-sided."""
    test: str
    """What gave the p value, in words."""

    @property
    def changed(self) -> list[Pair]:
        """Examples whose scores differ, the largest changes first."""
        return sorted((pair for pair in self.pairs if pair.change), key=lambda pair: -abs(pair.change))

    @property
    def better(self) -> list[Pair]:
        """Examples that score higher after."""
        return [pair for pair in self.changed if pair.change > 0]

    @property
    def worse(self) -> list[Pair]:
        """Examples that score lower after."""
        return [pair for pair in self.changed if pair.change < 0]

    @property
    def sentence(self) -> str:
        """The difference in words."""
        before, after = (100 * sum(rows) / len(rows) for rows in _scores(self.pairs))
        p_value = "p < 0.0001" if self.p_value < 0.0001 else f"p = {self.p_value:.4f}"
        luck = "that may be luck" if self.p_value > 0.05 else "that is hardly luck"
        return (
            f"{before:.1f}% before, {after:.1f}% after: {100 * self.difference:+.1f} points "
            f"({100 * self.interval.low:+.1f} to {100 * self.interval.high:+.1f}) on {len(self.pairs)} examples; "
            f"{len(self.better)} better, {len(self.worse)} worse; {p_value}, {self.test}; {luck}."
        )

    def table(self, most: int = _SHOWN) -> Table:
        """A table for the terminal: the examples that changed most.

        Args:
            most: Examples that are shown.
        """
        from rich.table import Table
        from rich.text import Text

        rest = len(self.changed) - most
        table = Table(title=self.sentence, title_justify="left", caption=f"{rest} more changed" if rest > 0 else None)
        for name in ("Example", "Before", "After"):
            table.add_column(name, overflow="fold")
        table.add_column("Score", no_wrap=True)
        for pair in self.changed[:most]:
            score = Text.assemble(score_text(pair.before), " → ", score_text(pair.after))
            table.add_row(cell(_inputs(pair.before)), cell(_answer(pair.before)), cell(_answer(pair.after)), score)
        return table

    def show(self, most: int = _SHOWN) -> None:
        """Prints the table."""
        from rich.console import Console

        Console(highlight=False).print(self.table(most))

    def __str__(self) -> str:
        return as_text(self.table()).rstrip()


def compare(before: EvaluationResult, after: EvaluationResult) -> Comparison:
    """Compares two evaluations of the same examples, in any order.

    Right and wrong are told apart by the exact test of McNemar; other scores by the signs of their differences.

    Raises:
        InputError: the examples are not the same, or there are none.
    """
    pairs = _paired(before.rows, after.rows)
    old, new = _scores(pairs)
    difference = sum(pair.change for pair in pairs) / len(pairs)
    if is_binary([*old, *new]):
        was, now = [score == 1 for score in old], [score == 1 for score in new]
        interval, p_value, test = paired_difference(was, now), mcnemar(was, now).p_value, "exact McNemar test"
    else:
        interval = bootstrap_mean([pair.change for pair in pairs], seed=0)
        p_value, test = paired_permutation(old, new, seed=0), "paired permutation test"
    return Comparison(pairs=pairs, difference=difference, interval=interval, p_value=p_value, test=test)


def _paired(before: Sequence[Row], after: Sequence[Row]) -> tuple[Pair, ...]:
    keys, others = [_key(row) for row in before], [_key(row) for row in after]
    missing, extra = Counter(keys) - Counter(others), Counter(others) - Counter(keys)
    if missing or extra or not keys:
        one = f" One of them: {next(iter(missing or extra))[:200]}." if missing or extra else ""
        raise InputError(
            f"The evaluations cannot be compared: {missing.total()} of {len(keys)} examples are only in the first, {extra.total()} of "
            f"{len(others)} only in the second.{one} Evaluate both programs on the same examples: Evaluate(devset, metric)."
        )
    places: dict[str, list[Row]] = {}
    for key, row in zip(others, after, strict=True):
        places.setdefault(key, []).append(row)
    return tuple(Pair(before=row, after=places[key].pop(0)) for key, row in zip(keys, before, strict=True))


def _key(row: Row) -> str:
    return json.dumps(json_fields(row.example), sort_keys=True, ensure_ascii=False)


def _scores(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    return [pair.before.score for pair in pairs], [pair.after.score for pair in pairs]


def _inputs(row: Row) -> str:
    fields = row.example if row.example._input_keys is None else row.example.inputs()
    return " · ".join(str(value) for value in fields.values())


def _answer(row: Row) -> str:
    if row.prediction is None:
        return row.error or ""
    return " · ".join(str(value) for value in row.prediction.values())
