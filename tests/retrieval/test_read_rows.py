"""Rows of JSON Lines and CSV are documents of their own, and docstrings of Python files are one with their places in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document
from homefire.retrieval.read_python import read_python
from homefire.retrieval.read_tables import read_csv, read_jsonl
from homefire.retrieval.source_file import SourceFile, Unreadable

Reader = Callable[[SourceFile], Iterator[Document]]


def read(reader: Reader, text: str, left_out: Callable[[str], None] = pytest.fail) -> list[Document]:
    return list(reader(SourceFile("rows", text.encode(), left_out)))


def test_a_line_is_a_document_with_title_text_name_and_values() -> None:
    [first, second] = read(
        read_jsonl,
        '{"_id": "d1", "Title": "Cats\\n purr", "text": "They do.", "year": 2020, "good": true, "none": null, "tags": ["a"], "x": NaN}\n'
        '\n{"content": "No title.", "number": 123456789012345678901234567890, "empty": ""}\r\n',
    )
    assert first == Document(
        "rows#d1", "# Cats purr\n\nThey do.", {"file": "rows", "line": 1, "_id": "d1", "year": 2020, "good": True}, "Cats purr", None
    )
    assert second == Document("rows#L3", "No title.", {"file": "rows", "line": 3, "number": "123456789012345678901234567890"}, "", None)
    assert Chunker().chunk(first)[0].metadata == {"title": "Cats purr", "heading": "Cats purr", **first.metadata}


def test_a_row_without_a_text_is_its_names_and_values() -> None:
    [row] = read(read_jsonl, '{"id": 7, "question": "Why?", "answer": "So.", "n": 3, "more": {"a": 1}, "none": null}')
    assert row == Document("rows#7", 'question: Why?\nanswer: So.\nn: 3\nmore: {"a": 1}', {"file": "rows", "line": 1}, "", None)


def test_a_title_alone_is_a_text_and_values_of_the_user_come_first() -> None:
    [row] = read(read_jsonl, '{"text": "", "title": "Only this", "line": "A", "file": "mine"}')
    assert (row.text, row.metadata) == ("# Only this", {"file": "mine", "line": "A"})


def test_broken_lines_are_reported_with_their_numbers_and_the_others_are_read() -> None:
    left_out: list[str] = []
    lines = [
        '{"text": "one"}',
        "{broken",
        "[1, 2]",
        '{"text": " "}',
        '{"id": 1, "text": "a"}',
        '{"id": 1, "text": "b"}',
        '{"text": "' + "[" * 9,
    ]
    lines += ["[" * 100_000, '{"text": 1' + "0" * 5000 + "}", '{"text": "last"}']
    assert [row.text for row in read(read_jsonl, "\n".join(lines), left_out.append)] == ["one", "a", "last"]
    [reason] = left_out
    assert reason.startswith("7 rows are left out, in lines 2, 3, 4, 6, 7, 8, 9; the first: Expecting property name")


@pytest.mark.parametrize("reader", [read_jsonl, read_csv])
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_rows_is_reported(reader: Reader, text: str) -> None:
    with pytest.raises(Unreadable, match="there are no rows in it"):
        read(reader, text)


def test_lone_surrogates_and_zeros_of_json_do_not_reach_passages() -> None:
    [row] = read(read_jsonl, '{"text": "a\\ud800b\\u0000c"}')
    [passage] = Chunker().chunk(row)
    assert passage.text == "a\ufffdb\ufffdc"


def test_names_of_rows_are_on_one_line_and_no_terminal_obeys_them() -> None:
    [row] = read(read_jsonl, '{"id": "../a\\nb\\u001b[2J\\ud800", "text": "c"}')
    assert row.source.endswith("#../a\\nb\\x1b[2J\\ud800")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_of_numbers_are_numbers_and_others_stay_text(delimiter: str) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(
        [
            *(["id", "text", "year", "price", "zip", "mixed", "big", "none"], ["a", "Ann", "2020", "1.5", "0123", "7", "1" * 30, ""]),
            *(["b", 'Say, "hi";\nor\tnot', "-3", "20", "9876", "x", "2", ""], ["c", "42", "", "", "1", "", "", ""]),
        ]
    )
    first, second, third = read(read_csv, out.getvalue())
    assert first.metadata == {
        "file": "rows",
        "line": 2,
        "id": "a",
        "year": 2020,
        "price": 1.5,
        "zip": "0123",
        "mixed": "7",
        "big": "1" * 30,
    }
    assert [type(value) for value in second.metadata.values()] == [str, int, str, int, float, str, str, str]
    assert (second.text, second.source, third.text) == ('Say, "hi";\nor\tnot', "rows#b", "42")
    assert third.metadata == {"file": "rows", "line": 5, "id": "c", "zip": "1"}


def test_broken_rows_of_csv_are_reported_with_their_lines_and_the_others_are_read() -> None:
    left_out: list[str] = []
    text = 'text,n\n"one\nof two lines",1\ntoo,many,fields\n"bad"quote,2\ntwo,3\n"open,4\nthree,5\n'
    assert [row.text for row in read(read_csv, text, left_out.append)] == ["one\nof two lines", "two", "three"]
    [reason] = left_out
    assert reason.startswith("3 rows are left out, in lines 4, 5, 7; the first: it has 3 fields and the header 2")


def test_a_quote_that_is_never_closed_in_every_line_takes_no_time() -> None:
    left_out: list[str] = []
    read(read_csv, "text,n\nfine,1\n" + '"a" b,"\n' * 3001, left_out.append)
    assert len(left_out) == 1


def test_a_field_may_be_as_long_as_a_book() -> None:
    [row] = read(read_csv, "text\n" + "word " * 100_000)
    assert len(row.text) == 499_999


def test_names_that_come_twice_or_not_at_all_are_dealt_with() -> None:
    [row] = read(read_csv, "\ufeffquestion,,question\nWhy?,So.,twice\n")
    assert row.text == "question: Why?\ncolumn 2: So."
    assert read(read_csv, "a,b\n1.50,x\n")[0].text == "a: 1.50\nb: x"


@settings(deadline=None)
@given(st.sampled_from([read_jsonl, read_csv]), st.text(st.sampled_from('a1,;\t"{}[]:\\\n\r \ud800é'), max_size=60))
def test_whatever_is_in_a_file_of_rows_it_is_read_or_reported(reader: Reader, text: str) -> None:
    data = text.encode("utf-8", "replace")
    left_out: list[str] = []
    try:
        rows = list(reader(SourceFile("rows", data, left_out.append)))
    except Unreadable:
        assert not left_out
        return
    assert len({row.source for row in rows}) == len(rows)
    assert rows or left_out


MODULE = '''#!/usr/bin/env python
"""What the module does.

