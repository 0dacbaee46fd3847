"""Answers in two steps: free text from one model, typed outputs from another that reads it."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest

from homefire.engine.lm import LM
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError, InputError
from homefire.modules.call import Batch, answers
from homefire.modules.chat_format import ChatFormat
from homefire.modules.example import Prediction
from homefire.modules.field_stream import FieldDelta
from homefire.modules.format import Format
from homefire.modules.history import History
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.two_step_format import TwoStepAdapter, TwoStepFormat


class Mood(Signature):
    """How does it sound?"""

    text: str = InputField()
    history: History | None = InputField()
    mood: Literal["good", "bad"] = OutputField(desc="of the writer")
    stars: int = OutputField(ge=1, le=5)


DEMO = {"text": "Lovely.", "mood": "good", "stars": 5}


def ask(lm: LM, form: Format, *, demos: Any = (), **sampling: Any) -> tuple[list[Prediction], list[Batch]]:
    inputs = {"text": "Not bad.", "history": History(messages=[{"text": "Awful.", "mood": "bad", "stars": 1}])}
    messages = form.render(Mood, demos, inputs)
    request = Request(messages=messages, sampling=lm.sampling(**sampling), grammar=form.grammar(Mood), reserve=form.reserve(Mood))
    steps, batches = [], answers(lm, form, Mood, request)
    batch = next(batches)
    while True:
        steps.append(batch)
        try:
            batch = batches.send((batch.model or lm).generate(batch.requests))
        except StopIteration as ended:
            return [answer.made for answer in ended.value], steps


def test_the_first_model_writes_freely_and_the_second_finds_the_outputs() -> None:
    lm, reader = ScriptedLM(["It is rather good, four stars."]), ScriptedLM(['{"mood": "good", "stars": 4}'])
    (prediction,), _ = ask(lm, TwoStepFormat(reader), demos=[DEMO])
    assert prediction.toDict() == {"mood": "good", "stars": 4}
    (first,), (second,) = lm.scripted.requests, reader.scripted.requests
    assert first.grammar is None
    assert [message.content for message in first.messages] == [
        'How does it sound?\n\nAnswer freely, and say:\n- mood: one of "good", "bad", of the writer\n- stars: whole number from 1 to 5',
        "text: Lovely.",
        "mood: good\nstars: 5",
        "text: Awful.",
        "mood: bad\nstars: 1",
        "text: Not bad.",
    ]
    assert second.grammar is not None
    assert second.messages[-1].content == "text: It is rather good, four stars."
    assert "Copy mood, stars from the text." in second.messages[0].content
    assert second.grammar == TwoStepFormat(reader).form.grammar(Mood)


def test_every_sample_is_read_by_the_other_model_and_asked_for_again_there() -> None:
    lm = ScriptedLM(["good 4", "bad 2"])
    reader = ScriptedLM(['{"mood": "good", "stars": 4}', '{"mood": "bad", "stars": 9}', *['{"mood": "bad", "stars": 2}'] * 4])
    found, steps = ask(lm, TwoStepFormat(reader), n=2, temperature=1.0)
    assert [one.toDict() for one in found] == [{"mood": "good", "stars": 4}, {"mood": "bad", "stars": 2}]
    assert [batch.model for batch in steps] == [None, reader, reader]
    assert len(lm.scripted.requests) == 1
    assert [request.sampling.n for request in reader.scripted.requests] == [1, 1, 4]


def test_a_free_text_that_was_cut_off_is_read_as_far_as_it_came() -> None:
    lm, reader = ScriptedLM(["It is good, and so on and on."]), ScriptedLM(['{"mood": "good", "stars": 4}'])
    (prediction,), steps = ask(lm, TwoStepFormat(reader), max_tokens=10)
    assert (prediction.mood, len(steps)) == ("good", 2)
    assert reader.scripted.requests[0].messages[-1].content == "text: It is good"


def test_the_second_step_may_have_another_form_and_a_text_input_another_name() -> None:
    reader = ScriptedLM([])
    form = TwoStepFormat(reader, ChatFormat())
    signature = Signature("question -> text: str, written_text: str")
    assert list(form.extracting(signature).input_fields) == ["text_to_read"]
    assert form.extraction(signature, "x").grammar == ChatFormat().grammar(signature)
    assert form.parse(signature, form.answer(signature, {"text": "a", "written_text": "b"})) == {"text": "a", "written_text": "b"}
    assert TwoStepAdapter is TwoStepFormat


def test_wrong_use_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"The extraction model is 'gpt'; expected an LM\. Write TwoStepFormat\(homefire\.LM\(\)\)"):
        TwoStepFormat("gpt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'mood' has no probabilities"):
        TwoStepFormat(ScriptedLM([])).choices(Mood, "mood", {})


def test_predict_asks_the_second_model() -> None:
    writer, reader = ScriptedLM(lambda request: "It is four."), ScriptedLM(lambda request: '{"answer": 4}')
    program = Predict("question -> answer: int")
    with context(lm=writer, format=TwoStepFormat(reader)):
        assert program(question="Two and two?").answer == 4
        assert asyncio.run(program.acall(question="Two and two?")).answer == 4
        pieces = list(program.stream(question="Two and two?"))
    assert isinstance(pieces[-1], Prediction) and pieces[-1].answer == 4
    assert "".join(piece.text for piece in pieces[:-1] if isinstance(piece, FieldDelta)) == "4"
    assert len(writer.scripted.requests) == len(reader.scripted.requests) == 3
