"""Predict and ChainOfThought on the scripted engine: the way of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from homefire.engine.callbacks import BaseCallback
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError, ContextTooLong, InputError, ParseError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example
from homefire.modules.predict import Predict
from homefire.modules.settings import configure, context
from homefire.modules.trace import record, supplied_by


def test_outputs_have_their_types() -> None:
    with context(lm=ScriptedLM(['{"answer": 42, "sure": true}'])):
        prediction = Predict("question -> answer: int, sure: bool")(question="?")
    assert (prediction.answer, prediction.sure, prediction.cut_off) == (42, True, False)


def test_the_request_carries_grammar_sampling_and_demos() -> None:
    lm = ScriptedLM(['{"answer": 1}'])
    predict = Predict("question -> answer: int", temperature=0.5)
    predict.demos = [Example(question="one?", answer=1)]
    predict.lm = lm
    predict(question="two?", config={"max_tokens": 27})
    request = lm.scripted.requests[0]
    assert request.grammar is not None and "[0-9]" in request.grammar.gbnf
    assert (request.sampling.temperature, request.sampling.max_tokens) == (0.5, 27)
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "user"]


def test_an_answer_that_is_cut_off_is_closed_by_one_call() -> None:
    def script(request: Request) -> str:
        return ' "no"}' if request.prefill else '{"reasoning": "' + "because " * 100

    lm = ScriptedLM(script)
    with context(lm=lm):
        prediction = Predict("question -> reasoning: str, answer: Literal['yes', 'no']", max_tokens=40)(question="?")
    assert prediction.cut_off
    assert prediction.answer == "no"
    assert prediction.reasoning.startswith("because because")
    first, second = lm.scripted.requests
    assert second.messages == first.messages
    assert bytes(second.generated).decode() == ('{"reasoning": "' + "because " * 100)[:40]
    assert second.prefill == '", "answer":'
    assert second.grammar != first.grammar


def test_nothing_is_called_when_closing_is_enough() -> None:
    lm = ScriptedLM(lambda request: '{"answer": "' + "long " * 100)
    with context(lm=lm):
        prediction = Predict("question -> answer", max_tokens=30)(question="?")
    assert prediction.cut_off and prediction.answer.startswith("long long")
    assert len(lm.scripted.requests) == 1


def test_n_predictions_come_from_one_request() -> None:
    lm = ScriptedLM(['{"answer": 1}', '{"answer": 2}'])
    with context(lm=lm):
        prediction = Predict("question -> answer: int", n=2, temperature=1.0)(question="?")
    assert [one.answer for one in prediction.completions] == [1, 2]
    assert len(lm.scripted.requests) == 1


def test_an_engine_without_grammar_can_fail_with_the_text() -> None:
    with context(lm=ScriptedLM(["I think it is 4."])), pytest.raises(ParseError, match="I think it is 4"):
        Predict("question -> answer: int")(question="?")


def test_a_prompt_longer_than_the_context_is_an_error_with_counts() -> None:
    with context(lm=ScriptedLM([], context=300)), pytest.raises(ContextTooLong, match="context of 300 tokens"):
        Predict("question -> answer")(question="x" * 400)


def test_inputs_are_checked_before_anything_is_sent() -> None:
    lm = ScriptedLM(['{"answer": "a"}'])
    predict = Predict("question, context -> answer")
    predict.lm = lm
    with pytest.raises(InputError, match="The input context is missing"):
        predict(question="?")
    with pytest.raises(InputError, match="by name"):
        predict("?")
    with pytest.warns(UserWarning, match="colour"):
        predict(question="?", context="", colour="red")


def test_no_lm_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"configure\(lm="):
        Predict("a -> b")(a="x")
    with pytest.raises(ConfigError, match=r"LM\('name'\)"):
        configure(lm="name")  # type: ignore[arg-type]


def test_chain_of_thought_reasons_first() -> None:
    with context(lm=ScriptedLM(['{"reasoning": "2 and 2", "answer": 4}'])):
        prediction = ChainOfThought("question -> answer: int")(question="2+2?")
    assert list(prediction) == ["reasoning", "answer"]


def test_steps_are_recorded_under_their_path() -> None:
    program = ChainOfThought("question -> answer: int")
    with context(lm=ScriptedLM(['{"reasoning": "r", "answer": 4}'])), record() as trace:
        program(question="2+2?")
    (step,) = trace.steps
    assert step.path == "predict"
    assert step.inputs == {"question": "2+2?"}
    assert step.prediction.answer == 4
    assert step.messages[-1].content == "question: 2+2?"
    assert step.completions[0].text == '{"reasoning": "r", "answer": 4}'


def test_labels_answer_where_they_cover_the_outputs() -> None:
    lm = ScriptedLM(['{"reasoning": "r", "mood": "bad"}'])
    with context(lm=lm), record() as trace, supplied_by({"mood": "good"}):
        assert Predict("text -> mood: Literal['good', 'bad']")(text="x").mood == "good"
        assert ChainOfThought("text -> mood: Literal['good', 'bad']")(text="x").mood == "bad"
    assert len(lm.scripted.requests) == 1
    assert [len(step.completions) for step in trace.steps] == [0, 1]


def test_batch_keeps_the_order() -> None:
    def script(request: Request) -> str:
        return f'{{"answer": {request.messages[-1].content.removeprefix("q: ")}}}'

    with context(lm=ScriptedLM(script)):
        predictions = Predict("q -> answer: int").batch([Example(q=str(i)).with_inputs("q") for i in range(20)])
    assert [prediction.answer for prediction in predictions] == list(range(20))


@pytest.mark.parametrize("kind", [Predict, ChainOfThought])
def test_callbacks_of_one_module(kind: type[Predict] | type[ChainOfThought]) -> None:
    heard: list[object] = []

    class Listener(BaseCallback):
        def on_module_start(self, call_id: str, instance: object, inputs: Mapping[str, Any]) -> None:
            heard.append(instance)

    program, other = kind("question -> answer: int", callbacks=[Listener()]), Predict("question -> answer: int")
    with context(lm=ScriptedLM(lambda request: '{"reasoning": "2", "answer": 4}' if kind is ChainOfThought else '{"answer": 4}')):
        program(question="Two and two?")
    assert heard == [program]
    with pytest.raises(ConfigError, match="is no callback"):
        kind("question -> answer: int", callbacks=["loud"])  # type: ignore[list-item]
    assert not other.callbacks
