"""Rows of an evaluation: what happened to each example, as a value and as a record that a file can hold.

Knows no program, no metric and no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from homefire.modules.example import Example, Prediction
from homefire.modules.trace import Step
from homefire.optimizers.statistics import Interval, bootstrap_mean, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What happened to one example."""

    example: Example
    prediction: Prediction | None
    """None where the program failed."""
    score: float
    """Higher is better; 0 (or `failure_score`) where the program or the metric failed."""
    error: str | None = None
    traceback: str = ""
    """Where the error came from."""
    invalid: bool = False
    """Whether the model's output did not have its type."""
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    steps: tuple[Step, ...] = ()


def is_binary(scores: Sequence[float]) -> bool:
    """Whether every score says right or wrong."""
    return all(score in (0.0, 1.0) for score in scores)


def interval_of(scores: Sequence[float]) -> Interval:
    """95% interval of the mean: Wilson's for right and wrong, otherwise by bootstrap."""
    return wilson(int(sum(scores)), len(scores)) if is_binary(scores) else bootstrap_mean(scores, seed=0)


def flat_records(rows: Sequence[Row], **also: str) -> list[dict[str, Any]]:
    """One record of JSON values for every row: the example's fields, `predicted_...` for every output, the score, and what it took.

    Where the data have a field of the name of a measure, the measure's name ends in an underscore.

    Args:
        rows: What an evaluation gave.
        also: More columns, the same in every record.
    """
    records = []
    for row in rows:
        predicted = {} if row.prediction is None else {f"predicted_{name}": value for name, value in row.prediction.items()}
        measures = {
            **also,
            "score": row.score,
            "error": row.error,
            "seconds": round(row.seconds, 4),
            "prompt_tokens": row.prompt_tokens,
            "completion_tokens": row.completion_tokens,
        }
        fields = {**dict(row.example.items()), **predicted}
        free = {name + "_" if name in fields else name: value for name, value in measures.items()}
        records.append(_json_values({**fields, **free}))
    return records


def full_record(row: Row) -> dict[str, Any]:
    """All of a row but its steps, as JSON values; `row_of` reads it."""
    inputs = row.example._input_keys
    return {
        "example": json_fields(row.example),
        "inputs": None if inputs is None else sorted(inputs),
        "prediction": None if row.prediction is None else json_fields(row.prediction),
        "score": row.score,
        "error": row.error,
        "traceback": row.traceback,
        "invalid": row.invalid,
        "seconds": round(row.seconds, 6),
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
    }


def row_of(record: Mapping[str, Any], example: Example | None = None) -> Row:
    """The row that `full_record` wrote; fields are JSON values, unless the example itself is given.

    Raises:
        KeyError: something is missing.
        TypeError: something has another form.
    """
    if example is None:
        example = Example(record["example"])
        if record["inputs"] is not None:
            example = example.with_inputs(*record["inputs"])
    return Row(
        example=example,
        prediction=None if record["prediction"] is None else Prediction(record["prediction"]),
        score=float(record["score"]),
        error=record["error"],
        traceback=record["traceback"],
        invalid=bool(record["invalid"]),
        seconds=float(record["seconds"]),
        prompt_tokens=int(record["prompt_tokens"]),
        completion_tokens=int(record["completion_tokens"]),
    )


def json_fields(example: Example) -> dict[str, Any]:
    """The fields as JSON values; what JSON cannot hold becomes its text."""
    return _json_values(example.toDict())


def _json_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = to_jsonable_python(fields, inf_nan_mode="strings", fallback=str, by_alias=True)
    return values
