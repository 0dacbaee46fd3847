"""Adapters of a user's own: messages and answers in DSPy's way, types, retries, demos, histories; what all formats can be asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConstraintError, InputError, ParseError
from homefire.modules.adapter import Adapter
from homefire.modules.chat_format import ChatAdapter
from homefire.modules.example import Example
from homefire.modules.history import History
from homefire.modules.json_format import JSONAdapter
from homefire.modules.media import Image
from homefire.modules.predict import Predict
from homefire.modules.settings import context, settings
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.xml_format import XMLAdapter


class Lines(Adapter):
    """One output a line."""

    def format_field_structure(self, signature: type[Signature]) -> str:
        return "Answer with lines such as `name: value`."

    def parse(self, signature: type[Signature], completion: str) -> dict[str, Any]:
        return dict(line.split(": ", 1) for line in completion.splitlines() if line)


class Rate(Signature):
    """Rate the text."""

    text: str = InputField()
    stars: int = OutputField(desc="five is best", ge=1, le=5)
    mood: Literal["good", "bad"] = OutputField()
    tags: list[str] = OutputField()


GOOD = 'stars: 4\nmood: good\ntags: ["a"]'


def test_what_it_writes_and_reads() -> None:
    lm, mine = ScriptedLM([GOOD, GOOD]), Lines()
    predict = Predict(Rate)
    predict.demos = [Example(text="Bad.", stars=1, mood="bad", tags=[])]
    with context(lm=lm, adapter=mine):
        assert settings.adapter is mine
        found = predict(text="Fine.")
        assert asyncio.run(predict.acall(text="Fine.")) == found
    assert (found.stars, found.mood, found.tags) == (4, "good", ["a"])
    request = lm.scripted.requests[0]
    assert request.grammar is None
    assert [(message.role, message.content) for message in request.messages] == [
        (
            "system",
            '- stars: whole number from 1 to 5, five is best\n- mood: one of "good", "bad"\n- tags: list of text\n'
            "Answer with lines such as `name: value`.\nRate the text.",
        ),
        ("user", "text: Bad."),
        ("assistant", "stars: 1\n\nmood: bad\n\ntags: (none)"),
        ("user", "text: Fine."),
    ]


def test_an_answer_that_cannot_be_read_is_asked_for_once_more() -> None:
    def script(request: Request) -> str:
        return GOOD if len(request.messages) > 2 else "no lines"

    with context(lm=ScriptedLM(script), adapter=Lines()):
        assert Predict(Rate)(text="Fine.").stars == 4
    unread = pytest.raises(ParseError, match=r"cannot be read: ValueError: .*'no lines'")
    with context(lm=ScriptedLM(lambda request: "no lines"), adapter=Lines()), unread as caught:
        Predict(Rate)(text="Fine.")
    assert caught.value.text == caught.value.lm_response == "no lines"


@pytest.mark.parametrize(
    ("said", "error", "problem"),
    [
        ("stars: 4\nmood: good", ParseError, "lacks the fields tags"),
        ("stars: many\nmood: good\ntags: []", ParseError, "is not whole number"),
        ("stars: 4\nmood: fine\ntags: []", ParseError, "mood"),
        ("stars: 9\nmood: good\ntags: []", ConstraintError, "stars"),
    ],
)
def test_types_hold_all_the_same(said: str, error: type[Exception], problem: str) -> None:
    with context(lm=ScriptedLM(lambda request: said), adapter=Lines()), pytest.raises(error, match=problem):
        Predict(Rate)(text="Fine.")


def test_values_that_are_no_text_are_fitted_too() -> None:
    class Fixed(Lines):
        def parse(self, signature: type[Signature], completion: str) -> dict[str, Any]:
            return {"stars": 4, "mood": "bad", "tags": ("a", "b")}

    with context(lm=ScriptedLM(["anything"]), adapter=Fixed()):
        assert Predict(Rate)(text="Fine.").tags == ["a", "b"]

    class Wrong(Lines):
        def parse(self, signature: type[Signature], completion: str) -> Any:
            return ["a"]

    with context(lm=ScriptedLM(lambda request: "x"), adapter=Wrong()), pytest.raises(ParseError, match=r"Wrong.parse gave \['a'\]"):
        Predict(Rate)(text="Fine.")


def test_the_whole_chat_may_be_written_at_once() -> None:
    class Bare(Lines):
        def format(self, signature: type[Signature], demos: Any, inputs: Any) -> Any:
            return [{"role": "user", "content": inputs["text"]}]

    class Wrong(Lines):
        def format(self, signature: type[Signature], demos: Any, inputs: Any) -> Any:
            return [{"role": "robot", "content": "x"}]

    lm = ScriptedLM([GOOD])
    with context(lm=lm, adapter=Bare()):
        Predict(Rate)(text="Fine.")
    assert [message.content for message in lm.scripted.requests[0].messages] == ["Fine."]
    with context(lm=lm, adapter=Wrong()), pytest.raises(InputError, match=r"Wrong.format gave the message .*'robot'"):
        Predict(Rate)(text="Fine.")


def test_a_history_becomes_turns() -> None:
    lm = ScriptedLM(["answer: Bern."])
    history = History(messages=[{"question": "Italy?", "answer": "Rome."}])
    with context(lm=lm, adapter=Lines()):
        Predict(Signature("question, history: History -> answer"))(question="Switzerland?", history=history)
    turns = [(message.role, message.content) for message in lm.scripted.requests[0].messages[1:]]
    assert turns == [("user", "question: Italy?"), ("assistant", "answer: Rome."), ("user", "question: Switzerland?")]


def test_one_without_parse_says_what_to_write() -> None:
    with context(lm=ScriptedLM(["x"]), adapter=Adapter()), pytest.raises(TypeError, match="def parse"):
        Predict(Rate)(text="Fine.")
    with context(lm=ScriptedLM([GOOD]), adapter=Lines()):
        found = Predict(Rate)(text="Fine.")
        with pytest.raises(InputError, match="has no probabilities"):
            found.probabilities("mood")


@pytest.mark.parametrize("form", [JSONAdapter(), ChatAdapter(), XMLAdapter()])
def test_every_format_shows_its_chat(form: Any) -> None:
    demo = Example(text="Bad.", stars=1, mood="bad", tags=[])
    turns = form.format(Rate, [demo], {"text": "Fine."})
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert "Rate the text." in turns[0]["content"] and "Fine." in turns[-1]["content"]
    chat = form.format_finetune_data(signature=Rate, demos=[], inputs={"text": "Fine."}, outputs=demo)
    assert [turn["role"] for turn in chat["messages"]] == ["system", "user", "assistant"]
    assert form.parse(Rate, chat["messages"][-1]["content"]) == {"stars": 1, "mood": "bad", "tags": []}


def test_images_stand_in_the_chat_as_parts() -> None:
    turns = JSONAdapter().format(Signature("picture: Image -> answer"), [], {"picture": Image("https://x.org/a.png")})
    assert {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}} in turns[-1]["content"]
    assert json.dumps(turns)


def test_the_data_to_train_on_of_an_adapter() -> None:
    chat = Lines().format_finetune_data(Rate, [], {"text": "Fine."}, {"stars": 4, "mood": "good", "tags": ["a"]})
    assert chat["messages"][-1] == {"role": "assistant", "content": "stars: 4\n\nmood: good\n\ntags: \n[1] a"}
