"""Excerpts: where the words of a query stand in a text, which piece of it is shown, and what never reaches a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.retrieval.excerpt import Highlighter, shown
from homefire.retrieval.words import Analyzer

ENGLISH = Analyzer.of("english")
FILLER = "Nothing of interest stands in this sentence about the weather. "


def marked(query: str, text: str, length: int | None = None) -> tuple[str, list[str]]:
    excerpt = Highlighter(query, ENGLISH).excerpt(text, length)
    return excerpt.text, [excerpt.text[first:last] for first, last in excerpt.places]


def test_words_are_found_by_their_stems() -> None:
    text, words = marked("To request the holidays", "Requests for a holiday: ask how.\nHOLIDAYS are requested in writing.")
    assert words == ["Requests", "holiday", "HOLIDAYS", "requested"]
    assert "\n" not in text


def test_stop_words_alone_mark_nothing() -> None:
    assert marked("is it the", "It is the time.")[1] == []
    assert marked("", "Something.") == ("Something.", [])


def test_scripts_without_spaces_are_marked_in_pieces() -> None:
    assert marked("休暇", "有給休暇は三十日です。")[1] == ["休暇"]
    assert marked("größe", "Die GRÖSSE und die Größe.")[1] == ["Größe"]


def test_the_piece_with_the_most_words_is_shown() -> None:
    text = FILLER * 20 + "Leave is granted. Thirty days of leave a year. " + FILLER * 20 + "One day."
    excerpt, words = marked("days of leave a year", text, 200)
    assert words == ["Leave", "days", "leave", "year"]
    assert excerpt.startswith("…") and excerpt.endswith("…") and 100 < len(excerpt) <= 202


def test_headings_and_paragraphs_do_not_run_into_each_other() -> None:
    assert marked("leave", "# Leave\n\nThirty days\nof leave.\n \n\nAsk first.\n") == (
        "# Leave · Thirty days of leave. · Ask first.",
        ["Leave", "leave"],
    )


def test_a_text_that_fits_is_shown_whole() -> None:
    assert marked("leave", "Thirty days of leave.", 21) == ("Thirty days of leave.", ["leave"])


@pytest.mark.parametrize("start", [True, False])
def test_the_ends_of_a_text(start: bool) -> None:
    text = "Leave first. " + FILLER * 9 if start else FILLER * 9 + "Leave last."
    excerpt, words = marked("leave", text, 100)
    assert words == ["Leave"]
    assert excerpt.startswith("Leave first.") if start else excerpt.endswith("Leave last.")


def test_what_moves_a_cursor_or_turns_the_text_is_not_shown() -> None:
    assert shown("a\x1b[31mb\x9bc\x07\r\nd\re\tf\u202eg\u2066h\ud800i") == "a\ufffd[31mb\ufffdc\ufffd\nd\ne\tfgh\ufffdi"


@settings(deadline=None, max_examples=60)
@given(query=st.text(max_size=30), text=st.text(max_size=300), length=st.integers(10, 100))
def test_any_text_has_an_excerpt_within_its_length(query: str, text: str, length: int) -> None:
    excerpt = Highlighter(query, ENGLISH).excerpt(text, length)
    assert len(excerpt.text) <= length + 2
    last = 0
    for first, end in excerpt.places:
        assert last <= first < end <= len(excerpt.text)
        last = first


@settings(deadline=None, max_examples=60)
@given(words=st.lists(st.sampled_from(["tree", "house", "river", "cloud", "stone"]), min_size=1, max_size=80), length=st.integers(40, 100))
def test_a_word_of_the_query_that_the_text_has_is_in_the_excerpt(words: list[str], length: int) -> None:
    assert marked("a stone", " ".join([*words, "stone"]), length)[1]
