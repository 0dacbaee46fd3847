"""Votes over several answers: majority, MultiChainComparison, KNN."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Completions, Example, Prediction
from homefire.modules.knn import KNN
from homefire.modules.majority import default_normalize, majority
from homefire.modules.multi_chain import MultiChainComparison
from homefire.modules.settings import context
from homefire.retrieval.encoder import HashEncoder


def answers(*values: Any) -> list[Prediction]:
    return [Prediction(reasoning=f"r{place}", answer=value) for place, value in enumerate(values)]


def test_the_most_frequent_answer_wins_and_the_first_of_equals() -> None:
    assert majority(answers("Rome", "The Paris!", "paris")).reasoning == "r1"
    assert majority(answers("b", "a", "a", "b")).answer == "b"
    assert majority(answers("x", "", "...", "an")).answer == "x"  # what has no content does not count
    assert majority(answers("", "")).answer == ""
    assert majority(answers("Rome", "rome", "ROME", "Paris", "Paris"), normalize=None).answer == "Paris"


def test_values_that_are_no_texts_are_compared_as_they_are() -> None:
    assert majority(answers(1, True, True)).answer is True
    assert majority(answers([1], [2], [2])).answer == [2]
    assert majority(answers(0, 1, 0)).answer == 0


def test_completions_and_other_fields() -> None:
    several = Prediction.from_completions({"kind": ["a", "b", "b"], "score": [1, 1, 2]})
    assert majority(several, field="kind").kind == "b" and majority(several).score == 1
    assert majority(several.completions, field="kind").completions == (Prediction(kind="b", score=1),)
    assert majority([{"answer": "a"}, Example(answer="a")]).answer == "a"
    assert several.kind == "a" and len(several.completions) == 3
    with pytest.raises(InputError, match="has no field 'kind'"):
        majority(answers("a"), field="kind")
    with pytest.raises(InputError, match="no completion"):
        majority([])
    assert default_normalize("  The  U.S.A. ") == "usa"


def test_chains_are_compared_in_one_more_call() -> None:
    chains = ['{"reasoning": "one", "answer": 1}', '{"reasoning": "two", "answer": 2}', '{"reasoning": "three", "answer": 2}']
    compared = '{"rationale": "most say 2", "answer": 2}'
    lm = ScriptedLM([*chains, compared, compared])
    compare = MultiChainComparison("question -> answer: int", M=3)
    with context(lm=lm):
        several = ChainOfThought("question -> answer: int", n=3)(question="q")
        assert several.completions.answer == [1, 2, 2]
        assert compare(several, question="q").answer == 2
        listed = [{"rationale": "x", "answer": 1}, *several.completions[1:]]
        assert asyncio.run(compare.acall(listed, question="q")).rationale == "most say 2"
    assert len(lm.scripted.requests) == 3 and lm.scripted.requests[0].sampling.n == 3
    text = lm.scripted.requests[1].messages[-1].content
    assert "reasoning_attempt_1: one\nAnswer: 1" in text and "reasoning_attempt_3: three\nAnswer: 2" in text
    assert lm.scripted.requests[1].sampling.temperature == 0.7


def test_another_number_of_chains_shows_the_call() -> None:
    compare = MultiChainComparison("question -> answer", M=2)
    with pytest.raises(InputError, match=r"There are 1 completions, but M is 2. Draw as many: ChainOfThought\(signature, n=2\)"):
        compare(answers("a"), question="q")
    with pytest.raises(InputError, match="no field 'answer'"):
        compare([{"a": 1}, {"b": 2}], question="q")
    with pytest.raises(InputError, match="M is 0"):
        MultiChainComparison("question -> answer", M=0)


TRAINSET = [Example(text=text, label="l").with_inputs("text") for text in ("cats and dogs", "rain and snow", "dogs and wolves")]


def letters(texts: list[str]) -> list[list[float]]:
    return [[float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


@pytest.mark.parametrize("vectorizer", [letters, HashEncoder()])
def test_the_nearest_examples_come_first(vectorizer: Any) -> None:
    nearest = KNN(2, TRAINSET, vectorizer)(text="dogs and wolves")
    assert nearest[0] is TRAINSET[2] and len(nearest) == 2
    assert len(KNN(9, TRAINSET, vectorizer)(text="snow")) == 3


def test_wrong_arguments_of_knn() -> None:
    with pytest.raises(InputError, match=r"KNN\(3, trainset, encoder\)"):
        KNN(0, TRAINSET, letters)
    with pytest.raises(InputError, match="shape"):
        KNN(1, TRAINSET, lambda texts: [1.0, 2.0])
    with pytest.raises(ValueError, match="with_inputs"):
        KNN(1, [Example(text="x")], letters)


def test_completions_by_place_and_by_field() -> None:
    several = Completions([{"a": 1, "b": "x"}, Prediction(a=2, b="y")], signature="a -> b")
    assert (several[1].b, several["a"], several.b, len(several)) == ("y", [1, 2], ["x", "y"], 2)
    assert dict(several.items()) == {"a": [1, 2], "b": ["x", "y"]} and "a" in several and several[:1] == (Prediction(a=1, b="x"),)
    assert several.signature == "a -> b"
    with pytest.raises(AttributeError, match="no field 'c'; they have 'a', 'b'"):
        _ = several.c
    with pytest.raises(InputError, match="different lengths"):
        Completions({"a": [1], "b": []})
