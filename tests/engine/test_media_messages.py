"""Images, sounds and files on their way to a model: the bytes of a request, what refuses them, what caches and history make of them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.dialects import ANTHROPIC, DEEPSEEK, GEMINI, OPENAI, Dialect
from homefire.engine.history import inspect_history
from homefire.engine.http_body import check_request
from homefire.engine.lm import LM
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Media, Message, Request
from homefire.engine.response_key import response_key
from homefire.errors import EngineError, InputError
from homefire.modules.media import Audio, File, Image
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import Signature
from tests.engine.fake_server import FakeServer, answer, choice, say

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
WAV = b"RIFF\x10\0\0\0WAVEfmt " + bytes(range(256))
PDF = b"%PDF-" + bytes(range(256))
IMAGE, SOUND, FILE = Image(PNG), Audio(WAV), File(PDF, name="a.pdf")
EVERYTHING = Signature("photo: Image, sound: Audio, paper: File, words -> answer")
VALUES = {"photo": IMAGE, "sound": SOUND, "paper": FILE, "words": "Compare them."}


def request(*media: Media, **changes: Any) -> Request:
    return Request(messages=(Message("user", "".join(map(str, ("look ", *media))), ("look ", *media)),), **changes)


def image(data: str = "abc", source: str = "photo") -> Media:
    return Media("image", f"data:image/png;base64,{data}", source=source)


def test_the_bytes_reach_an_openai_compatible_server_in_its_own_form() -> None:
    with FakeServer(otherwise=say('{"answer": "done"}')) as server:
        lm = LM("openai/m", api_base=server.url, cache=False)
        with context(lm=lm):
            assert Predict(EVERYTHING)(**VALUES).answer == "done"
        system, user = server.posts[-1].body["messages"]
    assert isinstance(system["content"], str)
    texts = [part["text"] for part in user["content"] if part["type"] == "text"]
    assert texts == ["photo: ", "\n\nsound: ", "\n\npaper: ", "\n\nwords: Compare them."]
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url", "text", "input_audio", "text", "file", "text"]
    picture, sound, paper = (part[part["type"]] for part in user["content"] if part["type"] != "text")
    assert picture["url"].startswith("data:image/png;base64,")
    assert base64.b64decode(picture["url"].partition(",")[2]) == PNG
    assert (base64.b64decode(sound["data"]), sound["format"]) == (WAV, "wav")
    assert (base64.b64decode(paper["file_data"].partition(",")[2]), paper["filename"]) == (PDF, "a.pdf")


def test_an_address_is_the_server_s_to_fetch() -> None:
    with FakeServer(otherwise=say('{"answer": "done"}')) as server:
        with context(lm=LM("openai/m", api_base=server.url, cache=False)):
            Predict("photos: list[Image] -> answer")(photos=[Image("https://example.org/1.png"), IMAGE])
        parts = server.posts[-1].body["messages"][1]["content"]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == ["https://example.org/1.png", IMAGE.url]


@pytest.mark.parametrize(
    ("dialect", "kind", "taken"),
    [
        (OPENAI, "file", True),
        (GEMINI, "audio", True),
        (GEMINI, "file", False),
        (ANTHROPIC, "image", True),
        (ANTHROPIC, "audio", False),
        (DEEPSEEK, "image", False),
    ],
)
def test_a_server_that_takes_none_is_known_before_anything_is_sent(dialect: Dialect, kind: Any, taken: bool) -> None:
    asked = request(Media(kind, "data:x/y;base64,aa", source="thing"))
    if taken:
        check_request(asked, dialect, "the server", sure=True)
        return
    with pytest.raises(InputError, match=rf"The input 'thing' holds .*, and the server takes text.* alone, as {dialect.name} does"):
        check_request(asked, dialect, "the server", sure=True)


def test_nothing_is_sent_where_it_is_refused() -> None:
    with FakeServer(owner="sglang", otherwise=say('{"answer": "done"}')) as server:
        lm = LM("openai/m", api_base=server.url, cache=False)
        with context(lm=lm), pytest.raises(InputError, match="The input 'paper' holds a file"):
            Predict("paper: File -> answer")(paper=FILE)
        assert server.posts == []


def test_an_answer_that_was_cut_off_goes_on_with_its_image() -> None:
    cut = answer(choice('{"answer": "a c', finish="length", token_ids=[1, 2, 3]))
    with FakeServer([cut], owner="vllm", otherwise=answer(choice(" 3}")), tokenizer=True) as server:
        lm = LM("openai/m", api_base=server.url, cache=False)
        with context(lm=lm):
            found = Predict("photo: Image -> answer, cats: int", max_tokens=8)(photo=IMAGE)
        last = server.posts[-1]
    assert (found.answer, found.cats, found.cut_off) == ("a c", 3, True)
    assert last.path.endswith("/chat/completions")
    assert last.body["messages"][1]["content"][1]["image_url"]["url"] == IMAGE.url
    assert last.body["messages"][-1]["role"] == "assistant"
    assert last.body["continue_final_message"] is True


def test_scores_behind_an_image_are_refused_not_wrong() -> None:
    with FakeServer(owner="vllm", tokenizer=True) as server:
        lm = LM("openai/m", api_base=server.url, cache=False)
        with pytest.raises(EngineError, match="an image has not"):
            lm.score(request(image()), ["yes", "no"])
        assert server.posts == []


def test_a_model_on_this_machine_takes_text_alone(smollm2: Path) -> None:
    encoder = PromptEncoder(smollm2)
    with pytest.raises(InputError, match=rf"The input 'photo' holds an image, and {smollm2.name} runs on .* takes text alone"):
        encoder.encode_request(request(image()))
    with pytest.raises(InputError, match="A message holds audio"):
        encoder.encode_request(request(Media("audio", "data:audio/wav;base64,aa")))


def test_the_cache_tells_media_apart() -> None:
    keys = {response_key("e", request(*media)) for media in ([image("abc")], [image("abd")], [image("abc"), image("abc")], [])}
    assert len(keys) == 4
    assert response_key("e", request(image(source="a"))) == response_key("e", request(image(source="b")))
    assert request(image(source="a")) == request(image(source="b"))
    assert response_key("e", request(Media("image", "u"))) != response_key("e", request(Media("file", "u")))
    assert response_key("e", request(Media("file", "u", "a"))) != response_key("e", request(Media("file", "u", "b")))


def test_history_and_reprs_show_a_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(otherwise=say('{"answer": "done"}')) as server:
        lm = LM("openai/m", api_base=server.url, cache=False)
        with context(lm=lm):
            Predict(EVERYTHING)(**VALUES)
    shown = io.StringIO()
    lm.inspect_history(file=shown)
    inspect_history()
    for text in (shown.getvalue(), capsys.readouterr().out, repr(lm.history[-1].messages), str(lm.history[-1]["messages"])):
        assert IMAGE.url[-40:] not in text
        assert "[image: image/png, 0.3 kB]" in text
        assert "[file: a.pdf, application/pdf, 0.3 kB]" in text
    assert not any(message.parts for message in lm.history[-1].messages)  # which would keep the bytes
    assert repr(image()) == "Media[image: image/png, 0.0 kB]"
