"""Stored runs for optimizers: what a trace store kept, as runs to learn from.

Knows no trainer and no database.
"""

from __future__ import annotations

from typing import Any

from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.redaction import LEFT_OUT
from homefire.modules.stored_trace import StoredTrace, as_json
from homefire.modules.trace import Step
from homefire.modules.trace_store import TraceStore
from homefire.optimizers.bootstrap import Run
from homefire.optimizers.metrics import Metric, score_of


def stored_runs(
    store: TraceStore, program: Module, *, metric: Metric | None = None, threshold: float | None = None, **which: Any
) -> list[Run]:
    """The runs of a store that the program's predictors could have made, the oldest first, as `rows_of` takes them.

    Runs with a step whose path is none of the program's are left out, and so are runs of which a step was not kept whole.

    Args:
        store: Where they are.
        program: Whose predictors give steps their signatures.
        metric: Judges each run's outputs, with its feedback's labels in the example; None goes by the score of the feedback, and where
            there is none lets every run pass that did not fail.
        threshold: Least score that passes; None lets every score above 0 pass.
        which: As `TraceStore.find` takes it.
    """
    paths = {path for path, _ in program.named_predictors(frozen=True)}
    runs = []
    for trace in store.traces(like=program, **which):
        steps = [step for step in trace.steps if step.error is None]
        if steps and all(step.path in paths and _is_whole(step) for step in steps):
            runs.append(_run(trace, metric, threshold))
    return runs


def _run(trace: StoredTrace, metric: Metric | None, threshold: float | None) -> Run:
    steps, error = tuple(step for step in trace.steps if step.error is None), trace.summary.error
    example, score = trace.example, 0.0
    if error is None:
        try:
            score = _score(trace, example, metric)
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
    passed = error is None and (score > 0 if threshold is None else score >= threshold)
    return Run(example=example, steps=steps, score=score, passed=passed, error=error)


def _score(trace: StoredTrace, example: Example, metric: Metric | None) -> float:
    if metric is not None:
        return score_of(metric, example, Prediction(trace.summary.outputs), trace.steps)
    return 1.0 if trace.score is None else trace.score


def _is_whole(step: Step) -> bool:
    """Whether every output is there, and nothing private was left out."""
    values = [*step.inputs.values(), *step.prediction.values()]
    return all(name in step.prediction for name in step.signature.output_fields) and LEFT_OUT not in as_json(values)
