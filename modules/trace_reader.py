"""Reads a trace store's file: runs in a line, whole runs with typed steps, feedback.

Knows no thread and no program but the predictors that it is given.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from homefire.errors import InputError
from homefire.modules.described_types import signature_of
from homefire.modules.module import Predictor
from homefire.modules.signature import Signature
from homefire.modules.stored_trace import Call, Feedback, StoredTrace, TraceSummary, as_json, typed_step
from homefire.modules.trace import Step

_LAST_SCORE = "(SELECT score FROM feedback WHERE trace = traces.id AND score IS NOT NULL ORDER BY id DESC LIMIT 1)"
_SUMMARY = (
    "SELECT id, program, started, seconds, inputs, outputs, error, "
    f"{_LAST_SCORE} AS score, steps, models, prompt_tokens, completion_tokens FROM traces"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which runs."""

    since: float | None = None
    until: float | None = None
    program: str | None = None
    min_score: float | None = None
    failed: bool | None = None
    limit: int | None = None

    def clauses(self) -> tuple[str, list[Any]]:
        """The condition, and its values."""
        program = self.program
        given: list[tuple[str, list[Any]]] = [
            ("started >= ?", [] if self.since is None else [self.since]),
            ("started < ?", [] if self.until is None else [self.until]),
            ("(program = ? OR substr(program, 1, ?) = ?)", [] if program is None else [program, len(program) + 1, f"{program}("]),
            (f"{_LAST_SCORE} >= ?", [] if self.min_score is None else [self.min_score]),
        ]
        clauses = [clause for clause, values in given if values]
        if self.failed is not None:
            clauses.append("error IS NOT NULL" if self.failed else "error IS NULL")
        return " AND ".join(clauses) or "1", [value for _, values in given for value in values]


@dataclass(frozen=True, slots=True)
class StoredCounts:
    """How much there is."""

    traces: int = 0
    steps: int = 0
    feedback: int = 0


def summaries(connection: sqlite3.Connection, which: Which) -> list[TraceSummary]:
    """Runs in a line each, the newest first."""
    clause, values = which.clauses()
    limit = -1 if which.limit is None else which.limit
    rows = connection.execute(f"{_SUMMARY} WHERE {clause} ORDER BY started DESC, rowid DESC LIMIT ?", [*values, limit])
    return [_summary(row) for row in rows]


def whole_id(connection: sqlite3.Connection, beginning: str) -> str:
    """The id that begins so.

    Raises:
        InputError: there is none, or there are several.
    """
    upper = beginning + "\uffff"
    found = [row[0] for row in connection.execute("SELECT id FROM traces WHERE id >= ? AND id < ? LIMIT 2", (beginning, upper))]
    if not beginning or not found:
        raise InputError(f"There is no trace {beginning!r}. It may have been removed, or never recorded; see: homefire traces list.")
    if len(found) > 1 and found[0] != beginning:
        raise InputError(f"Several traces begin with {beginning!r}. Give more of the id, as in {found[0][: len(beginning) + 6]!r}.")
    return str(found[0])


def read(connection: sqlite3.Connection, trace_id: str, predictors: Mapping[str, Predictor]) -> StoredTrace:
    """A whole run.

    Raises:
        InputError: there is none of this id.
    """
    found = read_if_there(connection, trace_id, predictors)
    if found is None:
        raise InputError(f"There is no trace {trace_id!r}. It may have been removed; see: homefire traces list.")
    return found


def read_if_there(connection: sqlite3.Connection, trace_id: str, predictors: Mapping[str, Predictor]) -> StoredTrace | None:
    """A whole run; None where it has been removed. Steps whose path a predictor has take its signature."""
    connection.execute("BEGIN")
    try:
        row = connection.execute(f"{_SUMMARY} WHERE id = ?", (trace_id,)).fetchone()
        if row is None:
            return None
        calls = connection.execute("SELECT calls FROM traces WHERE id = ?", (trace_id,)).fetchone()[0]
        steps = connection.execute(
            "SELECT steps.trace, id, path, described, model, adapter, started, seconds, error, body FROM steps "
            "JOIN signatures ON signatures.key = steps.signature WHERE trace = ? ORDER BY position",
            (trace_id,),
        ).fetchall()
        feedback = connection.execute("SELECT score, text, labels, at FROM feedback WHERE trace = ? ORDER BY id", (trace_id,)).fetchall()
    finally:
        connection.execute("COMMIT")
    return StoredTrace(
        summary=_summary(row),
        steps=tuple(_step(step, predictors) for step in steps),
        calls=tuple(Call(**call) for call in json.loads(calls)),
        feedback=tuple(Feedback(score=score, text=text, labels=json.loads(labels), at=at) for score, text, labels, at in feedback),
    )


def add_feedback(connection: sqlite3.Connection, trace_id: str, score: float | None, text: str, labels: Mapping[str, Any]) -> None:
    """Notes feedback for the run of this id.

    Raises:
        InputError: no such run, or a score that is no number.
    """
    if score is not None and (not isinstance(score, int | float) or score != score):
        raise InputError(f"The score is {score!r}; expected a number, as in store.feedback({trace_id!r}, score=1.0).")
    if score is None and not text and not labels:
        raise InputError(f"There is nothing to note. Give a score, a text or labels: store.feedback({trace_id!r}, score=1.0).")
    row = (whole_id(connection, trace_id), score, text, as_json(dict(labels)), time.time())
    connection.execute("INSERT INTO feedback (trace, score, text, labels, at) VALUES (?, ?, ?, ?, ?)", row)


def counts(connection: sqlite3.Connection) -> StoredCounts:
    """How much there is."""
    return StoredCounts(*(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("traces", "steps", "feedback")))


def _summary(row: tuple[Any, ...]) -> TraceSummary:
    trace_id, program, started, seconds, inputs, outputs, error, score, steps, models, prompt_tokens, completion_tokens = row
    return TraceSummary(
        id=trace_id,
        program=program,
        started=started,
        seconds=seconds,
        inputs=json.loads(inputs),
        outputs=json.loads(outputs),
        error=error,
        score=score,
        steps=steps,
        models=tuple(json.loads(models)),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )


def _step(row: tuple[Any, ...], predictors: Mapping[str, Predictor]) -> Step:
    names = ("trace", "id", "path", "described", "model", "adapter", "started", "seconds", "error")
    columns = dict(zip(names, row, strict=False))
    predictor = predictors.get(columns["path"])
    signature = _signature(columns["described"]) if predictor is None else predictor.signature
    return typed_step(json.loads(row[-1]), signature, columns, predictor)


@lru_cache(maxsize=256)
def _signature(described: str) -> type[Signature]:
    return signature_of(json.loads(described))
