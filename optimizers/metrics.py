"""Metrics: how good one prediction is.

Knows no program. A metric is any function `metric(example, prediction)` or `metric(example, prediction, trace)` that returns a bool, a
number from 0 to 1, or a Prediction with a field `score`; higher is better.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

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

    return metric


def score_of(metric: Metric, example: Example, prediction: Prediction, steps: Sequence[Step] | None = None) -> float:
    """What a metric says, as a number; `steps` is handed on to metrics that take a third argument.

    Raises:
        InputError: the metric returned something that is no number.
    """
    verdict = metric(example, prediction, steps) if steps is not None and _takes_trace(metric) else metric(example, prediction)
    if not isinstance(verdict, bool | int | float | Prediction):
        raise InputError(f"The metric returned {verdict!r}; expected True or False, a number, or a Prediction with a field 'score'.")
    return float(verdict)


def _takes_trace(metric: Metric) -> bool:
    parameters = inspect.signature(metric).parameters.values()
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 3 or any(one.kind is one.VAR_POSITIONAL for one in parameters)
