"""Types of a user's own: shown as they say, anywhere in an input, read back as an output, in every format."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from homefire.engine.request import Media
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.chat_format import ChatFormat
from homefire.modules.custom_type import Rendering, Type, custom_types
from homefire.modules.example import Example
from homefire.modules.format import Format
from homefire.modules.json_format import JsonFormat
from homefire.modules.media import Image
from homefire.modules.predict import Predict
from homefire.modules.prompt_text import input_text
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.xml_format import XmlFormat

FORMATS = [JsonFormat(), ChatFormat(), XmlFormat()]
every_format = pytest.mark.parametrize("form", FORMATS, ids=["json", "chat", "xml"])
URL = "https://example.org/cat.png"


class Event(Type):
    name: str
    day: int = Field(ge=1, le=31)

    def format(self) -> str:
        return f"{self.name} on day {self.day}"

    @classmethod
    def description(cls) -> str:
        return "something in the calendar"


class Plain(Type):
    event: Event
    photo: Image | None = None


class Week(BaseModel):
    number: int
    events: list[Event]


class Captioned(Type):
    photo: Image
    caption: str

    def format(self) -> list[Any]:
        return [f"{self.caption}: ", self.photo, {"type": "text", "text": "!"}]


def shown(annotation: Any, value: Any, form: Format = FORMATS[0]) -> str:
    signature = Signature("question -> answer").append("thing", InputField(), annotation)
    return form.render(signature, [], {"question": "q", "thing": value})[-1].content


@every_format
def test_it_is_shown_as_it_says_anywhere_in_an_input(form: Format) -> None:
    party = Event(name="party", day=3)
    assert "party on day 3" in shown(Event, party, form)
    assert "\n[1] party on day 3\n[2] party on day 3" in shown(list[Event], [party, party], form)
    assert '{"number": 7, "events": ["party on day 3"]}' in shown(Week, Week(number=7, events=[party]), form)
    assert '{"first": ["party on day 3"]}' in shown(dict[str, list[Event]], {"first": [party]}, form)
    assert '{"event": "party on day 3", "photo": null}' in shown(Plain, Plain(event=party), form)
    assert "(none)" in shown(list[Event], [], form)


def test_what_it_says_of_itself_is_in_the_prompt_once() -> None:
    signature = Signature("events: list[Event], other: Event | None -> next: Event")
    system = FORMATS[0].render(signature, [], {"events": [], "other": None})[0].content
    assert "- events: Event: something in the calendar" in system
    assert '- "next": {"name": text, "day": whole number from 1 to 31}, Event: something in the calendar' in system
    assert custom_types(dict[str, Week] | None) == {Event}


@every_format
def test_a_string_signature_names_it_and_an_output_of_it_is_read_and_checked(form: Format) -> None:
    predict = Predict("text -> event: Event, more: list[Event]")
    party = Event(name="party", day=3)
    text = form.answer(predict.signature, {"event": party, "more": [party]})
    assert form.parse(predict.signature, text) == {"event": party, "more": [party]}
    assert "party on day 3" not in text


def test_a_prediction_has_it_and_a_saved_demo_is_shown_the_same(tmp_path: Any) -> None:
    predict = Predict("event: Event, week: Week -> answer")
    inputs = {"event": Event(name="party", day=3), "week": Week(number=1, events=[Event(name="walk", day=4)])}
    predict.demos = [Example(**inputs, answer="yes")]
    predict.save(tmp_path / "p.json")
    other = Predict("event: Event, week: Week -> answer")
    other.load(tmp_path / "p.json")
    lm = ScriptedLM(['{"answer": "one"}', '{"answer": "two"}'])
    with context(lm=lm):
        assert (predict(**inputs).answer, other(**inputs).answer) == ("one", "two")
    first, second = (request.messages for request in lm.scripted.requests)
    assert first == second
    assert first[1].content == 'event: party on day 3\n\nweek: {"number": 1, "events": ["walk on day 4"]}'


def test_parts_are_put_into_their_places_wherever_the_value_stands() -> None:
    class Two(Signature):
        pairs: list[Captioned] = InputField()
        box: dict[str, Captioned] = InputField()
        answer: str = OutputField()

    one = Captioned(photo=Image(URL), caption="cat")
    message = FORMATS[0].render(Two, [], {"pairs": [one, one], "box": {"a": one}})[-1]
    media = Media("image", URL)
    assert message.parts == ("pairs: \n[1] cat: ", media, "!\n[2] cat: ", media, '!\n\nbox: {"a": "cat: ', media, '!"}')
    assert [part.source for part in message.media] == ["pairs", "pairs", "box"]
    assert message.content == "".join(map(str, message.parts))
    assert input_text("pairs", [one]) == f"\n[1] cat: [image: {URL}]!"


def test_no_text_is_taken_for_the_place_of_a_part() -> None:
    rendering = Rendering()
    place = rendering.text_of(Image(URL))
    forged = place.replace(place[1:-3], "0" * len(place[1:-3]))
    assert rendering.message("user", f"{forged} {place}").parts == (f"{forged} ", Media("image", URL))


def test_openai_s_words_for_an_image_are_understood() -> None:
    class Theirs(Type):
        def format(self) -> list[Any]:
            return [{"type": "image_url", "image_url": {"url": URL}}]

    assert Rendering().message("user", "x") != Rendering().message("user", "y")
    rendering = Rendering()
    assert rendering.message("user", rendering.text_of(Theirs())).parts == (Media("image", URL),)


@pytest.mark.parametrize("said", [3, [3], [{"type": "video"}], None])
def test_a_format_method_that_says_something_else_is_named(said: Any) -> None:
    class Wrong(Type):
        def format(self) -> Any:
            return said

    with pytest.raises(InputError, match=r"Wrong\.format\(\) gave .*expected text"):
        shown(Wrong, Wrong())


def test_without_a_format_method_it_is_json_like_any_model() -> None:
    class Bare(Type):
        name: str

    assert Bare(name="ä").format() == '{"name": "ä"}'
    assert shown(Bare, Bare(name="ä")).endswith('thing: {"name": "ä"}')
