"""Metrics: how good one prediction is.

Knows no program. A metric is any function `metric(example, prediction)` or `metric(example, prediction, trace)` that returns a bool, a
number from 0 to 1, or a Prediction with a field `score`; higher is better.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, SupportsFloat

from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.trace import Step

Metric = Callable[..., "bool | float | Prediction"]


def field_match(*fields: str) -> Metric:
    """A metric that is True where all these fields of the prediction equal the example's.

    >>> field_match("label")(Example(text="a", label="x"), Prediction(label="x"))
    True
    """
    if not fields:
        raise InputError("field_match needs the name of at least one field, as in field_match('label').")

    def metric(example: Example, prediction: Prediction, trace: Any = None) -> bool:
        return all(example[name] == prediction[name] for name in fields)

    metric.__name__ = "field_match"
    return metric


def score_of(metric: Metric, example: Example, prediction: Prediction, steps: Sequence[Step] | None = None) -> float:
    """What a metric says, as a number; `steps` is handed on to metrics that take a third argument.

    Raises:
        InputError: the metric returned something that is no number, or no finite one.
    """
    verdict: object = metric(example, prediction, steps) if steps is not None and _takes_trace(metric) else metric(example, prediction)
    if inspect.iscoroutine(verdict):
        verdict.close()
        raise InputError(f"The metric {name_of(metric)} is asynchronous. Write it with `def` instead of `async def`.")
    if isinstance(verdict, Prediction) and "score" not in verdict:
        raise InputError(_wrong(metric, f"a Prediction without a field 'score' ({', '.join(verdict) or 'it is empty'})"))
    if not isinstance(verdict, SupportsFloat):
        hint = ", perhaps for want of a `return`" if verdict is None else ""
        raise InputError(_wrong(metric, f"{verdict!r}{hint}"))
    score = float(verdict)
    if not math.isfinite(score):
        raise InputError(_wrong(metric, f"{score}, which is no score"))
    return score


def name_of(metric: object) -> str:
    """The name of a metric: of the function, or of the class of an object that is called."""
    return metric.__name__ if inspect.isroutine(metric) else type(metric).__name__


def corrected(metric: object) -> str:
    """How a metric is written."""
    name = name_of(metric) if inspect.isroutine(metric) else "metric"
    written = name if name.isidentifier() else "metric"
    return f"def {written}(example, prediction, trace=None): return example.answer == prediction.answer"


def _wrong(metric: Metric, returned: str) -> str:
    return (
        f"The metric {name_of(metric)} returned {returned}; expected True or False, a number, or a Prediction with a field 'score'. "
        f"For example: {corrected(metric)}"
    )


def _takes_trace(metric: Metric) -> bool:
    parameters = inspect.signature(metric).parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 3 or any(one.kind is one.VAR_POSITIONAL for one in parameters)
