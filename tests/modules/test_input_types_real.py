"""Histories, images and two steps on the real model: one engine, few tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from homefire.engine.lm import LM
from homefire.engine.request import Message
from homefire.errors import InputError
from homefire.modules.history import History
from homefire.modules.media import Image
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.two_step_format import TwoStepFormat
from tests.modules.test_history_turns import FORMATS, TURNS, Chat
from tests.modules.test_two_step_format import ask


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> LM:
    return LM(str(smollm2), max_tokens=16, cache=False)


def test_a_history_changes_the_prompt_as_expected_and_outputs_stay_typed(lm: LM) -> None:
    history = History(messages=TURNS)
    for form in FORMATS:
        with context(lm=lm, format=form):
            first = Predict(Chat)(question="Which number comes next?", history=history)
            asked = lm.history[-1].messages
            longer = history.add(first, question="Which number comes next?")
            second = Predict(Chat)(question="And then?", history=longer)
        assert asked == form.render(Chat, TURNS, {"question": "Which number comes next?"})
        sent = lm.history[-1].messages
        assert sent[: len(asked)] == asked
        assert sent[len(asked)] == Message("assistant", form.answer(Chat, first.toDict()))
        for prediction in (first, second):
            assert isinstance(prediction.answer, str)
            assert prediction.mood in ("good", "bad")


def test_an_image_is_refused_by_name_and_nothing_is_computed(lm: LM) -> None:
    calls = len(lm.history)
    look = Predict("photo: Image -> answer")
    look.lm = lm
    with pytest.raises(InputError, match=r"The input 'photo' holds an image, and .*takes text alone\. Ask a server"):
        look(photo=Image("https://example.org/cat.png"))
    assert [entry.completion_tokens for entry in lm.history[calls:]] in ([], [0])


def test_the_small_model_reads_what_it_wrote_itself(lm: LM) -> None:
    (prediction,), steps = ask(lm, TwoStepFormat(lm))
    assert prediction.mood in ("good", "bad")
    assert prediction.stars in range(1, 6)
    assert steps[0].requests[0].grammar is None
    assert steps[1].requests[0].messages[-1].content.startswith("text: ")
