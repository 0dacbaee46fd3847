"""Reasoning as an output: asked for where a model does not think by itself, and otherwise what it thought."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from homefire.engine.lm import LM
from homefire.engine.native_thinking import model_thinks
from homefire.engine.request import Completion, Request
from homefire.engine.scripted_engine import Line, ScriptedLM
from homefire.modules.call import answers
from homefire.modules.chat_format import ChatFormat
from homefire.modules.example import Example, Prediction
from homefire.modules.format import Format
from homefire.modules.json_format import JsonFormat
from homefire.modules.predict import Predict
from homefire.modules.reasoning import NativeReasoning, Reasoning, fitted
from homefire.modules.settings import context
from homefire.modules.signature import Signature
from homefire.modules.xml_format import XmlFormat

FORMATS = [JsonFormat(), ChatFormat(), XmlFormat()]
every_format = pytest.mark.parametrize("form", FORMATS, ids=["json", "chat", "xml"])
SIGNATURE = Signature("question -> reasoning: Reasoning, total: int, unit: str")
BARE = Signature("question -> total: int, unit: str")
DEMO = {"question": "One and one?", "reasoning": "It is two.", "total": 2, "unit": "m"}


def said(text: str, thinking: str = "", finish: Any = "stop") -> Completion:
    return Completion(text=text, token_ids=(), finish_reason=finish, prompt_tokens=1, thinking=thinking, completion_tokens=5)


def ask(lm: LM, form: Format, signature: type[Signature] = SIGNATURE, **sampling: Any) -> list[Prediction]:
    """One call in the format that fits the model."""
    form = fitted(form, signature, lm)
    messages, grammar = form.render(signature, [DEMO], {"question": "Two and two?"}), form.grammar(signature)
    request = Request(messages=messages, sampling=lm.sampling(**sampling), grammar=grammar, reserve=form.reserve(signature))
    batches = answers(lm, form, signature, request)
    batch = next(batches)
    while True:
        try:
            batch = batches.send((batch.model or lm).generate(batch.requests, listener=batch.listener))
        except StopIteration as ended:
            return [answer.made for answer in ended.value]


def thinker(script: Sequence[Line]) -> tuple[ScriptedLM, LM]:
    lm = ScriptedLM(script)
    return lm, lm.copy(thinking=True)


@every_format
def test_a_model_that_does_not_think_is_asked_for_it(form: Format) -> None:
    outputs = {"reasoning": "Two and two.", "total": 4, "unit": "km"}
    lm = ScriptedLM([form.answer(SIGNATURE, outputs)])
    with context(lm=lm, format=form):
        prediction = Predict(SIGNATURE)(question="Two and two?")
    assert prediction.toDict() == outputs
    assert isinstance(prediction.reasoning, Reasoning)
    assert list(prediction) == ["reasoning", "total", "unit"]
    (request,) = lm.scripted.requests
    assert "reasoning" in request.messages[0].content
    assert request.grammar == form.grammar(SIGNATURE)
    assert request.thinking is None


@every_format
def test_a_model_that_thinks_is_not_and_its_thoughts_are_the_value(form: Format) -> None:
    scripted, lm = thinker([said(form.answer(BARE, {"total": 4, "unit": "km"}), "Two and two, I think.")])
    (prediction,) = ask(lm, form)
    assert prediction.toDict() == {"reasoning": "Two and two, I think.", "total": 4, "unit": "km"}
    assert isinstance(prediction.reasoning, Reasoning)
    assert list(prediction) == ["reasoning", "total", "unit"]
    (request,) = scripted.scripted.requests
    assert request.thinking is True
    assert request.grammar == form.grammar(BARE)
    assert request.messages == form.render(BARE, [DEMO], {"question": "Two and two?"})
    assert "reasoning" not in " ".join(message.content for message in request.messages)


def test_every_sample_has_its_own_thoughts_also_where_it_was_closed() -> None:
    form = JsonFormat()
    script = [said('{"total": 1, "unit": "a"}', "one"), said('{"total": 2, "un', "two", "length"), said(' "b"}')]
    _, lm = thinker(script)
    found = ask(lm, form, n=2, temperature=1.0)
    assert [(one.reasoning, one.total, one.unit) for one in found] == [("one", 1, "a"), ("two", 2, "b")]
    assert [one.cut_off for one in found] == [False, True]


def test_it_stays_an_ordinary_output_where_it_is_the_only_one() -> None:
    signature = Signature("question -> reasoning: Reasoning")
    scripted, lm = thinker([said('{"reasoning": "asked for"}', "thought")])
    (prediction,) = ask(lm, JsonFormat(), signature)
    assert prediction.reasoning == "asked for"
    assert "reasoning" in scripted.scripted.requests[0].messages[0].content


def test_a_model_that_must_not_think_is_asked_for_it() -> None:
    lm = ScriptedLM([])
    form = JsonFormat()
    assert fitted(form, SIGNATURE, lm) is fitted(form, SIGNATURE, lm.copy(thinking=False)) is form
    assert fitted(form, BARE, lm.copy(thinking=True)) is form
    assert isinstance(fitted(form, SIGNATURE, lm.copy(thinking=True)), NativeReasoning)


@pytest.mark.parametrize(
    ("files", "thinks"),
    [
        ({"chat_template.jinja": "{{ m }}<think>{{ t }}</think>"}, True),
        ({"chat_template.jinja": "{{ m }}"}, False),
        ({"tokenizer_config.json": {"chat_template": "[THINK]x[/THINK]"}}, True),
        ({"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "</think>"}]}}, True),
        ({"tokenizer_config.json": {"chat_template": [{"name": "tool_use", "template": "</think>"}]}}, False),
        ({"tokenizer_config.json": {}}, False),
        ({}, False),
    ],
)
def test_a_model_s_template_tells_whether_it_thinks(tmp_path: Path, files: dict[str, Any], thinks: bool) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert model_thinks(tmp_path) is thinks


def test_the_small_model_does_not_think(smollm2: Path) -> None:
    assert model_thinks(smollm2) is False
    assert fitted(FORMATS[0], SIGNATURE, LM(f"vllm/{smollm2}")) is FORMATS[0]
    lm = LM(str(smollm2))
    assert (lm.supports_reasoning, lm.copy(thinking=False).supports_reasoning) == (False, False)
    assert lm.supports_function_calling and lm.supports_response_schema


def test_it_is_a_str_wherever_it_goes() -> None:
    assert Reasoning(content="so").content == "so"
    value = Reasoning("Two and two.")
    assert (value.content, type(value.content), str(value), f"{value}") == ("Two and two.", str, "Two and two.", "Two and two.")
    assert value + "!" == "Two and two.!"
    for again in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), TypeAdapter(Reasoning).validate_json(json.dumps(value))):
        assert (again, type(again)) == (value, Reasoning)
    assert TypeAdapter(Reasoning).dump_json(value) == b'"Two and two."'
    predict = Predict(SIGNATURE)
    predict.demos = [Example(**{**DEMO, "reasoning": value})]
    assert json.dumps(predict.dump_state())


def test_predict_takes_the_thoughts_for_the_field() -> None:
    thought = Completion(text='{"answer": 4}', token_ids=(), finish_reason="stop", prompt_tokens=1, thinking="hm", completion_tokens=2)
    program = Predict(Signature("question -> reasoning: Reasoning, answer: int"))
    program.lm = ScriptedLM(lambda request: thought).copy(thinking=True)
    prediction = program(question="Two and two?")
    assert (prediction.reasoning, prediction.answer, prediction.thinking) == ("hm", 4, "hm")
    assert asyncio.run(program.acall(question="Two and two?")).reasoning == "hm"