And more.
"""

import os


class Cat(Animal, metaclass=Meta):
    """
    A cat.

    Parameters
    ----------
    name : str
    """

    def __init__(self): pass

    async def purr(self, loud: bool = False, *more: int) -> str:
        r"""Purrs \\loudly."""

        def inner():
            "Within."


class Undocumented:
    @property
    def tail(self): "One line."


if os.name == "nt":
    def only_here(): """Under a condition."""
else:
    try:
        def elsewhere(): """In a try."""
    except ImportError: pass
raise SystemExit("must not run")
'''


def test_docstrings_stand_under_the_names_of_what_they_describe() -> None:
    [document] = read(read_python, MODULE)
    heads = [line for line in document.text.split("\n") if line.startswith("#")]
    assert heads == [
        *("# rows", "## class Cat(Animal)", "### purr(self, loud: bool=False, *more: int) -> str", "#### inner()"),
        *("## class Undocumented", "### tail(self)", "## only_here()", "## elsewhere()"),
    ]
    passages = {str(passage.metadata["heading"]).split(" > ")[-1]: passage for passage in reversed(Chunker(8, 0).chunk(document))}
    lines = MODULE.split("\n")
    assert "class Cat" in lines[int(passages["class Cat(Animal)"].metadata["line"]) - 1]
    assert "def tail" in lines[int(passages["tail(self)"].metadata["line"]) - 1]
    assert passages["tail(self)"].metadata["heading"] == "rows > class Undocumented > tail(self)"
    assert "must not run" not in document.text
    assert document.lines is not None
    by_text = dict(zip(document.text.split("\n"), document.lines, strict=True))
    for text in ("A cat.", "name : str", "And more.", "Purrs \\loudly.", "Within."):
        assert text in lines[by_text[f"    {text}"] - 1]


@pytest.mark.parametrize("text", ["", "x = 1\n", "# only a comment", "def f(): pass", '""', '"   "'])
def test_a_python_file_without_docstrings_is_no_document(text: str) -> None:
    assert read(read_python, text) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"print 'old'", r"line 1: Missing parentheses"),
        (b"def f(:\n", "line 1: invalid syntax"),
        (b"# coding: no-such\n", "unknown encoding"),
        (b'"""caf\xe9"""', "not Python|invalid or missing encoding"),
        (b'"a\0b"', "null bytes|source code"),
        (b"(" * 5000, "too many nested|MemoryError|not Python"),
    ],
)
def test_what_is_no_python_is_reported(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as caught:
        list(read_python(SourceFile("file.py", data, pytest.fail)))
    assert "None" not in str(caught.value)


def test_a_declared_encoding_and_the_name_of_a_package_are_used() -> None:
    data = '# -*- coding: latin-1 -*-\n"""Café."""'.encode("latin-1")
    [document] = read_python(SourceFile("pets/__init__.py", data, pytest.fail))
    assert document.text == "# pets\n\n    Café.\n"
