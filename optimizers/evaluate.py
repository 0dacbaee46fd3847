"""Evaluate: a program over examples, in engine-sized batches, with a metric.

Knows no optimizer. What is done is never lost: a failing example is a row, and what stops an evaluation carries the rows so far.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict, Unpack

from homefire.configs.console import Task, note, progress
from homefire.engine.callbacks import Observation, observed
from homefire.errors import EvaluationError, InputError
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.optimizers.evaluation_file import Journal
from homefire.optimizers.evaluation_result import EvaluationResult as EvaluationResult
from homefire.optimizers.evaluation_row import Row as Row
from homefire.optimizers.evaluation_run import EvaluationRun, Limits, Program
from homefire.optimizers.metrics import Metric, corrected, name_of

Place = str | Path


class EvaluationFailed(EvaluationError):
    """An evaluation that measures nothing was stopped; `result` has the rows that were done."""

    def __init__(self, message: str, result: EvaluationResult) -> None:
        super().__init__(message)
        self.result = result


class EvaluationInterrupted(KeyboardInterrupt):
    """Ctrl-C ended an evaluation; `result` has the rows that were done."""

    def __init__(self, message: str, result: EvaluationResult) -> None:
        super().__init__(message)
        self.result = result


class Choices(TypedDict, total=False):
    """What a call of `Evaluate` may say anew; None is what the constructor said."""

    num_threads: int | None
    display_progress: bool | None
    display_table: bool | int | None
    save_as_csv: Place | None
    save_as_json: Place | None
    save_as_html: Place | None
    resume: Place | None


class Evaluate:
    """Runs programs over a set of examples.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> from homefire.modules.predict import Predict
    >>> from homefire.optimizers.metrics import field_match
    >>> program = Predict("n -> even: bool")
    >>> program.lm = ScriptedLM(['{"even": true}'])
    >>> Evaluate([Example(n="2", even=True).with_inputs("n")], field_match("even"), display_progress=False)(program).score
    100.0

    Args:
        devset: Examples that know their inputs.
        metric: See `metrics`.
        num_threads: Examples in flight at once; None takes what the engine batches.
        max_errors: Stop with an error after so many failed examples; None goes on unless all fail.
        failure_score: Score of a failed example.
        display_progress: Whether to show a progress bar.
        display_table: Whether to print a table at the end; a number is how many rows.
        provide_traceback: Whether to show each failure with its traceback at once; rows have it in any case.
        save_as_csv: File for the rows.
        save_as_json: File for the whole result, which `EvaluationResult.load` reads.
        save_as_html: File for a page to look at.
        resume: Journal that rows are appended to as they end; the same evaluation goes on from it after a kill. Rows that failed
            are tried again, and predictions taken from it hold JSON values.
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
        display_table: bool | int = False,
        provide_traceback: bool | None = None,
        save_as_csv: Place | None = None,
        save_as_json: Place | None = None,
        save_as_html: Place | None = None,
        resume: Place | None = None,
    ) -> None:
        self.devset = list(devset)
        self.metric = metric
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.failure_score = failure_score
        self.display_progress = display_progress
        self.display_table = display_table
        self.provide_traceback = bool(provide_traceback)
        self.save_as_csv = save_as_csv
        self.save_as_json = save_as_json
        self.save_as_html = save_as_html
        self.resume = resume

    def __call__(
        self, program: Program, metric: Metric | None = None, devset: Sequence[Example] | None = None, **choices: Unpack[Choices]
    ) -> EvaluationResult:
        """Evaluates a program.

        Args:
            program: A module, or a function that takes an example's inputs by name and returns a Prediction.
            metric: Instead of the constructor's.
            devset: Instead of the constructor's.
            choices: Instead of the constructor's: `num_threads`, `display_progress`, `display_table`, `save_as_csv`, `save_as_json`,
                `save_as_html`, `resume`.

        Raises:
            InputError: no examples, no metric, examples that do not know their inputs, or a journal of another evaluation.
            EvaluationFailed: `max_errors` was reached, or every one of the first examples failed, or the metric on all.
            EvaluationInterrupted: Ctrl-C.
        """
        asked = self._asked(program, metric, devset, choices)
        with asked.observed(self) as call:
            with asked.shown() as task, asked.kept():
                asked.run.run(task)
            call.give(result := asked.result())
        asked.deliver(result)
        return result

    async def acall(
        self, program: Program, metric: Metric | None = None, devset: Sequence[Example] | None = None, **choices: Unpack[Choices]
    ) -> EvaluationResult:
        """As calling it, awaited; cancelling the task cancels what is in flight."""
        asked = self._asked(program, metric, devset, choices)
        with asked.observed(self) as call:
            with asked.shown() as task, asked.kept():
                await asked.run.arun(task)
            call.give(result := asked.result())
        asked.deliver(result)
        return result

    def _asked(self, program: Program, metric: Metric | None, devset: Sequence[Example] | None, choices: Choices) -> _Asked:
        if unknown := [name for name in choices if name not in Choices.__annotations__]:
            raise TypeError(f"A call of Evaluate takes no argument {unknown[0]!r}; it takes {', '.join(Choices.__annotations__)}.")
        given: dict[str, Any] = {name: value for name, value in choices.items() if value is not None}
        own = Choices(
            num_threads=self.num_threads,
            display_progress=self.display_progress,
            display_table=self.display_table,
            save_as_csv=self.save_as_csv,
            save_as_json=self.save_as_json,
            save_as_html=self.save_as_html,
            resume=self.resume,
        )
        wanted = Choices(**{**own, **given})  # type: ignore[typeddict-item]
        examples = self.devset if devset is None else list(devset)
        chosen = metric or self.metric
        if not examples or chosen is None:
            raise InputError("There is nothing to evaluate: give examples and a metric, as in Evaluate(devset, metric)(program).")
        _check(program, chosen, examples)
        limits = Limits(
            threads=wanted["num_threads"],
            max_errors=self.max_errors,
            failure_score=self.failure_score,
            tracebacks=self.provide_traceback,
        )
        return _Asked(program, chosen, examples, limits, wanted)


