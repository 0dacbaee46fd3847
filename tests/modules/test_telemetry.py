"""OpenTelemetry spans: OpenInference's names, nested as the calls are, errors, and no content where it is not wanted."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import homefire
from homefire.engine.callbacks import observed
from homefire.modules.telemetry import OpenTelemetry, instrument, uninstrument


class Spans:
    """Spans that have ended, by name."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.ended if span.name == name]
        return found


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


class Two(homefire.Module):
    def __init__(self) -> None:
        self.think = homefire.ChainOfThought("question -> answer: int")

    def forward(self, **inputs: Any) -> homefire.Prediction:
        with observed("tool", len, {"text": "abc"}) as call:
            call.give(len("abc"))
        return self.think(**inputs)


def says(request: homefire.Request) -> str:
    return '{"reasoning": "so", "answer": 4}'


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_call_is_a_tree_of_spans(spans: Spans) -> None:
    program = Two()
    with homefire.context(lm=homefire.ScriptedLM(says), callbacks=[OpenTelemetry(spans.provider)]):
        program(question="How many?")
    tree = [(span.name, next((up.name for up in spans.ended if id_of(up) == parent_of(span)), None)) for span in spans.ended]
    assert tree == [("len", "Two"), ("LM", "Predict"), ("Predict", "ChainOfThought"), ("ChainOfThought", "Two"), ("Two", None)]
    kinds = {span.name: attributes(span)["openinference.span.kind"] for span in spans.ended}
    assert kinds == {"len": "TOOL", "LM": "LLM", "Predict": "CHAIN", "ChainOfThought": "CHAIN", "Two": "CHAIN"}
    assert {span.status.status_code.name for span in spans.ended} == {"OK"}


def test_a_model_call_has_the_names_of_open_inference(spans: Spans) -> None:
    program = homefire.Predict("question -> answer: int", temperature=0.5)
    program.lm = homefire.ScriptedLM(['{"answer": 42}'])
    with homefire.context(callbacks=[OpenTelemetry(spans.provider)]):
        program(question="6 x 7?")
    found = attributes(spans.named("LM"))
    assert found["llm.model_name"] == "scripted"
    assert json.loads(found["llm.invocation_parameters"])["temperature"] == 0.5
    assert found["llm.input_messages.0.message.role"] == "system"
    assert "6 x 7?" in found["llm.input_messages.1.message.content"]
    assert found["llm.output_messages.0.message.role"] == "assistant"
    assert found["llm.output_messages.0.message.content"] == '{"answer": 42}'
    assert found["llm.token_count.completion"] == len('{"answer": 42}')
    assert found["llm.token_count.total"] == found["llm.token_count.prompt"] + found["llm.token_count.completion"]
    assert found["output.value"] == '{"answer": 42}'
    chain = attributes(spans.named("Predict"))
    assert json.loads(chain["input.value"]) == {"question": "6 x 7?"}
    assert json.loads(chain["output.value"]) == {"answer": 42}
    assert chain["input.mime_type"] == chain["output.mime_type"] == "application/json"


def test_code_and_the_tools_that_it_calls_are_spans(spans: Spans) -> None:
    def double(n: int) -> int:
        return 2 * n

    acts = ['{"generated_code": "double(n)", "finished": true}', '{"reasoning": "so", "answer": 4}']
    with homefire.context(lm=homefire.ScriptedLM(acts), callbacks=[OpenTelemetry(spans.provider)]):
        homefire.CodeAct("n: int -> answer: int", tools=[double])(n=2)
    code, tool = spans.named("PythonInterpreter"), spans.named("double")
    assert (parent_of(tool), parent_of(code)) == (id_of(code), id_of(spans.named("CodeAct")))
    assert json.loads(attributes(code)["input.value"]) == {"code": "double(n)", "variables": {"n": 2}}
    assert (attributes(code)["openinference.span.kind"], attributes(code)["output.value"]) == ("TOOL", "4")


def test_a_tool_has_its_name_and_its_result(spans: Spans) -> None:
    with homefire.context(lm=homefire.ScriptedLM(says), callbacks=[OpenTelemetry(spans.provider)]):
        Two()(question="q")
    found = attributes(spans.named("len"))
    assert (found["tool.name"], json.loads(found["tool.parameters"]), found["output.value"]) == ("len", {"text": "abc"}, "3")


def test_a_module_that_gives_passages_is_a_retriever(spans: Spans) -> None:
    class Look(homefire.Module):
        def forward(self, **inputs: Any) -> homefire.Prediction:
            return homefire.Prediction(passages=["plain", homefire.Passage(id="p1", text="kept", source="s")])

    with homefire.context(callbacks=[OpenTelemetry(spans.provider)]):
        Look()(query="q")
    found = attributes(spans.named("Look"))
    assert found["openinference.span.kind"] == "RETRIEVER"
    assert found["retrieval.documents.0.document.content"] == "plain"
    assert (found["retrieval.documents.1.document.id"], found["retrieval.documents.1.document.content"]) == ("p1", "kept")


