"""BestOfN and Refine: attempts, rewards, advice, failures."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import EngineError, InputError
from homefire.modules.best_of_n import BestOfN
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.refine import Refine
from homefire.modules.settings import context
from homefire.modules.trace import record


def number(request: Request) -> int:
    return int(str(request.sampling.rollout_id))


def by_rollout(answers: list[str]) -> ScriptedLM:
    return ScriptedLM(lambda request: json.dumps({"answer": answers[number(request)]}))


def length(inputs: dict[str, Any], prediction: Prediction) -> float:
    assert inputs == {"question": "q"}
    return len(prediction.answer)


def test_the_best_attempt_is_the_answer_and_the_first_of_equals() -> None:
    with context(lm=by_rollout(["a", "bbb", "cc", "ddd"])):
        assert BestOfN(Predict("question -> answer"), 4, length, threshold=10)(question="q").answer == "bbb"


def test_the_first_in_order_that_is_good_enough_is_the_answer() -> None:
    with context(lm=by_rollout(["a", "bb", "cc", "dddd"])):
        assert BestOfN(Predict("question -> answer"), 4, length, threshold=2)(question="q").answer == "bb"
        asked = BestOfN(Predict("question -> answer"), 4, length, threshold=2).acall(question="q")
        assert asyncio.run(asked).answer == "bb"


def test_attempts_run_at_once_and_are_drawn_apart() -> None:
    meeting = threading.Barrier(3, timeout=60)

    class Meets(Module):
        def __init__(self) -> None:
            self.predict = Predict("question -> answer")

        def forward(self, question: str) -> Prediction:
            meeting.wait()
            return self.predict(question=question)

    lm = by_rollout(["a", "b", "c"]).copy(seed=7)
    with context(lm=lm):
        BestOfN(Meets(), 3, length, threshold=10)(question="q")
    requests = sorted(lm.engine().requests, key=number)  # type: ignore[attr-defined]
    assert [(one.sampling.rollout_id, one.sampling.seed, one.sampling.temperature) for one in requests] == [
        ("0", 7, 1.0),
        ("1", 8, 1.0),
        ("2", 9, 1.0),
    ]


def test_a_temperature_that_is_named_stays_and_rollouts_nest() -> None:
    lm = ScriptedLM(lambda request: '{"answer": "a"}')
    inner = BestOfN(Predict("question -> answer", temperature=0.3, rollout_id="mine"), 2, length, threshold=10)
    with context(lm=lm):
        BestOfN(inner, 2, length, threshold=10)(question="q")
    assert {one.sampling.temperature for one in lm.scripted.requests} == {0.3}
    assert {one.sampling.rollout_id for one in lm.scripted.requests} == {"mine/0.0", "mine/0.1", "mine/1.0", "mine/1.1"}


def test_only_the_steps_of_the_chosen_attempt_are_traced() -> None:
    program = BestOfN(ChainOfThought("question -> answer"), 3, length, threshold=10)
    lm = ScriptedLM(lambda request: json.dumps({"reasoning": "r", "answer": "x" * (number(request) % 2 + 1)}))
    with context(lm=lm), record() as trace:
        answer = program(question="q")
    assert [(step.path, step.prediction.answer) for step in trace.steps] == [("module.predict", "xx")]
    assert answer.trace_id == trace.id and len(lm.scripted.requests) == 3


def test_failures_are_borne_until_there_are_too_many() -> None:
    def script(request: Request) -> str:
        if number(request) < 2:
            raise RuntimeError(f"attempt {number(request)}")
        return '{"answer": "late"}'

    program = Predict("question -> answer")
    with context(lm=ScriptedLM(script)):
        assert BestOfN(program, 3, length, threshold=1)(question="q").answer == "late"
        with pytest.raises(RuntimeError, match="attempt 1"):
            BestOfN(program, 3, length, threshold=1, fail_count=1)(question="q")
    with context(lm=ScriptedLM(lambda request: EngineError("out of memory"))), pytest.raises(EngineError, match="out of memory"):
        BestOfN(program, 3, length, threshold=1)(question="q")


@pytest.mark.parametrize("kind", [BestOfN, Refine])
def test_wrong_arguments_show_the_call(kind: Any) -> None:
    program = Predict("question -> answer")
    for arguments in [(len, 3, length, 1.0), (program, 0, length, 1.0), (program, True, length, 1.0), (program, 3, "reward", 1.0)]:
        with pytest.raises(InputError, match=rf"{kind.__name__}\(module=program, N=3"):
            kind(*arguments)
    with pytest.raises(InputError, match="fail_count is -1"):
        kind(program, 3, length, 1.0, fail_count=-1)
    with context(lm=ScriptedLM(lambda request: '{"answer": "a"}')), pytest.raises(InputError, match="The reward is 'good'"):
        kind(program, 1, lambda inputs, prediction: "good", 1.0)(question="q")


class Two(Module):
    def __init__(self) -> None:
        self.plan = Predict("question -> plan")
        self.answer = ChainOfThought("plan -> answer")

    def forward(self, question: str) -> Prediction:
        return self.answer(plan=self.plan(question=question).plan)

    async def aforward(self, question: str) -> Prediction:  # type: ignore[override]
        return await self.answer.acall(plan=(await self.plan.acall(question=question)).plan)


def adviser(request: Request) -> str:
    """Answers better with advice."""
    system, last = request.messages[0].content, request.messages[-1].content
    if "scored" in system:
        assert "answer.predict" in last and "def length" in last and "wanted: 4" in last
        return '{"advice": {"answer.predict": "Be longer.", "plan": ""}}'
    if "-> plan" in system or '"plan"' in system:
        return '{"plan": "p"}'
    return json.dumps({"reasoning": "r", "answer": "long" if "hint_: Be longer." in last else "x"})


def test_refine_tells_each_predictor_what_to_do_better() -> None:
    lm = ScriptedLM(adviser)
    program = Refine(Two(), 3, length, threshold=4)
    with context(lm=lm), record() as trace:
        assert program(question="q").answer == "long"
    texts = [request.messages[-1].content for request in lm.scripted.requests]
    assert len(texts) == 5
    assert "hint_" not in texts[3] and "hint_: Be longer." in texts[4]  # an empty piece of advice is none
    assert [step.path for step in trace.steps] == ["adviser", "module.plan", "module.answer.predict"]
    assert list(trace.steps[-1].inputs) == ["plan"] and "hint_" not in trace.steps[-1].signature.fields
    with context(lm=ScriptedLM(adviser)):
        assert asyncio.run(program.acall(question="q")).answer == "long"


def test_advice_is_only_for_predictors_that_ran() -> None:
    lm = ScriptedLM(adviser)
    with context(lm=lm):
        Refine(Two(), 2, length, threshold=4)(question="q")
    grammar = lm.scripted.requests[2].grammar
    assert grammar is not None and "answer.predict" in grammar.gbnf and "adviser" not in grammar.gbnf


def test_the_adviser_is_no_part_of_what_optimizers_change() -> None:
    program = Refine(Two(), 2, length, threshold=4)
    assert [path for path, _ in program.named_predictors()] == ["module.plan", "module.answer.predict"]
    program.set_lm(ScriptedLM(adviser))
    assert program(question="q").answer == "long"  # the adviser asks the LM of the program, where it has none and the settings have none
