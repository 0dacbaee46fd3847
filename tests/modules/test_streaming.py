"""Streams as DSPy's users write them: listeners, statuses, server-sent events, plain and awaited, also with a cache hit."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

import homefire
from homefire.engine.callbacks import observed
from homefire.streaming import (
    Restarted,
    StatusMessage,
    StatusMessageProvider,
    StreamListener,
    StreamResponse,
    apply_sync_streaming,
    streamify,
    streaming_response,
)


class Two(homefire.Module):
    def __init__(self) -> None:
        self.plan = homefire.Predict("question -> plan, note")
        self.answer = homefire.ChainOfThought("plan -> answer")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        with observed("tool", len, {"text": "abc"}) as call:
            call.give(len("abc"))
        return self.answer(plan=self.plan(question=inputs["question"]).plan)


def says(request: homefire.Request) -> str:
    if "reasoning" in request.messages[0].content:
        return '{"reasoning": "because so", "answer": "the final answer"}'
    return '{"plan": "look it up", "note": "quick"}'


@pytest.fixture
def lm() -> Iterator[homefire.ScriptedLM]:
    made = homefire.ScriptedLM(says)
    with homefire.context(lm=made):
        yield made


def collected(stream: AsyncIterator[Any]) -> list[Any]:
    async def run() -> list[Any]:
        return [item async for item in stream]

    return asyncio.run(run())


def text_of(items: list[Any], name: str) -> str:
    return "".join(item.chunk for item in items if isinstance(item, StreamResponse) and item.signature_field_name == name)


@pytest.mark.parametrize("awaited", [False, True], ids=["called", "awaited"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["for", "async for"])
def test_a_listener_hears_its_output_and_the_prediction_comes_last(lm: homefire.ScriptedLM, awaited: bool, asynchronous: bool) -> None:
    call = streamify(Two(), stream_listeners=[StreamListener("answer")], is_async_program=awaited, async_streaming=asynchronous)
    stream = call(question="q")
    items = collected(stream) if asynchronous else list(stream)
    pieces = [item for item in items if isinstance(item, StreamResponse)]
    assert {piece.predict_name for piece in pieces} == {"answer.predict"}
    assert text_of(items, "answer") == "the final answer"
    assert text_of(items, "plan") == ""
    assert len(pieces) > 2
    assert [piece.is_last_chunk for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert isinstance(items[-1], homefire.Prediction)
    assert items[-1].answer == "the final answer"


def test_without_listeners_every_output_comes(lm: homefire.ScriptedLM) -> None:
    items = collected(streamify(Two())(question="q"))
    assert {name: text_of(items, name) for name in ("plan", "note", "reasoning", "answer")} == {
        "plan": "look it up",
        "note": "quick",
        "reasoning": "because so",
        "answer": "the final answer",
    }
    ends = [item.signature_field_name for item in items if isinstance(item, StreamResponse) and item.is_last_chunk]
    assert ends == ["plan", "note", "reasoning", "answer"]


def test_the_prediction_can_be_left_out(lm: homefire.ScriptedLM) -> None:
    call = streamify(Two(), stream_listeners=[StreamListener("answer")], include_final_prediction_in_output_stream=False)
    assert not any(isinstance(item, homefire.Prediction) for item in collected(call(question="q")))


def test_an_answer_of_the_cache_is_streamed_too(tmp_path: Path) -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(['{"answer": "kept answer"}', '{"answer": "another answer"}'])
    homefire.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    try:
        call = streamify(program, stream_listeners=[StreamListener("answer")])
        runs = [collected(call(question="q")) for _ in range(2)]
    finally:
        homefire.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    assert [text_of(items, "answer") for items in runs] == [items[-1].answer for items in runs]


def test_says_what_tools_do(lm: homefire.ScriptedLM) -> None:
    items = collected(streamify(Two(), stream_listeners=[StreamListener("answer")])(question="q"))
    statuses = [item.message for item in items if isinstance(item, StatusMessage)]
    assert statuses == ["Calling the tool len ...", "The tool has answered."]


def test_a_provider_says_what_it_wants(lm: homefire.ScriptedLM) -> None:
    class Says(StatusMessageProvider):
        def tool_start_status_message(self, instance: Any, inputs: Any) -> str | None:
            return f"measuring {inputs['text']}"

        def tool_end_status_message(self, outputs: Any) -> str | None:
            return f"{outputs} letters"

        def lm_start_status_message(self, instance: Any, inputs: Any) -> str | None:
            return "asking"

        def module_end_status_message(self, outputs: Any) -> str | None:
            return None if outputs is None else f"have {', '.join(outputs)}"

    items = collected(streamify(Two(), Says())(question="q"))
    assert [item.message for item in items if isinstance(item, StatusMessage)] == [
        *("measuring abc", "3 letters", "asking", "have plan, note", "asking"),
        *("have reasoning, answer", "have reasoning, answer", "have reasoning, answer"),
    ]


class Again(homefire.Module):
    def __init__(self) -> None:
        self.ask = homefire.Predict("question -> answer")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        self.ask(question="first")
        return self.ask(question="second")


@pytest.mark.parametrize(("reuse", "heard"), [(False, "one"), (True, "onetwo")], ids=["first call only", "every call"])
def test_a_listener_may_be_used_again(reuse: bool, heard: str) -> None:
    program = Again()
    program.ask.lm = homefire.ScriptedLM(['{"answer": "one"}', '{"answer": "two"}'])
    items = collected(streamify(program, stream_listeners=[StreamListener("answer", allow_reuse=reuse)])())
    assert text_of(items, "answer") == heard
    assert sum(item.is_last_chunk for item in items if isinstance(item, StreamResponse)) == 1 + reuse


def no_b(word: str) -> str:
    if "b" in word:
        raise ValueError("there is a b in it")
    return word


class Word(homefire.Signature):
    text: str = homefire.InputField()
    word: Annotated[str, AfterValidator(no_b)] = homefire.OutputField()


def test_what_is_void_is_said_to_be() -> None:
    program = homefire.Predict(Word)
    program.lm = homefire.ScriptedLM(['{"word": "abba"}', *['{"word": "otto"}'] * 4])
    items = collected(streamify(program, stream_listeners=[StreamListener("word")])(text="t"))
    void = next(index for index, item in enumerate(items) if isinstance(item, Restarted))
    assert text_of(items[:void], "word") == "abba"
    assert text_of(items[void:], "word") == "otto"
    assert items[-1].word == "otto"


@pytest.mark.parametrize(
    ("listener", "said"),
    [
        (StreamListener("nothing"), "No predictor has the output 'nothing'"),
        (StreamListener("plan", predict_name="answer.missing"), "no predictor 'answer.missing'"),
    ],
    ids=["output", "predictor"],
)
def test_a_listener_for_nothing_is_refused(listener: StreamListener, said: str) -> None:
    with pytest.raises(homefire.ConfigError, match=said):
        streamify(Two(), stream_listeners=[listener])


def test_an_output_of_several_predictors_needs_a_name() -> None:
    class Both(homefire.Module):
        def __init__(self) -> None:
            self.a = homefire.Predict("question -> answer")
            self.b = homefire.Predict("answer -> answer2, answer3")
            self.c = homefire.Predict("question -> answer")

        def forward(self, **inputs: Any) -> homefire.Prediction:
            self.a(**inputs)
            return self.c(**inputs)

    program = Both()
    program.set_lm(homefire.ScriptedLM(['{"answer": "from a"}', '{"answer": "from c"}'] * 2))
    with pytest.raises(homefire.ConfigError, match=r"a, c all have.*predict_name='a'"):
        streamify(program, stream_listeners=[StreamListener("answer")])
    for listener in (StreamListener("answer", predict=program.c), StreamListener("answer", predict_name="c")):
        assert text_of(collected(streamify(program, stream_listeners=[listener])(question="q")), "answer") == "from c"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["for", "async for"])
def test_a_failure_of_the_program_comes_out(asynchronous: bool) -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM([homefire.EngineError("the engine broke")])
    stream = streamify(program, async_streaming=asynchronous)(question="q")
    with pytest.raises(homefire.EngineError, match="the engine broke"):
        collected(stream) if asynchronous else list(stream)


def test_functions_are_programs_too(lm: homefire.ScriptedLM) -> None:
    program = Two()

    async def awaited(question: str) -> str:
        return str((await program.acall(question=question)).answer)

    def plain(question: str) -> str:
        return str(program(question=question).answer)

    for function in (awaited, plain):
        items = collected(streamify(function, stream_listeners=[StreamListener("answer")])("q"))
        assert text_of(items, "answer") == items[-1] == "the final answer"


def test_server_sent_events(lm: homefire.ScriptedLM) -> None:
    events = collected(streaming_response(streamify(Two(), stream_listeners=[StreamListener("answer")])(question="q")))
    assert events[-1] == "data: [DONE]\n\n"
    assert all(event.startswith("data: ") and event.endswith("\n\n") for event in events)
    data = [json.loads(event[len("data: ") :]) for event in events[:-1]]
    assert {"status": "The tool has answered."} in data
    assert "".join(one["chunk"]["chunk"] for one in data if "chunk" in one) == "the final answer"
    assert data[-1] == {"prediction": {"reasoning": "because so", "answer": "the final answer"}}


def test_an_asynchronous_stream_in_a_plain_loop_ends_with_the_loop() -> None:
    closed = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(1000):
                yield number
                await asyncio.sleep(0)
        finally:
            closed.set()

    for number in apply_sync_streaming(numbers()):
        if number == 3:
            break
    assert closed.wait(10)

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(apply_sync_streaming(broken()))