def test_threads_and_tasks_stay_under_the_call_that_started_them(spans: Spans) -> None:
    class Wide(homefire.Module):
        def __init__(self) -> None:
            self.ask = homefire.Predict("question -> answer: int")

        def forward(self, **inputs: Any) -> homefire.Prediction:
            self.ask.batch([homefire.Example(question=str(n)).with_inputs("question") for n in range(4)], threads=4)
            return homefire.Prediction()

        async def aforward(self, **inputs: Any) -> homefire.Prediction:
            await asyncio.gather(*(self.ask.acall(question=str(n)) for n in range(4)))
            return homefire.Prediction()

    with homefire.context(lm=homefire.ScriptedLM(lambda request: '{"answer": 1}'), callbacks=[OpenTelemetry(spans.provider)]):
        for run in (lambda: Wide()(), lambda: asyncio.run(Wide().acall())):
            spans.exporter.clear()
            run()
            wide = spans.named("Wide")
            predicts = [span for span in spans.ended if span.name == "Predict"]
            assert [parent_of(span) for span in predicts] == [id_of(wide)] * 4
            assert {parent_of(span) for span in spans.ended if span.name == "LM"} == {id_of(span) for span in predicts}


def test_two_programs_at_once_are_two_traces(spans: Spans) -> None:
    program = homefire.Predict("question -> answer: int")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": 1}')
    with homefire.context(callbacks=[OpenTelemetry(spans.provider)]):
        threads = [threading.Thread(target=program, kwargs={"question": str(number)}) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({span.context.trace_id for span in spans.ended if span.context is not None}) == 6


def test_a_failure_is_in_every_span_that_it_went_through(spans: Spans) -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM([homefire.EngineError("the engine broke")])
    with homefire.context(callbacks=[OpenTelemetry(spans.provider)]), pytest.raises(homefire.EngineError):
        program(question="q")
    assert [(span.name, span.status.status_code.name) for span in spans.ended] == [("LM", "ERROR"), ("Predict", "ERROR")]
    assert spans.named("Predict").status.description == "EngineError: the engine broke"
    assert [event.name for event in spans.named("LM").events] == ["exception"]


def test_spans_lie_under_and_around_the_users_own(spans: Spans) -> None:
    tracer = spans.provider.get_tracer("mine")

    class WithOwn(homefire.Module):
        def forward(self, **inputs: Any) -> homefire.Prediction:
            with tracer.start_as_current_span("inner"):
                return homefire.Prediction()

    with homefire.context(callbacks=[OpenTelemetry(spans.provider)]), tracer.start_as_current_span("outer"):
        WithOwn()()
        with tracer.start_as_current_span("after"):
            pass
    assert parent_of(spans.named("inner")) == id_of(spans.named("WithOwn"))
    assert parent_of(spans.named("WithOwn")) == id_of(spans.named("outer"))
    assert parent_of(spans.named("after")) == id_of(spans.named("outer"))


def test_without_content_nothing_that_was_said_is_in_a_span(spans: Spans) -> None:
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(['{"answer": "my secret"}', homefire.EngineError("on my secret")])
    with homefire.context(callbacks=[OpenTelemetry(spans.provider, content=False)]):
        program(question="a secret?")
        with pytest.raises(homefire.EngineError):
            program(question="a secret?")
    assert "secret" not in " ".join(span.to_json() for span in spans.ended)
    assert attributes(spans.ended[0])["llm.token_count.completion"] == len('{"answer": "my secret"}')
    assert spans.ended[-1].status.description == "EngineError"


def test_instruments_the_process_once(spans: Spans) -> None:
    program = homefire.Predict("question -> answer: int")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": 1}')
    other = homefire.BaseCallback()
    homefire.configure(callbacks=[other])
    try:
        instrument(spans.provider)
        instrument(spans.provider)
        program(question="q")
        assert [span.name for span in spans.ended] == ["LM", "Predict"]
        uninstrument()
        assert homefire.settings.callbacks == (other,)
        program(question="q")
        assert len(spans.ended) == 2
    finally:
        homefire.configure(callbacks=None)


def test_without_a_provider_nothing_happens() -> None:
    program = homefire.Predict("question -> answer: int")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": 1}')
    with homefire.context(callbacks=[OpenTelemetry()]):
        assert program(question="q").answer == 1


def test_says_which_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(homefire.MissingExtra, match=r"homefire\[otel\]"):
        OpenTelemetry()
