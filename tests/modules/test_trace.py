"""Traces: steps with everything that the call took, failed ones too; nested, in threads, in tasks; as DSPy's users read them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import homefire
from homefire.modules.trace import Trace, snapshot


class Two(homefire.Module):
    def __init__(self) -> None:
        self.plan = homefire.Predict("question -> plan")
        self.answer = homefire.ChainOfThought("plan -> answer: int")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        plan = self.plan(question=inputs["question"]).plan
        return homefire.Prediction(answer=self.answer(plan=plan).answer)


def says(request: homefire.Request) -> str:
    return '{"reasoning": "so", "answer": 4}' if "reasoning" in request.messages[0].content else '{"plan": "count"}'


def test_a_step_knows_what_it_took() -> None:
    program = homefire.Predict("question -> answer: int", logprobs=True)
    program.lm = homefire.ScriptedLM(['{"answer": 42}'])
    with homefire.record() as trace:
        prediction = program(question="6 x 7?")
    (step,) = trace.steps
    assert (step.path, step.inputs, step.prediction.answer, step.model) == ("self", {"question": "6 x 7?"}, 42, "scripted")
    assert step.answer == '{"answer": 42}'
    assert step.completions[0].token_ids == tuple(map(ord, '{"answer": 42}'))
    assert step.completions[0].logprobs is not None
    assert "6 x 7?" in step.messages[-1].content
    assert (step.usage.calls, step.usage.completion_tokens) == (1, len('{"answer": 42}'))
    assert step.started > 0
    assert step.seconds > 0
    assert step.error is None
    assert step.id == f"{trace.id}-0"
    assert prediction.trace_id == trace.id


def test_reads_as_predictor_inputs_and_prediction() -> None:
    program = Two()
    with homefire.context(lm=homefire.ScriptedLM(says)), homefire.record() as trace:
        assert program(question="how many?").trace_id == trace.id
    triples = [(predictor, inputs, prediction) for predictor, inputs, prediction in trace]
    assert [predictor for predictor, _, _ in triples] == [program.plan, program.predictors()[1]]
    assert trace[-1][2].answer == 4
    assert trace[0][1] == {"question": "how many?"}
    assert len(trace) == 2
    assert [step.path for step in trace.steps] == ["plan", "answer.predict"]


def test_a_failed_call_is_a_step_of_its_own_kind() -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM([homefire.EngineError("the engine broke"), '{"answer": "yes"}'])
    with homefire.record() as trace:
        with pytest.raises(homefire.EngineError):
            program(question="a")
        program(question="b")
    assert [step.inputs["question"] for step in trace.steps] == ["b"]
    assert [step.error for step in trace.failures] == ["EngineError: the engine broke"]
    assert [step.inputs["question"] for step in trace.calls] == ["a", "b"]
    assert trace.failures[0].messages


def test_a_failed_call_is_a_step_when_awaited_too() -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM([homefire.EngineError("the engine broke")])

    async def run() -> Trace:
        with homefire.record() as trace:
            with pytest.raises(homefire.EngineError):
                await program.acall(question="a")
            return trace

    assert [step.error for step in asyncio.run(run()).failures] == ["EngineError: the engine broke"]


def test_an_inner_record_hides_nothing_from_the_outer_one() -> None:
    class Around(homefire.Module):
        def __init__(self) -> None:
            self.two = Two()

        def forward(self, **inputs: Any) -> homefire.Prediction:
            with homefire.record() as inner:
                found = self.two(**inputs)
            assert [step.path for step in inner.steps] == ["plan", "answer.predict"]
            return found

    with homefire.context(lm=homefire.ScriptedLM(says)), homefire.record() as outer:
        Around()(question="q")
    assert [step.path for step in outer.steps] == ["two.plan", "two.answer.predict"]


def test_threads_and_tasks_record_into_the_block_they_were_started_in() -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": "x"}')
    with homefire.record() as trace:
        threads = [threading.Thread(target=program, kwargs={"question": str(number)}) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        async def all_at_once() -> None:
            await asyncio.gather(*(program.acall(question=f"task {number}") for number in range(8)))

        asyncio.run(all_at_once())
    assert sorted(step.inputs["question"] for step in trace.steps) == sorted([str(n) for n in range(8)] + [f"task {n}" for n in range(8)])
    assert len({step.id for step in trace.steps}) == 16


def test_inputs_stay_as_they_were_when_the_call_was_made() -> None:
    program = homefire.Predict("turns: list[str], facts: dict[str, list[int]] -> answer")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": "x"}')
    turns, facts = ["one"], {"a": [1]}
    with homefire.record() as trace:
        program(turns=turns, facts=facts)
        turns.append("two")
        facts["a"].append(2)
    assert trace.steps[0].inputs == {"turns": ["one"], "facts": {"a": [1]}}


def test_a_snapshot_takes_other_values_as_they_are() -> None:
    value = object()
    assert snapshot({"a": [value, (1,)]}) == {"a": [value, (1,)]}


def test_a_trace_of_bounded_size_keeps_the_last_steps() -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": "x"}')
    trace = Trace(most=3)
    with homefire.record() as outer:
        for number in range(5):
            program(question=str(number))
    for step in outer.steps:
        trace.add(step)
    assert [step.inputs["question"] for step in trace.steps] == ["2", "3", "4"]


def test_labels_that_supply_the_answer_are_a_step_without_completions() -> None:
    from homefire.modules.trace import supplied_by

    program = homefire.Predict("question -> answer: int")
    with homefire.record() as trace, supplied_by({"answer": 7}):
        program(question="q")
    assert (trace.steps[0].model, trace.steps[0].answer, trace.steps[0].completions) == ("labels", '{"answer": 7}', ())
    assert trace.steps[0].usage.calls == 0


def test_the_settings_may_have_a_list_for_the_trace() -> None:
    program = Two()
    found: list[Any] = []
    with homefire.context(lm=homefire.ScriptedLM(says), trace=found):
        program(question="how many?")
        assert homefire.settings.trace is found
        assert [inputs for _, inputs, _ in found] == [{"question": "how many?"}, {"plan": "count"}]
        with homefire.context(trace=None):
            program(question="not recorded")
    assert len(found) == 2
    assert homefire.settings.trace is None


def test_the_trace_of_the_settings_is_a_list() -> None:
    with pytest.raises(homefire.ConfigError, match=r"context\(trace=\[\]\)"), homefire.context(trace="yes"):  # type: ignore[typeddict-item]
        pass


def test_a_trace_of_the_process_is_seen_in_all_threads() -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": "x"}')
    homefire.configure(trace=[])
    try:
        thread = threading.Thread(target=program, kwargs={"question": "q"})
        thread.start()
        thread.join()
        assert len(homefire.settings.trace or ()) == 1
    finally:
        homefire.configure(trace=None)
