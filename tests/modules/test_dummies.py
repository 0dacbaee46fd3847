"""DummyLM, DummyVectorizer and dummy_rm: as DSPy's users write their tests."""

from __future__ import annotations

from typing import Any

import pytest

from homefire.errors import InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.chat_format import ChatAdapter
from homefire.modules.dummies import DummyLM, DummyVectorizer, dummy_rm
from homefire.modules.example import Example
from homefire.modules.json_format import JSONAdapter
from homefire.modules.knn import KNN
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.xml_format import XMLAdapter


@pytest.mark.parametrize("form", [None, JSONAdapter(), ChatAdapter(), XMLAdapter()])
def test_outputs_in_order_in_every_format(form: Any) -> None:
    lm = DummyLM([{"reasoning": "so", "answer": "4"}, {"reasoning": "so", "answer": 5}])
    with context(lm=lm, adapter=form):
        think = ChainOfThought("question -> answer: int")
        assert [think(question="2 + 2?").answer, think(question="2 + 3?").answer] == [4, 5]
        with pytest.raises(InputError, match="no answers left"):
            think(question="2 + 4?")
    messages, outputs = lm.get_convo(0)
    assert "2 + 2?" in messages[-1]["content"] and "4" in outputs[0]


def test_outputs_by_what_is_asked() -> None:
    with context(lm=DummyLM({"sky": {"answer": "blue", "sure": True}, "grass": {"answer": "green", "sure": False}})):
        predict = Predict("question -> answer, sure: bool")
        assert [predict(question=f"Which colour has the {thing}?").answer for thing in ("grass", "sky")] == ["green", "blue"]
        with pytest.raises(InputError, match="it has one for: 'sky', 'grass'"):
            predict(question="Which colour has the sea?")


def test_demos_are_followed() -> None:
    with context(lm=DummyLM([{"answer": "red"}], follow_examples=True)):
        predict = Predict("question -> answer")
        predict.demos = [Example(question="Which colour has the sky?", answer="blue")]
        assert predict(question="Which colour has the sky?").answer == "blue"
        assert predict(question="Which colour has blood?").answer == "red"


def test_an_lm_with_a_format_of_its_own() -> None:
    assert DummyLM([{"answer": "red"}], adapter=ChatAdapter())("Which colour?") == ["[[ ## answer ## ]]\nred\n\n[[ ## completed ## ]]"]
    assert DummyLM([{"answer": "red"}])("Which colour?") == ['{"answer": "red"}']


def test_vectors_and_a_retriever_of_texts() -> None:
    vectors = DummyVectorizer(max_length=50)(["a cat", "a cat", "some dogs"])
    assert vectors.shape == (3, 50)
    assert vectors[0] @ vectors[1] > 0.99 > vectors[0] @ vectors[2]
    texts = ["cats purr", "dogs bark", "the sky is blue"]
    search = dummy_rm(texts)
    assert search("dogs", k=1)[0].long_text == "dogs bark"
    assert len(search("cats", k=3)) == 3
    with pytest.raises(InputError, match="has no passages"):
        dummy_rm()("cats", k=1)
    examples = [Example(text=text).with_inputs("text") for text in texts]
    assert KNN(1, examples, DummyVectorizer())(text="dogs")[0].text == "dogs bark"