class _Asked:
    """One evaluation as it was asked for."""

    def __init__(self, program: Program, metric: Metric, examples: Sequence[Example], limits: Limits, choices: Choices) -> None:
        self._program = program
        self._metric = metric
        self._examples = examples
        self._choices = choices
        resume = choices["resume"]
        journal = None if resume is None else Journal(Path(resume), examples, _identity(program, metric))
        self.run = EvaluationRun(program, metric, examples, limits, journal)
        self._started = time.perf_counter()
        if self.run.rows:
            note(f"{resume}: {len(self.run.rows)} of {len(examples)} examples are done already.")

    def observed(self, evaluate: Evaluate) -> Observation:
        return observed("evaluate", evaluate, {"program": self._program, "devset": self._examples, "metric": self._metric})

    def shown(self) -> AbstractContextManager[Task | None]:
        return progress("Evaluating", total=len(self._examples)) if self._choices["display_progress"] else nullcontext()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What ends the block early takes the rows so far along."""
        try:
            yield
        except EvaluationError as error:
            raise EvaluationFailed(str(error), self.result()) from error
        except KeyboardInterrupt:
            partial = self.result()
            resume = self._choices["resume"]
            how = f"Run it again with resume={str(resume)!r} to go on" if resume else "With resume='file.jsonl' it could go on from here"
            done = f"Interrupted after {len(partial.rows)} of {len(self._examples)} examples. They are in the error's `result`. {how}."
            raise EvaluationInterrupted(done, partial) from None

    def result(self) -> EvaluationResult:
        name = type(self._program).__name__ if isinstance(self._program, Module) else name_of(self._program)
        seconds = time.perf_counter() - self._started
        return EvaluationResult(rows=self.run.done(), seconds=seconds, metric=name_of(self._metric), program=name)

    def deliver(self, result: EvaluationResult) -> None:
        """Saves and shows what was asked for."""
        if (path := self._choices["save_as_csv"]) is not None:
            result.to_csv(path)
        if (path := self._choices["save_as_json"]) is not None:
            result.to_json(path)
        if (path := self._choices["save_as_html"]) is not None:
            result.to_html(path)
        table = self._choices["display_table"]
        if table is True:
            result.show()
        elif table:
            result.show(table)


def _identity(program: Program, metric: Metric) -> dict[str, str]:
    """What a journal remembers of a program and a metric: their code where it can be read, and the program's state and models."""
    state: object = None
    if isinstance(program, Module):
        models = [str(predictor.language_model()) for predictor in program.predictors()]
        state = [program.dump_state(), models]
    text = json.dumps(state, sort_keys=True, default=lambda value: type(value).__qualname__)
    return {"program": _hash(text + _source(program)), "metric": _hash(name_of(metric) + _source(metric))}


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _source(value: object) -> str:
    code = value if inspect.isroutine(value) else type(value)
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):
        return str(code.__qualname__)


def _check(program: object, metric: object, examples: Sequence[Any]) -> None:
    if isinstance(program, type) or not callable(program):
        hint = f"; make one of it: {program.__name__}(...)" if isinstance(program, type) else ""
        raise InputError(f"The program is {program!r}; expected a module, or a function that returns a Prediction{hint}.")
    if isinstance(metric, type) or not callable(metric):
        raise InputError(f"The metric is {metric!r}; expected a function such as {corrected(metric)}.")
    for index, example in enumerate(examples):
        if not isinstance(example, Example):
            raise InputError(f"Example {index} is {example!r}; expected homefire.Example(...).with_inputs(...).")
        try:
            example.inputs()
        except ValueError:
            raise InputError(f"Example {index} does not know its inputs. Write example.with_inputs('name', ...).") from None
