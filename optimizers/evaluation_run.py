"""One evaluation in progress: examples in, a row for each, until all are done or it makes no sense to go on.

Knows no table and no file but the journal. A failing example is a row with its error; a failing system stops at once.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from homefire.configs.console import Task, note
from homefire.errors import EvaluationError, ParseError
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.parallel import HOPELESS, SYSTEM_FAILURES, run_in_threads
from homefire.modules.trace import Step, record
from homefire.optimizers.evaluation_file import Journal
from homefire.optimizers.evaluation_row import Row
from homefire.optimizers.metrics import Metric, corrected, score_of

Program = Module | Callable[..., Prediction]

_THREADS = 8
"""For programs that do not know what their engine batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How an evaluation runs."""

    threads: int | None = None
    max_errors: int | None = None
    failure_score: float = 0.0
    tracebacks: bool = False
    """Whether each failure is shown with its traceback when it happens."""


class EvaluationRun:
    """Runs a program over examples; `rows` holds what is done at any time, by the place of the example."""

    def __init__(self, program: Program, metric: Metric, examples: Sequence[Example], limits: Limits, journal: Journal | None) -> None:
        self._program = program
        self._metric = metric
        self._examples = examples
        self._limits = limits
        self._journal = journal
        self.rows: dict[int, Row] = {} if journal is None else dict(journal.done)
        self._left = [place for place in range(len(examples)) if place not in self.rows]
        self._ended = self._failed = 0
        self._total = sum(row.score for row in self.rows.values())

    def run(self, task: Task | None) -> None:
        """Makes the rows that are missing.

        Raises:
            EvaluationError: `max_errors` was reached, or it is clear that every example fails.
        """
        calls = [partial(self._row, place) for place in self._left]
        run_in_threads(calls, self._threads(), None if task is None else lambda _: self._show(task))
        self._check_metric()

    async def arun(self, task: Task | None) -> None:
        """As `run`, awaited: programs run as tasks, metrics on threads."""
        threads, places = self._threads(), iter(self._left)
        with ThreadPoolExecutor(threads, thread_name_prefix="homefire-metric") as pool:
            tasks = [asyncio.create_task(self._work(places, pool, task)) for _ in range(min(threads, len(self._left)))]
            try:
                for done in asyncio.as_completed(tasks):
                    await done
            except BaseException:
                for one in tasks:
                    one.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
        self._check_metric()

    def done(self) -> tuple[Row, ...]:
        """The rows so far, in the order of their examples."""
        return tuple(row for _, row in sorted(self.rows.items(), key=lambda item: item[0]))

    def _threads(self) -> int:
        if self._limits.threads is not None:
            return self._limits.threads
        return self._program.useful_threads() if isinstance(self._program, Module) else _THREADS

    def _show(self, task: Task) -> None:
        score = 100 * self._total / max(len(self.rows), 1)
        task.update(completed=len(self.rows), description=f"Evaluating (score {score:.1f})")

    async def _work(self, places: Iterator[int], pool: ThreadPoolExecutor, task: Task | None) -> None:
        for place in places:
            started, example = time.perf_counter(), self._examples[place]
            on_thread = partial(asyncio.get_running_loop().run_in_executor, pool)
            with record() as trace:
                try:
                    if isinstance(self._program, Module):
                        prediction = await self._program.acall(**example.inputs())
                    else:
                        prediction = await on_thread(copy_context().run, partial(self._program, **example.inputs()))
                    row = self._answered(example, prediction, tuple(trace.steps))
                except (*SYSTEM_FAILURES, CancelledError):
                    raise
                except Exception as error:
                    row = self._failure(example, error)
            if row.error is None:
                row = await on_thread(copy_context().run, self._judged, row)
            self._end(place, replace(row, seconds=time.perf_counter() - started))
            if task is not None:
                self._show(task)

    def _row(self, place: int) -> None:
        started, example = time.perf_counter(), self._examples[place]
        with record() as trace:
            try:
                row = self._answered(example, self._program(**example.inputs()), tuple(trace.steps))
            except (*SYSTEM_FAILURES, CancelledError):
                raise
            except Exception as error:
                row = self._failure(example, error)
        if row.error is None:
            row = self._judged(row)
        self._end(place, replace(row, seconds=time.perf_counter() - started))

    def _answered(self, example: Example, prediction: Any, steps: tuple[Step, ...]) -> Row:
        if not isinstance(prediction, Prediction):
            raise TypeError(f"the program returned {prediction!r}; expected a Prediction, as in `return homefire.Prediction(answer=...)`.")
        infos = [step.prediction._info for step in steps]
        return Row(
            example=example,
            prediction=prediction,
            score=self._limits.failure_score,
            prompt_tokens=sum(info.prompt_tokens for info in infos),
            completion_tokens=sum(info.completion_tokens for info in infos),
            steps=steps,
        )

    def _failure(self, example: Example, error: Exception) -> Row:
        return Row(
            example=example,
            prediction=None,
            score=self._limits.failure_score,
            error=f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
            invalid=isinstance(error, ParseError),
        )

    def _judged(self, row: Row) -> Row:
        assert row.prediction is not None
        try:
            return replace(row, score=score_of(self._metric, row.example, row.prediction))
        except (*SYSTEM_FAILURES, CancelledError):
            raise
        except Exception as error:
            said = f"The metric failed: {type(error).__name__}: {error}"
            return replace(row, error=said, traceback="".join(traceback.format_exception(error)))

    def _end(self, place: int, row: Row) -> None:
        """Keeps a row; a race between threads can only miscount the number in the progress bar by one."""
        self.rows[place] = row
        if self._journal is not None:
            self._journal.add(place, row)
        self._ended += 1
        self._total += row.score
        if row.error is None:
            return
        self._failed += 1
        if self._limits.tracebacks:
            note(f"Example {place} failed.\n{row.traceback}")
        if self._limits.max_errors is not None and self._failed >= self._limits.max_errors:
            raise EvaluationError(f"{self._failed} examples failed, the most that max_errors allows. The last one: {row.error}")
        if self._failed == self._ended >= HOPELESS:
            broken = "program" if row.prediction is None else "metric"
            raise EvaluationError(self._hopeless(f"All of the first {self._ended} examples failed, so the {broken} itself is broken.", row))

    def _check_metric(self) -> None:
        """A metric that failed on every answer measured nothing."""
        rows = self.done()
        if all(row.error is not None and row.prediction is not None for row in rows):
            raise EvaluationError(self._hopeless(f"The metric failed on all {len(rows)} examples, so nothing was measured.", rows[-1]))

    def _hopeless(self, what: str, last: Row) -> str:
        said = f"{what} The last one: {(last.error or '').removeprefix('The metric failed: ')}"
        example = corrected(self._metric)
        return said if last.prediction is None or example in said else f"{said.rstrip('.')}. A metric is written so: {example}"
