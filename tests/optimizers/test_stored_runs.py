"""Stored runs for optimizers: the same training rows as from runs that have just been made."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.modules.trace_store import TraceStore
from homefire.optimizers.bootstrap import bootstrap
from homefire.optimizers.dataset import rows_of
from homefire.optimizers.stored_runs import stored_runs


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Rate(homefire.Signature):
    """Rate it."""

    text: str = homefire.InputField()
    mood: Mood = homefire.OutputField()


class Both(homefire.Module):
    def __init__(self) -> None:
        self.rate = homefire.Predict(Rate)
        self.why = homefire.Predict("text, mood -> why")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        mood = self.rate(**inputs).mood
        return homefire.Prediction(mood=mood.value, why=self.why(text=inputs["text"], mood=mood.value).why)


def says(request: homefire.Request) -> str:
    good = "tea" in request.messages[-1].content
    if "why" in request.messages[0].content:
        return '{"why": "it is warm"}' if good else '{"why": "it is wet"}'
    return '{"mood": "good"}' if good else '{"mood": "bad"}'


EXAMPLES = [homefire.Example(text=text).with_inputs("text") for text in ("warm tea", "cold rain", "green tea")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    made = TraceStore(tmp_path / "traces.db")
    yield made
    made.close()


@pytest.fixture
def program() -> Both:
    made = Both()
    made.set_lm(homefire.ScriptedLM(says))
    return made


def test_stored_runs_give_the_rows_that_fresh_ones_give(store: TraceStore, program: Both) -> None:
    with store.recording():
        fresh = bootstrap(program, EXAMPLES, None)
    runs = stored_runs(store, program)
    rows = [rows_of(some, program, homefire.JsonFormat(), with_demos=False, seed=0) for some in (fresh, runs)]
    assert {(row.prompt, row.completion) for row in rows[0]} == {(row.prompt, row.completion) for row in rows[1]}
    assert len(rows[1]) == 6
    assert {step.prediction.mood for run in runs for step in run.steps if step.path == "rate"} == {Mood.GOOD, Mood.BAD}


def test_feedback_decides_what_is_learnt_from(store: TraceStore, program: Both) -> None:
    with store.recording():
        made = [program(**example.inputs()) for example in EXAMPLES]
    store.feedback(made[0].trace_id or "", score=1.0)
    store.feedback(made[1].trace_id or "", score=0.0)
    assert [(run.example.text, run.score, run.passed) for run in stored_runs(store, program)] == [
        ("warm tea", 1.0, True),
        ("cold rain", 0.0, False),
        ("green tea", 1.0, True),
    ]
    assert [run.example.text for run in stored_runs(store, program, min_score=0.5)] == ["warm tea"]


def test_a_metric_judges_by_the_labels_of_the_feedback(store: TraceStore, program: Both) -> None:
    with store.recording():
        made = [program(**example.inputs()) for example in EXAMPLES[:2]]
    store.feedback(made[0].trace_id or "", labels={"mood": "bad"})
    runs = stored_runs(store, program, metric=lambda example, prediction, trace=None: example.mood == prediction.mood)
    assert [run.passed for run in runs] == [False, True]
    broken = stored_runs(store, program, metric=lambda example, prediction, trace=None: example.nothing)
    assert all(not run.passed and "AttributeError" in (run.error or "") for run in broken)


def test_runs_of_other_programs_and_private_ones_are_left_out(tmp_path: Path, program: Both) -> None:
    store = TraceStore(tmp_path / "traces.db", redact=["mood"])
    with store.recording():
        program(text="warm tea")
        other = homefire.Predict("question -> answer")
        other(question="q", lm=homefire.ScriptedLM(['{"answer": "a"}']))
    assert stored_runs(store, program) == []
    assert len(stored_runs(store, other)) == 1
    store.close()
