"""Evaluate: a program over examples, in engine-sized batches, with a metric.

Knows no optimizer. A failing example is a row with its error; a failing system stops at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from homefire.configs.console import Task, progress
from homefire.engine.callbacks import observed
from homefire.errors import (
    AdapterError,
    ConfigError,
    DiskError,
    EngineError,
    EvaluationError,
    InputError,
    MissingExtra,
    ParseError,
    UnknownModel,
)
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.parallel import run_in_threads
from homefire.modules.trace import Step, record
from homefire.optimizers.metrics import Metric, score_of
from homefire.optimizers.statistics import Interval, bootstrap_mean, wilson

SYSTEM_FAILURES = (EngineError, AdapterError, ConfigError, DiskError, MissingExtra, UnknownModel)
"""Errors that the next example would meet too."""
_HOPELESS = 10
"""So many examples that fail from the start, one and all, are taken for a broken program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What happened to one example."""

    example: Example
    prediction: Prediction | None
    """None where the program failed."""
    score: float
    """Higher is better; 0 (or `failure_score`) where the program or the metric failed."""
    error: str | None = None
    invalid: bool = False
    """Whether the model's output did not have its type."""
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Scores of a program, with a row for every example in order."""

    rows: tuple[Row, ...]
    seconds: float

    @property
    def mean(self) -> float:
        """Mean score; for metrics that say right or wrong, the share of right answers, 0 to 1."""
        return sum(row.score for row in self.rows) / len(self.rows)

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
        scores = [row.score for row in self.rows]
        if all(score in (0.0, 1.0) for score in scores):
            return wilson(int(sum(scores)), len(scores))
        return bootstrap_mean(scores, seed=0)

    @property
    def valid(self) -> int:
        """Examples whose outputs had their types."""
        return sum(row.prediction is not None for row in self.rows)

    @property
    def tokens_per_second(self) -> float:
        """Prompt and completion tokens over the whole evaluation's seconds."""
        return sum(row.prompt_tokens + row.completion_tokens for row in self.rows) / max(self.seconds, 1e-9)

    def __float__(self) -> float:
        return self.score

    def __repr__(self) -> str:
        return f"EvaluationResult(score={self.score}, rows={len(self.rows)}, failures={len(self.rows) - self.valid})"


class Evaluate:
    """Runs programs over a set of examples.

    Args:
        devset: Examples that know their inputs.
        metric: See `metrics`.
        num_threads: Examples in flight at once; None takes what the engine batches.
        max_errors: Stop with an error after so many failed examples; None goes on unless all fail.
        failure_score: Score of a failed example.
        display_progress: Whether to show a progress bar.
    """

    def __init__(
        self,
        devset: Sequence[Example],
        metric: Metric | None = None,
        *,
        num_threads: int | None = None,
        max_errors: int | None = None,
        failure_score: float = 0.0,
        display_progress: bool = True,
    ) -> None:
        self.devset = list(devset)
        self.metric = metric
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.failure_score = failure_score
        self.display_progress = display_progress

    def __call__(self, program: Module, metric: Metric | None = None, devset: Sequence[Example] | None = None) -> EvaluationResult:
        """Evaluates a program.

        Raises:
            InputError: no examples, no metric, or examples that do not know their inputs.
            EvaluationError: `max_errors` was reached, or every one of the first examples failed.
        """
        examples = self.devset if devset is None else list(devset)
        chosen = metric or self.metric
        if not examples or chosen is None:
            raise InputError("There is nothing to evaluate: give examples and a metric, as in Evaluate(devset, metric)(program).")
        _check_inputs(examples)
        run = _Run(program, chosen, self.failure_score, self.max_errors)
        with observed("evaluate", self, {"program": program, "devset": examples, "metric": chosen}) as call:
            result = run.over(examples, self.num_threads, self.display_progress)
            call.give(result)
        return result


class _Run:
    """One evaluation in progress."""

    def __init__(self, program: Module, metric: Metric, failure_score: float, max_errors: int | None) -> None:
        self._program = program
        self._metric = metric
        self._failure_score = failure_score
        self._max_errors = max_errors
        self._ended = self._failed = 0
        self._total = 0.0

    def over(self, examples: Sequence[Example], threads: int | None, show: bool) -> EvaluationResult:
        workers = threads or self._program.useful_threads()
        calls = [partial(self._row, example) for example in examples]
        started = time.perf_counter()
        if not show:
            rows = run_in_threads(calls, workers)
        else:
            with progress("Evaluating", total=len(examples)) as task:
                rows = run_in_threads(calls, workers, lambda ended: self._show(task, ended))
        return EvaluationResult(rows=tuple(rows), seconds=time.perf_counter() - started)

    def _show(self, task: Task, ended: int) -> None:
        task.update(completed=ended, description=f"Evaluating (score {100 * self._total / max(self._ended, 1):.1f})")

    def _row(self, example: Example) -> Row:
        started = time.perf_counter()
        row = self._attempt(example)
        self._count(row)
        return replace(row, seconds=time.perf_counter() - started)

    def _attempt(self, example: Example) -> Row:
        with record() as trace:
            try:
                prediction = self._program(**example.inputs())
            except SYSTEM_FAILURES:
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                return Row(example=example, prediction=None, score=self._failure_score, error=said, invalid=isinstance(error, ParseError))
        steps = tuple(trace.steps)
        row = Row(
            example=example,
            prediction=prediction,
            score=self._failure_score,
            prompt_tokens=sum(step.prediction._info.prompt_tokens for step in steps),
            completion_tokens=sum(step.prediction._info.completion_tokens for step in steps),
            steps=steps,
        )
        try:
            return replace(row, score=score_of(self._metric, example, prediction))
        except Exception as error:
            return replace(row, error=f"The metric failed: {type(error).__name__}: {error}")

    def _count(self, row: Row) -> None:
        """Keeps the tally; a race between threads can only miscount the number in the progress bar by one."""
        self._ended += 1
        self._total += row.score
        if row.error is None:
            return
        self._failed += 1
        if self._max_errors is not None and self._failed >= self._max_errors:
            raise EvaluationError(f"{self._failed} examples failed, the most that max_errors allows. The last one: {row.error}")
        if self._failed == self._ended >= _HOPELESS:
            raise EvaluationError(
                f"All of the first {self._ended} examples failed, so the program itself is broken. The last one: {row.error}"
            )


def _check_inputs(examples: Sequence[Any]) -> None:
    for index, example in enumerate(examples):
        if not isinstance(example, Example):
            raise InputError(f"Example {index} is {example!r}; expected homefire.Example(...).with_inputs(...).")
        try:
            example.inputs()
        except ValueError:
            raise InputError(f"Example {index} does not know its inputs. Write example.with_inputs('name', ...).") from None
