"""Text and files become passages: where they are cut, what their ids depend on, what happens to files that are no text."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.errors import InputError
from homefire.retrieval.passage import Passage, read_files, read_folder, split


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


@given(st.lists(st.sampled_from([" ", "\n", "\n\n"]), max_size=60), st.integers(2, 12), st.data())
def test_every_word_is_in_some_passage_and_passages_overlap_as_asked(gaps: list[str], words: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, words // 2))
    text = "".join(f"{number}{gap}" for number, gap in enumerate(gaps))
    numbers = [[int(word) for word in passage.text.split()] for passage in split(text, "note", words=words, overlap=overlap)]
    end = 0
    for position, piece in enumerate(numbers):
        assert len(piece) <= words
        assert piece == list(range(end - overlap if position else 0, piece[-1] + 1))
        assert piece[-1] >= end
        end = piece[-1] + 1
    assert end == len(gaps)


@pytest.mark.parametrize(("words", "overlap"), [(1, 0), (10, 6), (10, -1)])
def test_sizes_that_cannot_work_are_refused(words: int, overlap: int) -> None:
    with pytest.raises(InputError, match=f"words={words}, overlap={overlap}"):
        split("a b c", "note", words=words, overlap=overlap)


def test_passages_are_hashable_values() -> None:
    assert (
        len({Passage(id="1", text="a", source="s", metadata={"line": 1}), Passage(id="1", text="a", source="s", metadata={"line": 1})}) == 1
    )


def test_a_folder_gives_its_text_files_by_path(tmp_path: Path) -> None:
    for name in ["b.md", "a/c.RST", "a.txt", "image.png", ".git/x.md", ".hidden.txt"]:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"text of {name}", encoding="utf-8")
    assert [(passage.source, passage.text) for passage in read_folder(tmp_path)] == [
        ("a.txt", "text of a.txt"),
        ("a/c.RST", "text of a/c.RST"),
        ("b.md", "text of b.md"),
    ]


def test_ids_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for name in ["one", "two"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("same", encoding="utf-8")
    assert next(read_folder(tmp_path / "one")).id == next(read_folder(tmp_path / "two")).id


def test_a_folder_without_text_or_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.txt, \.md, \.rst"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_folder(tmp_path / "missing")


def test_files_that_do_not_exist_or_are_of_another_kind_are_refused_at_once(tmp_path: Path) -> None:
    paper = tmp_path / "paper.pdf"
    paper.write_bytes(b"%PDF-1.7")
    with pytest.raises(InputError, match=r"paper\.pdf.*split\(\)"):
        read_files([paper])
    with pytest.raises(InputError, match=r"no file at .*missing\.txt"):
        read_files([tmp_path / "missing.txt"])


def test_files_keep_the_order_and_the_path_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ["b.txt", "a.txt"]:
        Path(name).write_text(name, encoding="utf-8")
    assert [passage.source for passage in read_files(["b.txt", Path("a.txt")])] == ["b.txt", "a.txt"]


def test_encodings_are_recognised_or_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bom.txt").write_bytes("\ufeffcafé".encode())
    (tmp_path / "old.txt").write_bytes("café \u201cnoir\u201d".encode("cp1252"))
    (tmp_path / "utf16.txt").write_text("café", encoding="utf-16")
    with caplog.at_level(logging.WARNING):
        texts = {passage.source: passage.text for passage in read_folder(tmp_path)}
    assert texts == {"bom.txt": "café", "old.txt": "café \u201cnoir\u201d"}
    old, utf16 = (record.getMessage() for record in caplog.records)
    assert "old.txt is not UTF-8 (byte 3" in old
    assert "utf16.txt was skipped" in utf16


def test_a_file_that_vanishes_is_reported_and_the_others_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ["a.txt", "b.txt"]:
        (tmp_path / name).write_text(name, encoding="utf-8")
    passages = read_folder(tmp_path)
    os.remove(tmp_path / "a.txt")
    with caplog.at_level(logging.WARNING):
        assert [passage.source for passage in passages] == ["b.txt"]
    assert "a.txt was skipped: No such file" in caplog.text
