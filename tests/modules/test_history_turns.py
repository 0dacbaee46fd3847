"""A history of turns as an input: expanded in the chat as demos are, the same each time, and refused where it does not fit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, Literal

import pytest

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.chat_format import ChatFormat
from homefire.modules.example import Example
from homefire.modules.format import Format
from homefire.modules.history import History
from homefire.modules.json_format import JsonFormat
from homefire.modules.media import Image
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.xml_format import XmlFormat

FORMATS = [JsonFormat(), ChatFormat(), XmlFormat()]
every_format = pytest.mark.parametrize("form", FORMATS, ids=["json", "chat", "xml"])


class Chat(Signature):
    """Answer."""

    question: str = InputField(desc="what is asked")
    history: History = InputField(desc="what came before")
    answer: str = OutputField()
    mood: Literal["good", "bad"] = OutputField()


TURNS = [{"question": "one?", "answer": "1", "mood": "good"}, {"question": "two?", "answer": "2", "mood": "bad"}]


@every_format
def test_turns_are_rendered_as_demos_are_and_stand_after_them(form: Format) -> None:
    demo = {"question": "zero?", "answer": "0", "mood": "good"}
    as_history = form.render(Chat, [demo], {"question": "three?", "history": History(messages=TURNS)})
    as_demos = form.render(Chat, [demo, *TURNS], {"question": "three?"})
    assert as_history == as_demos
    assert [message.role for message in as_history] == ["system", *["user", "assistant"] * 3, "user"]
    assert "history" not in " ".join(message.content for message in as_history)


@every_format
def test_a_longer_history_begins_with_the_same_messages(form: Format) -> None:
    history = History(messages=TURNS[:1])
    first = form.render(Chat, [], {"question": "two?", "history": history})
    longer = history.add({"answer": "2", "mood": "bad"}, question="two?", history=history)
    second = form.render(Chat, [], {"question": "three?", "history": longer})
    assert second[: len(first)] == first
    assert longer == History(messages=TURNS)
    assert history.messages == TURNS[:1]


@every_format
@pytest.mark.parametrize("empty", [History(), History(messages=[]), None, {"messages": []}])
def test_an_empty_history_changes_nothing(form: Format, empty: Any) -> None:
    assert form.render(Chat, [], {"question": "one?", "history": empty}) == form.render(Chat, [], {"question": "one?"})


def test_optional_and_named_in_a_string() -> None:
    signature = Signature("question, past: History | None -> answer: int")
    messages = JsonFormat().render(signature, [], {"question": "b?", "past": History(messages=[{"question": "a?", "answer": 4}])})
    assert [message.content for message in messages[1:]] == ["question: a?", '{"answer": 4}', "question: b?"]
    assert messages[0] == JsonFormat().render(Signature("question -> answer: int"), [], {"question": "b?"})[0]


def test_a_turn_may_lack_fields_and_two_user_turns_become_one() -> None:
    turns = [{"answer": "Welcome."}, {"question": "one?"}, {"question": "two?", "answer": "2"}, {"question": "four?"}]
    messages = JsonFormat().render(Chat, [], {"question": "five?", "history": History(messages=turns)})
    assert [(message.role, message.content) for message in messages[1:]] == [
        ("assistant", '{"answer": "Welcome."}'),
        ("user", "question: one?\n\nquestion: two?"),
        ("assistant", '{"answer": "2"}'),
        ("user", "question: four?\n\nquestion: five?"),
    ]


def test_images_of_earlier_turns_stay_in_their_places() -> None:
    signature = Signature("photo: Image, history: History -> answer")
    cat, dog = Image("https://example.org/cat.png"), Image("https://example.org/dog.png")
    history = History(messages=[{"photo": cat, "answer": "cat"}, {"photo": cat}])
    messages = JsonFormat().render(signature, [], {"photo": dog, "history": history})
    assert [[media.url for media in message.media] for message in messages] == [[], [cat.url], [], [cat.url, dog.url]]
    assert messages[-1].parts[1:] == (*messages[1].media, "\n\n", "photo: ", *messages[-1].media[1:])


@pytest.mark.parametrize(
    ("turn", "problem"),
    [
        (
            {"role": "user", "content": "hi"},
            r"Turn 2 .*'history' has 'role', 'content', which is no field.*\{'question': \.\.\., 'answer': ",
        ),
        ({"question": "a", "history": History()}, "has 'history'"),
        ({}, "is empty"),
        ({"question": "a", "mood": "soso"}, "'soso' is no value of the output 'mood'"),
    ],
)
def test_turns_of_something_else_are_refused(turn: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        JsonFormat().render(Chat, [], {"question": "b", "history": History(messages=[TURNS[0], turn])})


@pytest.mark.parametrize("value", ["yesterday", [TURNS[0]], 3])
def test_what_is_no_history_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"The input 'history' is .*expected History\. Write history=History\(\.\.\.\)"):
        JsonFormat().render(Chat, [], {"question": "b", "history": value})


def test_predictions_are_added_and_demos_with_a_history_come_back(tmp_path: Path) -> None:
    predict = Predict(Chat)
    lm = ScriptedLM(lambda request: '{"answer": "' + str(len(request.messages)) + '", "mood": "good"}')
    history = History()
    for question in ("a?", "b?"):
        inputs = {"question": question, "history": history}
        with context(lm=lm):
            history = history.add(predict(**inputs), **inputs)
    assert history.messages == [{"question": "a?", "answer": "2", "mood": "good"}, {"question": "b?", "answer": "4", "mood": "good"}]
    predict.demos = [Example(question="c?", history=history, answer="5", mood="bad")]
    predict.save(tmp_path / "p.json")
    loaded = Predict(Chat)
    loaded.load(tmp_path / "p.json")
    with context(lm=lm):
        assert loaded(question="d?", history=History()).answer == "8"
    assert [message.content for message in lm.history[-1].messages[1::2]] == [f"question: {name}?" for name in "abcd"]


def test_it_is_short_where_it_is_shown_and_whole_where_it_is_kept() -> None:
    history = History(messages=TURNS)
    assert (repr(history), str(History(messages=TURNS[:1])), len(history)) == ("History(2 turns)", "History(1 turn)", 2)
    assert History.model_validate(json.loads(history.model_dump_json())) == history
    assert pickle.loads(pickle.dumps(history)) == history
    history.messages.append({"question": "x"})
    assert history.messages[-1] == {"question": "x"}
