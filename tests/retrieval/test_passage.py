"""Passages are values; texts that are in no file are split by words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.errors import InputError
from homefire.retrieval.chunks import split
from homefire.retrieval.passage import Passage


def numbered(count: int) -> str:
    return " ".join(f"w{number}" for number in range(count))


def test_a_short_text_is_one_passage_as_it_stands() -> None:
    [passage] = split("\n\n  Two  words\nand a line.\n", "note")
    assert (passage.text, passage.source, passage.position, passage.metadata) == ("Two  words\nand a line.", "note", 0, {"line": 3})


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_a_blank_text_has_no_passages(text: str) -> None:
    assert list(split(text, "note")) == []


def test_long_paragraphs_are_cut_by_words_and_overlap() -> None:
    passages = list(split(numbered(25), "note", words=10, overlap=3))
    words = [passage.text.split() for passage in passages]
    assert [(first[0], first[-1]) for first in words] == [("w0", "w9"), ("w7", "w16"), ("w14", "w23"), ("w21", "w24")]
    assert [passage.position for passage in passages] == [0, 1, 2, 3]


def test_a_cut_falls_on_the_last_blank_line_that_fits() -> None:
    text = "a b c\n\nd e f\n \ng h i j k l m n"
    assert [passage.text for passage in split(text, "note", words=8, overlap=0)] == ["a b c\n\nd e f", "g h i j k l m n"]


def test_a_blank_line_too_early_does_not_make_a_tiny_passage() -> None:
    assert next(split("a\n\n" + numbered(20), "note", words=10, overlap=0)).text.split() == ["a", *(f"w{number}" for number in range(9))]


def test_text_without_spaces_is_cut_too() -> None:
    assert max(len(passage.text) for passage in split("漢字かな" * 100, "note", words=20, overlap=5)) == 20
    assert max(len(passage.text) for passage in split("x" * 1000, "note", words=10, overlap=2)) == 400


def test_lines_are_counted_across_passages_and_line_ends() -> None:
    lines = [passage.metadata["line"] for passage in split("a b\r\nc d\re f\ng h", "note", words=2, overlap=0)]
    assert lines == [1, 2, 3, 4]


def test_ids_depend_on_source_and_text_alone() -> None:
    [one], [same], [moved], [other] = (list(split(*given)) for given in [("x", "a"), ("\n\nx", "a"), ("x", "b"), ("y", "a")])
    assert one.id == same.id
    assert len({one.id, moved.id, other.id}) == 3
    assert one.id == "8b86bced10290476", "ids are kept in indexes and must not change between versions"


def test_a_text_that_comes_twice_has_two_ids() -> None:
    first, second, third = split("# A\nsame\n# A\nsame\n# A\nsame", "note", words=4, overlap=0)
    assert first.text == second.text == third.text
    assert len({first.id, second.id, third.id}) == 3
    assert first.id == next(split("# A\nsame", "note")).id
    assert second.id == "3497c2e21903cf57", "as above"


@given(st.lists(st.sampled_from([" ", "\n", "\n\n"]), max_size=60), st.integers(2, 12), st.data())
def test_every_word_is_in_some_passage_and_the_overlap_is_what_was_asked_for_or_begins_a_paragraph(
    gaps: list[str], words: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, words // 2))
    text = "".join(f"{number}{gap}" for number, gap in enumerate(gaps))
    paragraphs = {int(paragraph.split()[0]) for paragraph in text.split("\n\n") if paragraph.strip()}
    numbers = [[int(word) for word in passage.text.split()] for passage in split(text, "note", words=words, overlap=overlap)]
    end = 0
    for position, piece in enumerate(numbers):
        asked = end - overlap if position else 0
        begins = min((number for number in paragraphs if asked <= number < end), default=asked)
        assert piece == list(range(begins, piece[-1] + 1))
        assert len(piece) <= words
        assert piece[-1] >= end
        end = piece[-1] + 1
    assert end == len(gaps)


@pytest.mark.parametrize(("words", "overlap"), [(1, 0), (10, 6), (10, -1)])
def test_sizes_that_cannot_work_are_refused(words: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"tokens={words}, overlap={overlap} cannot be used; tokens must be at least 2, and overlap"):
        split("a b c", "note", words=words, overlap=overlap)


def test_passages_are_hashable_values() -> None:
    assert (
        len({Passage(id="1", text="a", source="s", metadata={"line": 1}), Passage(id="1", text="a", source="s", metadata={"line": 1})}) == 1
    )
