"""Bootstrapping: a program's own runs that went well, as traces.

Knows no training; few-shot optimizers make demos of these traces, finetuning makes rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from homefire.configs.console import progress
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.parallel import SYSTEM_FAILURES, run_in_threads
from homefire.modules.trace import Step, record, supplied_by
from homefire.optimizers.metrics import Metric, score_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a program on one example."""

    example: Example
    steps: tuple[Step, ...]
    score: float
    passed: bool
    error: str | None = None


def bootstrap(
    program: Module,
    trainset: Sequence[Example],
    metric: Metric | None,
    *,
    labels: bool = True,
    threshold: float | None = None,
    threads: int | None = None,
) -> list[Run]:
    """Runs a program over examples and marks the runs that pass the metric, in the order of the examples.

    Args:
        program: The teacher.
        trainset: Examples that know their inputs.
        metric: None lets every run pass that did not fail.
        labels: Whether predictors whose outputs are all among an example's labels answer with the labels instead of running the model.
        threshold: Least score that passes; None lets every score above 0 pass.
        threads: Examples in flight at once; None takes what the engine batches.

    Raises:
        EngineError: and every other failure of the system rather than of an example.
    """
    calls = [partial(_run, program, example, metric, labels, threshold) for example in trainset]
    workers = threads or (8 if labels and _all_supplied(program, trainset) else program.useful_threads())
    with progress("Collecting traces", total=len(calls)) as task:
        return run_in_threads(calls, workers, lambda ended: task.update(completed=ended))


def _all_supplied(program: Module, trainset: Sequence[Example]) -> bool:
    """Whether labels answer for every predictor, so that no engine needs to start."""
    known = set(trainset[0]) if trainset else set()
    return all(set(predictor.signature.output_fields) <= known for predictor in program.predictors())


def _run(program: Module, example: Example, metric: Metric | None, labels: bool, threshold: float | None) -> Run:
    with record() as trace, supplied_by(example.labels().toDict()) if labels else nullcontext():
        try:
            prediction = program(**example.inputs())
            score = 1.0 if metric is None else score_of(metric, example, prediction, trace.steps)
        except SYSTEM_FAILURES:
            raise
        except Exception as error:
            return Run(example=example, steps=tuple(trace.steps), score=0.0, passed=False, error=f"{type(error).__name__}: {error}")
    passed = score > 0 if threshold is None else score >= threshold
    return Run(example=example, steps=tuple(trace.steps), score=score, passed=passed)
