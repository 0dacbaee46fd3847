"""Metrics for answers: cases worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homefire
from homefire.errors import InputError
from homefire.modules.example import Example, Prediction
from homefire.optimizers.qa_metrics import EM, F1, HotPotF1, answer_exact_match, answer_passage_match, normalize_text
from homefire.retrieval.passage import Passage


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower, (in) Paris!", "eiffel tower in paris"),
        ("a an the", ""),
        ("Another theme", "another theme"),
        ("the-end", "theend"),
        ("An apple a day", "apple day"),
        ("$1,234.50", "123450"),
        ("24\u201310", "24\u201310"),  # only ASCII punctuation goes
        ("ZÜRICH\tÉtat\n", "zürich état"),
        ("Cafe\u0301", "caf\u00e9"),
        ("東京 the 塔", "東京 塔"),
        ("don't", "dont"),
        ("", ""),
        (" \t\n", ""),
        ("A.", ""),
        ("U.S.A.", "usa"),
        ("snake_case", "snakecase"),
    ],
)
def test_normalising(text: str, expected: str) -> None:
    assert normalize_text(text) == expected


@given(st.text())
def test_normalising_twice_changes_little(text: str) -> None:
    once = normalize_text(text)
    assert "  " not in once and once == once.strip()
    assert EM(text, text) and EM(text.upper(), [text.upper()])


@pytest.mark.parametrize(
    ("said", "answers", "expected"),
    [
        ("the Paris.", ["Paris"], True),
        ("Paris, France", ["Paris"], False),
        ("London", ["Paris", "london"], True),
        ("", [""], True),
        ("the", [""], True),
        ("x", [""], False),
        ("42", ["42"], True),
        ("42", ["43"], False),
    ],
)
def test_exact_match(said: str, answers: list[str], expected: bool) -> None:
    assert EM(said, answers) is expected


@pytest.mark.parametrize(
    ("said", "answers", "expected"),
    [
        ("cat sat", ["cat sat down"], 0.8),  # precision 1, recall 2/3
        ("the cat the cat", ["cat"], 2 / 3),  # a word counts as often as it is in both
        ("dog", ["cat"], 0.0),
        ("cat", ["dog", "a cat"], 1.0),
        ("red blue green", ["red yellow"], 0.4),
        ("", ["cat"], 0.0),
        ("cat", ["the"], 0.0),
        ("", ["a"], 1.0),
        ("yes", ["yes it is"], 0.5),
        ("3.5 km", ["35 km"], 1.0),
    ],
)
def test_overlap(said: str, answers: list[str], expected: float) -> None:
    assert F1(said, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "answers", "expected"),
    [
        ("yes", ["yes it is"], 0.0),
        ("yes it is", ["yes"], 0.0),
        ("Yes.", ["yes"], 1.0),
        ("no", ["yes"], 0.0),
        ("noanswer", ["no answer"], 0.0),
        ("no", ["yes", "no"], 1.0),
        ("cat sat", ["cat sat down"], 0.8),
        ("", [""], 0.0),
    ],
)
def test_overlap_of_hotpotqa(said: str, answers: list[str], expected: float) -> None:
    assert HotPotF1(said, answers) == pytest.approx(expected)


@given(st.text(alphabet="abc the.", max_size=30), st.text(alphabet="abc the.", max_size=30))
def test_overlap_is_fair(one: str, other: str) -> None:
    assert F1(one, other) == F1(other, one) and 0 <= F1(one, other) <= 1
    assert F1(one, [other, one]) == 1
    assert (F1(one, other) == 1) >= EM(one, other)
    assert HotPotF1(one, other) <= F1(one, other)


def test_answers_must_be_texts() -> None:
    with pytest.raises(InputError, match="There is no answer to compare with"):
        F1("x", [])
    with pytest.raises(InputError, match="The answer 42 is no text"):
        EM("42", [42])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("the Paris", "Paris", True),
        ("rome", ["Paris", "Rome"], True),
        (42, 42.0, True),
        (4.2, 42, False),  # as texts without the point they would be the same
        (42.0, "42", True),
        (7, [6, 7], True),
        (True, "true", True),
    ],
)
def test_answers_of_examples(said: object, right: object, expected: bool) -> None:
    assert answer_exact_match(Example(answer=right), Prediction(answer=said)) is expected


def test_a_part_of_an_answer_may_be_enough() -> None:
    example, prediction = Example(answer="cat sat down"), Prediction(answer="cat sat")
    assert answer_exact_match(example, prediction) is False
    assert answer_exact_match(example, prediction, frac=0.8) is True
    assert answer_exact_match(example, prediction, None, 0.81) is False


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InputError, match=r"reads the field 'answer'; the example has question, label.*homefire.field_match\('question'\)"):
        answer_exact_match(Example(question="q", label="x"), Prediction(answer="x"))
    with pytest.raises(InputError, match="reads the field 'context'; the prediction has answer"):
        answer_passage_match(Example(answer="x"), Prediction(answer="x"))


def test_passages_have_the_answer_as_whole_words() -> None:
    example = Example(answer=["Denver Broncos", "Broncos"])
    assert answer_passage_match(example, Prediction(context=["nothing", "The Denver, Broncos won."]))
    assert not answer_passage_match(example, Prediction(context=["The Broncosaurus."]))
    assert answer_passage_match(Example(answer="the cat"), Prediction(context="A cat sat"))
    assert answer_passage_match(Example(answer="Cat"), Prediction(context=[Passage(id="1", text="the cat", source="x")]))
    assert not answer_passage_match(Example(answer="the"), Prediction(context=["the cat"]))
    assert not answer_passage_match(Example(answer="cat"), Prediction(context=[]))


def test_the_names_are_where_users_look() -> None:
    assert homefire.evaluate.answer_exact_match is answer_exact_match
    for name in homefire.evaluate.__all__:
        assert getattr(homefire.evaluate, name) is not None
    assert {"datasets", "evaluate"} <= set(dir(homefire))
