"""Assertions: what fails is asked again with what was wrong, what was settled is not asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.assertions import Assert, AssertionFailed, Suggest, assert_transform_module, backtrack_handler
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.trace import record

Check = Callable[[object, str], bool]


class Search(Module):
    """Makes a query, then answers; the query must be short."""

    def __init__(self, check: Check = Assert) -> None:
        self.query = ChainOfThought("question -> query")
        self.answer = Predict("question, query -> answer")
        self.check, self.runs = check, 0

    def forward(self, question: str) -> Prediction:
        self.runs += 1
        query = self.query(question=question).query
        answer = self.answer(question=question, query=query)
        Assert(len(query) <= 5, "The query has at most 5 letters.", target_module=self.query)
        self.check(answer.answer.isupper(), "Answer in capitals.")
        return answer


def scripted(queries: list[str], answers: list[str]) -> ScriptedLM:
    def script(request: Request) -> str:
        if "reasoning" in request.messages[0].content:
            return json.dumps({"reasoning": "r", "query": queries.pop(0)})
        return json.dumps({"answer": answers.pop(0)})

    return ScriptedLM(script)


def asked(lm: ScriptedLM) -> list[str]:
    return [request.messages[-1].content for request in lm.scripted.requests]


def test_the_predictor_at_fault_is_asked_again_and_no_other() -> None:
    lm = scripted(["short"], ["no", "YES"])
    program = Search()
    with context(lm=lm):
        assert program(question="q").answer == "YES"
    first, second, third = asked(lm)
    assert program.runs == 2
    assert "feedback_" not in first + second
    assert 'past_output_: {"answer": "no"}' in third and "feedback_: Answer in capitals." in third


def test_an_earlier_predictor_can_be_the_target() -> None:
    lm = scripted(["much too long", "short"], ["A", "B"])
    with context(lm=lm):
        assert Search()(question="q").answer == "B"
    texts = asked(lm)
    assert len(texts) == 4 and "at most 5 letters" in texts[2] and "query: short" in texts[3]


def test_an_unchanged_later_call_is_not_made_again() -> None:
    lm = scripted(["short"], ["no", "no", "YES"])
    with context(lm=lm):
        Search()(question="q")
    assert len(asked(lm)) == 4  # one query, three answers


def test_after_two_backtracks_an_assertion_fails_with_all_answers() -> None:
    lm = scripted(["short"], ["a", "b", "c"])
    with context(lm=lm), pytest.raises(AssertionFailed, match="Answer in capitals") as caught:
        Search()(question="q")
    assert caught.value.past == ('{"answer": "a"}', '{"answer": "b"}', '{"answer": "c"}')
    assert isinstance(caught.value, AssertionError)


def test_a_suggestion_warns_and_goes_on() -> None:
    lm = scripted(["short"], ["a", "b", "c"])
    with context(lm=lm), pytest.warns(UserWarning, match="suggestion does not hold after 2 further attempts"):
        assert Search(Suggest)(question="q").answer == "c"


def test_the_number_of_backtracks_is_the_modules() -> None:
    lm = scripted(["short"], ["a", "B"])
    program = assert_transform_module(Search(), partial(backtrack_handler, max_backtracks=0))
    with context(lm=lm), pytest.raises(AssertionFailed):
        program(question="q")
    with pytest.raises(InputError, match="partial"):
        assert_transform_module(Search(), print)


def test_messages_of_several_failures_are_all_told() -> None:
    class Strict(Module):
        def __init__(self) -> None:
            self.write = Predict("topic -> text")

        def forward(self, topic: str) -> Prediction:
            written = self.write(topic=topic)
            Assert(len(written.text) > 2, "More than two letters.")
            Assert(written.text.endswith("."), "End with a dot.")
            return written

    lm = ScriptedLM(['{"text": "a"}', '{"text": "abc"}', '{"text": "abc."}'])
    with context(lm=lm):
        assert Strict()(topic="t").text == "abc."
    last = asked(lm)[2]
    assert "More than two letters.\nEnd with a dot." in last and 'past_output_: {"text": "abc"}' in last and '"a"' not in last


def test_an_assertion_over_a_module_reaches_into_it_and_an_inner_one_stays_inside() -> None:
    class Outer(Module):
        def __init__(self) -> None:
            self.inner = Search()
            self.before = Predict("question -> note")

        def forward(self, question: str) -> Prediction:
            note = self.before(question=question).note
            found = self.inner(question=question)
            Assert(found.answer != "FIRST", "Not the first one.", target_module=self.inner)
            return Prediction(answer=found.answer, note=note)

    def script(request: Request) -> str:
        system = request.messages[0].content
        if "note" in system:
            return '{"note": "n"}'
        return '{"reasoning": "r", "query": "short"}' if "query" in system.split("\n")[0].split("give")[1] else answers.pop(0)

    answers = ['{"answer": "low"}', '{"answer": "FIRST"}', '{"answer": "SECOND"}']
    lm = ScriptedLM(script)
    with context(lm=lm):
        assert Outer()(question="q").answer == "SECOND"
    texts = asked(lm)
    assert len(texts) == 5  # note, query, then three answers: the inner correction is not lost when the outer forward runs again
    assert "Not the first one." in texts[4] and "capitals" not in texts[4]


def test_equal_calls_keep_their_own_answers() -> None:
    class Twice(Module):
        def __init__(self) -> None:
            self.draw = Predict("n -> word", temperature=1.0)
            self.join = Predict("words: list[str] -> text")

        def forward(self, n: str) -> Prediction:
            words = [self.draw(n=n).word for _ in range(3)]
            joined = self.join(words=words)
            Assert(joined.text == "done", "Say done.")
            return Prediction(words=words, text=joined.text)

    drawn = iter("abc")
    said = iter(["no", "done"])
    lm = ScriptedLM(lambda request: f'{{"text": "{next(said)}"}}' if "words" in asked_of(request) else f'{{"word": "{next(drawn)}"}}')
    with context(lm=lm):
        assert Twice()(n="1").words == ["a", "b", "c"]
    assert len(lm.scripted.requests) == 5


def asked_of(request: Request) -> str:
    return request.messages[-1].content


def test_what_a_program_changes_in_an_answer_is_not_what_is_given_again() -> None:
    class Changes(Module):
        def __init__(self) -> None:
            self.first = Predict("a -> b")
            self.second = Predict("b -> c")

        def forward(self, a: str) -> Prediction:
            first = self.first(a=a)
            first.b = first.b + "!"
            second = self.second(b=first.b)
            Assert(second.c == "yes", "Say yes.")
            return first

    lm = ScriptedLM(['{"b": "x"}', '{"c": "no"}', '{"c": "yes"}'])
    with context(lm=lm):
        assert Changes()(a="1").b == "x!"


def test_only_good_steps_are_in_the_trace() -> None:
    lm = scripted(["much too long", "short"], ["A", "low", "B"])
    with context(lm=lm), record() as trace:
        Search()(question="q")
    assert [(step.path, step.prediction.toDict()) for step in trace.steps] == [
        ("query.predict", {"reasoning": "r", "query": "short"}),
        ("answer", {"answer": "B"}),
    ]
    assert [step.error is not None for step in trace.failures] == [True] * 3
    assert list(trace.steps[0].inputs) == ["question"]


def test_without_a_call_before_there_is_nothing_to_ask_again() -> None:
    with pytest.raises(AssertionFailed, match="no call of a predictor came before"):
        Assert(False, "Never.")
    with pytest.warns(UserWarning, match="Never"):
        assert not Suggest([], "Never.")
    assert Assert([1]) is True


def test_except_exception_in_a_program_does_not_swallow_a_backtrack() -> None:
    class Careful(Module):
        def __init__(self) -> None:
            self.write = Predict("a -> b")

        def forward(self, a: str) -> Prediction:
            try:
                written = self.write(a=a)
                Assert(written.b == "yes", "Say yes.")
            except Exception as error:
                return Prediction(b=f"caught {type(error).__name__}")
            return written

    with context(lm=ScriptedLM(['{"b": "no"}', '{"b": "yes"}'])):
        assert Careful()(a="x").b == "yes"


class Async(Search):
    async def aforward(self, question: str) -> Prediction:  # type: ignore[override]
        query = (await self.query.acall(question=question)).query
        answer = await self.answer.acall(question=question, query=query)
        Assert(answer.answer == question.upper(), "Answer with the question in capitals.")
        return answer


def echoing(request: Request) -> str:
    """Answers wrongly at first, rightly once it is told what was wrong."""
    last = asked_of(request)
    question = last.split("question: ")[1].split("\n")[0]
    if "query: " not in last:
        return json.dumps({"reasoning": "r", "query": "short"})
    return json.dumps({"answer": question.upper() if "feedback_" in last else question})


def test_tasks_and_threads_backtrack_each_for_itself() -> None:
    names = [f"name {letter}" for letter in "abcdefgh"]

    async def together(program: Any) -> list[str]:
        return [one.answer for one in await asyncio.gather(*(program.acall(question=name) for name in names))]

    lm = ScriptedLM(echoing)
    with context(lm=lm):
        assert asyncio.run(together(Async())) == [name.upper() for name in names]
        assert len(lm.scripted.requests) == 24
        program = Search()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda name: program(question=name).answer, names))
    assert found == [name.upper() for name in names]
    assert len(lm.scripted.requests) == 48
