"""The trace store: every run of a program in a file, typed when it is read, and private."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import homefire
from homefire.modules.trace_store import TraceStore


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class City(BaseModel):
    name: str
    people: int | None = None


class Two(homefire.Module):
    def __init__(self) -> None:
        self.find = homefire.Predict(
            homefire.Signature("text -> city: City, mood: Mood", "Find.", custom_types={"City": City, "Mood": Mood})
        )
        self.count = homefire.ChainOfThought("name -> letters: int")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        found = self.find(text=inputs["text"])
        return homefire.Prediction(city=found.city, letters=self.count(name=found.city.name).letters)


def says(request: homefire.Request) -> str:
    if "letters" in request.messages[0].content:
        return '{"reasoning": "R-o-m-e", "letters": 4}'
    return '{"city": {"name": "Rome", "people": 3}, "mood": "good"}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    made = TraceStore(tmp_path / "traces.db")
    yield made
    made.close()


@pytest.fixture
def lm() -> Iterator[homefire.ScriptedLM]:
    made = homefire.ScriptedLM(says)
    with homefire.context(lm=made):
        yield made


def answering(signature: str = "question -> answer") -> homefire.Predict:
    made = homefire.Predict(signature)
    made.lm = homefire.ScriptedLM(lambda request: '{"answer": "yes"}')
    return made


def test_an_outermost_call_is_one_trace(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    program = Two()
    with store.recording():
        prediction = program(text="in Rome")
    (summary,) = store.find()
    assert summary.id == prediction.trace_id
    assert (summary.program, summary.steps, summary.models, summary.error) == ("Two", 2, ("scripted",), None)
    assert summary.inputs == {"text": "in Rome"}
    assert summary.outputs == {"city": {"name": "Rome", "people": 3}, "letters": 4}
    assert summary.completion_tokens == sum(step.usage.completion_tokens for step in store.get(summary.id).steps)


def test_steps_come_back_with_the_types_of_a_given_program(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    program = Two()
    with store.recording(), homefire.record() as trace:
        program(text="in Rome")
    steps = store.get(trace.steps[0].prediction.trace_id or "", program).steps
    assert [step.path for step in steps] == ["find", "count.predict"]
    assert steps[0].prediction.city == City(name="Rome", people=3)
    assert steps[0].prediction.mood is Mood.GOOD
    assert steps[0].predictor is program.find
    assert [step.messages for step in steps] == [step.messages for step in trace.steps]
    assert [step.completions for step in steps] == [step.completions for step in trace.steps]
    assert [step.usage for step in steps] == [step.usage for step in trace.steps]


def test_steps_come_back_without_the_program_too(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    with store.recording():
        made = Two()(text="in Rome")
    find, count = store.get(made.trace_id or "").steps
    assert (find.prediction.city.name, find.prediction.mood.value, count.prediction.letters) == ("Rome", "good", 4)
    assert find.signature.instructions == "Find."
    assert homefire.JsonFormat().answer(find.signature, find.prediction.toDict()) == find.answer


def test_threads_and_tasks_make_a_trace_for_each_program(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    program = Two()
    examples = [homefire.Example(text=str(number)).with_inputs("text") for number in range(20)]
    with store.recording():
        program.batch(examples, threads=8)

        async def all_at_once() -> None:
            await asyncio.gather(*(program.acall(text=f"task {number}") for number in range(10)))

        asyncio.run(all_at_once())
    found = store.find()
    assert sorted(one.inputs["text"] for one in found) == sorted([str(n) for n in range(20)] + [f"task {n}" for n in range(10)])
    assert {one.steps for one in found} == {2}


def test_a_program_that_starts_threads_is_still_one_trace(store: TraceStore) -> None:
    class Wide(homefire.Module):
        def __init__(self) -> None:
            self.ask = answering()

        def forward(self, **inputs: Any) -> homefire.Prediction:
            made = self.batch_of_asks()
            return homefire.Prediction(answers=[one.answer for one in made])

        def batch_of_asks(self) -> list[homefire.Prediction]:
            return self.ask.batch([homefire.Example(question=str(n)).with_inputs("question") for n in range(6)], threads=3)

    with store.recording():
        Wide()()
    (summary,) = store.find()
    assert (summary.program, summary.steps) == ("Wide", 6)
    assert {step.path for step in store.get(summary.id).steps} == {"ask"}


def test_a_failed_run_keeps_its_error_and_the_failed_step(store: TraceStore) -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM([homefire.EngineError("the engine broke")])
    with store.recording(), pytest.raises(homefire.EngineError):
        program(question="why?")
    (summary,) = store.find(failed=True)
    assert summary.error == "EngineError: the engine broke"
    assert [step.error for step in store.get(summary.id).steps] == ["EngineError: the engine broke"]
    assert list(store.steps()) == []
    assert store.find(failed=False) == []


def test_the_whole_process_can_be_recorded(store: TraceStore) -> None:
    homefire.configure(callbacks=[store])
    try:
        thread = threading.Thread(target=answering(), kwargs={"question": "q"})
        thread.start()
        thread.join()
    finally:
        homefire.configure(callbacks=None)
    answering()(question="not recorded")
    assert [one.inputs for one in store.find()] == [{"question": "q"}]


def test_what_a_search_was_asked_and_what_it_found_is_kept(store: TraceStore) -> None:
    program = homefire.RAG(lambda query, k: [{"text": "Rome is old.", "id": 7, "score": 0.5}], k=1)
    program.set_lm(homefire.ScriptedLM(['{"answer": "old", "citations": [1]}']))
    with store.recording():
        made = program(question="How is Rome?")
    calls = store.get(made.trace_id or "").calls
    assert [call.name for call in calls] == ["Retrieve", "Predict"]
    assert calls[0].inputs == {"query": "How is Rome?"} and set(calls[0].outputs) == {"hits"}
    (hit,) = calls[0].outputs["hits"]
    assert (hit["passage"]["id"], hit["passage"]["text"], hit["score"]) == ("7", "Rome is old.", 0.5)
    assert (calls[1].inputs, calls[1].outputs) == ({}, None), "its step tells"


def test_tools_and_modules_inside_are_calls(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    from homefire.engine.callbacks import observed

    class WithTool(homefire.Module):
        def __init__(self) -> None:
            self.two = Two()

        def forward(self, **inputs: Any) -> homefire.Prediction:
            with observed("tool", len, {"text": "abc"}) as call:
                call.give(len("abc"))
            return self.two(**inputs)

    with store.recording():
        made = WithTool()(text="x")
    calls = store.get(made.trace_id or "").calls
    assert [(call.kind, call.name) for call in calls] == [
        ("tool", "len"),
        ("module", "Predict"),
        ("module", "Predict"),
        ("module", "ChainOfThought"),
        ("module", "Two"),
    ]
    assert (calls[0].inputs, calls[0].outputs) == ({"text": "abc"}, 3)
    assert calls[1].parent == calls[-1].id
    assert store.get(made.trace_id or "").steps[0].call_id == calls[1].id


def test_feedback_is_attached_later(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    with store.recording():
        first, second = Two()(text="a"), Two()(text="b")
    store.feedback(first.trace_id or "", score=0.2, text="wrong")
    store.feedback(first.trace_id or "", score=1.0, labels={"letters": 5})
    store.feedback((second.trace_id or "")[:10], text="only words")
    assert [one.id for one in store.find(min_score=0.5)] == [first.trace_id]
    trace = store.get(first.trace_id or "")
    assert trace.score == 1.0
    assert [(one.score, one.text) for one in trace.feedback] == [(0.2, "wrong"), (1.0, "")]
    assert trace.example.letters == 5
    assert store.get(second.trace_id or "").score is None


@pytest.mark.parametrize(
    ("given", "said"),
    [({"score": "good"}, "expected a number"), ({}, "nothing to note"), ({"score": float("nan")}, "expected a number")],
    ids=["text", "nothing", "nan"],
)
def test_feedback_that_says_nothing_is_refused(store: TraceStore, given: dict[str, Any], said: str) -> None:
    with store.recording():
        made = answering()(question="q")
    with pytest.raises(homefire.InputError, match=said):
        store.feedback(made.trace_id or "", **given)


def test_feedback_for_no_trace_is_refused(store: TraceStore) -> None:
    with store.recording():
        answering()(question="q")
    with pytest.raises(homefire.InputError, match="There is no trace 'nope'"):
        store.feedback("nope", score=1)
    with pytest.raises(homefire.InputError, match="There is no trace ''"):
        store.get("")


def test_finds_by_time_program_and_number(store: TraceStore, lm: homefire.ScriptedLM) -> None:
    with store.recording():
        for number in range(3):
            answering()(question=str(number))
        Two()(text="x")
    assert [one.inputs["question"] for one in store.find(program="Predict")] == ["2", "1", "0"]
    assert [one.program for one in store.find(limit=1)] == ["Two"]
    assert len(store.find(program="Predict(question -> answer)")) == 3
    assert store.find(program="Pred") == []
    assert len(store.find(since=timedelta(hours=1))) == 4
    assert store.find(since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert store.find(until=time.time() - 3600) == []
    assert [one.text for one in store.examples(program="Two")] == ["x"]
    assert list(store.examples()[0].inputs()) == ["question"]


def test_private_values_are_nowhere_in_the_file(tmp_path: Path, lm: homefire.ScriptedLM) -> None:
    store = TraceStore(tmp_path / "traces.db", redact=["text"])
    with store.recording():
        Two()(text="the secret of Ann Other")
        failing = homefire.Predict("note -> answer")
        failing(note="Ann", lm=homefire.ScriptedLM(['{"answer": "Ann"}']))
    store.close()
    (two,) = store.find(program="Two")
    assert two.inputs == {"text": "[left out]"}
    find, count = store.get(two.id).steps
    assert (find.messages, find.completions, find.answer) == ((), (), "")
    assert count.messages
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_private_text_is_left_out_where_it_wanders_to(tmp_path: Path) -> None:
    class Passes(homefire.Module):
        def __init__(self) -> None:
            self.ask = answering("question -> answer")
            self.ask.lm = homefire.ScriptedLM(lambda request: '{"answer": "you said hidden-thing"}')

        def forward(self, **inputs: Any) -> homefire.Prediction:
            return self.ask(question=f"what of {inputs['name']}?")

    store = TraceStore(tmp_path / "traces.db", redact={"name"})
    with store.recording():
        made = Passes()(name="hidden-thing")
    store.close()
    (step,) = store.get(made.trace_id or "").steps
    assert step.inputs == {"question": "what of [left out]?"}
    assert step.prediction.answer == "you said [left out]"
    assert step.completions[0].token_ids == ()
    assert b"hidden-thing" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_texts_can_go_through_a_function(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "traces.db", redact=lambda text: text.replace("4711", "####"))
    with store.recording():
        made = answering()(question="card 4711")
    store.close()
    assert store.get(made.trace_id or "").steps[0].inputs == {"question": "card ####"}
    assert b"4711" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_a_redaction_that_fails_keeps_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(text: str) -> str:
        raise RuntimeError("no rule")

    store = TraceStore(tmp_path / "traces.db", redact=broken)
    with store.recording():
        answering()(question="secret")
    store.close()
    stats = store.stats()
    assert (stats.traces, stats.lost) == (0, 1)
    assert "no rule" in capsys.readouterr().err.replace("\n", " ")


def test_values_that_json_does_not_know_are_texts(store: TraceStore) -> None:
    class Odd(homefire.Module):
        def forward(self, **inputs: Any) -> homefire.Prediction:
            return homefire.Prediction(it=inputs["it"], nan=float("nan"), raw=b"\xff", pair=(1, {2}), broken="\ud800")

    with store.recording():
        Odd()(it=object())
    (summary,) = store.find()
    assert summary.inputs["it"].startswith("<object object")
    assert summary.outputs["nan"] != summary.outputs["nan"]
    assert summary.outputs["broken"] == "\ud800"
    assert store.stats().lost == 0
