"""Texts fall into blocks, which know their headings and where a cut is good."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.retrieval.blocks import FENCED, GAP, GLUED, HEADING, INSIDE, ITEM, LINE, PARAGRAPH, WORD, blocks

LINES = [
    *(
        "word",
        "two words",
        "",
        " \t",
        "# Title",
        "### Deep ##",
        "#no title",
        "- item",
        "12) item",
        "| a | b |",
        "|---|---|",
        "```",
        "````python",
    ),
    *("~~~", "=====", "-----", "Title", "^^^^^", "    indented", "\f", "漢字。", "x" * 50),
]


def read(text: str, longest: int = 2000) -> list[tuple[str, int]]:
    return [(text[block.start : block.end].strip(), block.level) for block in blocks(text, longest)]


def headings(text: str) -> list[str]:
    return list(dict.fromkeys(block.heading for block in blocks(text, 2000)))


def test_paragraphs_items_and_rows_are_blocks() -> None:
    text = "One\nline more.\n\nTwo.\n- first\n  goes on\n- second\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\nAfter."
    assert read(text) == [
        *(("One\nline more.", PARAGRAPH), ("Two.", PARAGRAPH), ("- first\n  goes on", ITEM), ("- second", ITEM)),
        *(("| a | b |", PARAGRAPH), ("| --- | --- |", GLUED), ("| 1 | 2 |", ITEM), ("After.", ITEM)),
    ]


def test_headings_make_a_path_and_hold_on_to_what_they_head() -> None:
    text = "Intro.\n# One ##\nText.\n## Two\n### Three\n\nMore.\n## Four\nEnd."
    assert read(text) == [
        *(("Intro.", PARAGRAPH), ("# One ##", HEADING), ("Text.", GLUED), ("## Two", HEADING), ("### Three", GLUED), ("More.", GLUED)),
        *(("## Four", HEADING), ("End.", GLUED)),
    ]
    assert headings(text) == ["", "One", "One > Two", "One > Two > Three", "One > Four"]


def test_underlined_headings_have_levels_in_the_order_in_which_they_come() -> None:
    text = "=====\nTitle\n=====\n\nPart\n----\n\ntext\n\nPoint\n^^^^^\n\ntext\n\nNext\n----\n\ntext"
    assert headings(text) == ["Title", "Title > Part", "Title > Part > Point", "Title > Next"]


@pytest.mark.parametrize(
    "text",
    [
        "a paragraph\nof two lines\n-----",
        "short\n^^",
        "much longer than its underline\n~~~~",
        "-----\n\ntext\n",
        "| a |\n|---|",
        "a\n\n=====",
    ],
)
def test_what_only_looks_like_an_underline_is_no_heading(text: str) -> None:
    assert headings(text) == [""]


def test_a_very_long_heading_is_shortened_in_the_path_and_a_longer_one_is_none() -> None:
    assert headings("# " + "a" * 150 + "\ntext") == ["a" * 100]
    assert headings("# " + "a" * 300 + "\ntext") == [""]


def test_fenced_code_is_one_block_and_has_no_headings() -> None:
    text = "Before\n````python\n# comment\n\n```\n- x\n````\nAfter"
    found = list(blocks(text, 2000))
    assert [text[block.start : block.end] for block in found] == ["Before\n", "````python\n# comment\n\n```\n- x\n````\n", "After"]
    assert [block.most for block in found] == [GAP, FENCED, GAP]
    assert {block.heading for block in found} == {""}


def test_code_that_is_not_closed_goes_on_to_the_end_and_inline_code_is_no_fence() -> None:
    assert headings("```\n# no heading\n\n# nor this") == [""]
    assert headings("```inline``` code\n\n# heading") == ["", "heading"]


def test_fenced_code_that_is_too_long_is_cut_at_its_lines() -> None:
    text = "```\n" + "# line of code\n" * 100 + "```\n# Heading"
    found = list(blocks(text, 200))
    assert all(text[block.start - 1] == "\n" for block in found[1:])
    assert {block.most for block in found[:-1]} == {GAP}
    assert [block.heading for block in found[-2:]] == ["", "Heading"]


def test_endless_paragraphs_and_lines_are_cut_where_it_hurts_least() -> None:
    assert {level for _, level in read("a line\n" * 1000, 100)[1:]} == {LINE}
    assert {level for _, level in read("word " * 1000, 100)[1:]} == {WORD}
    assert {level for _, level in read("x" * 5000, 100)[1:]} == {INSIDE}


@settings(deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=40), st.integers(20, 300))
def test_blocks_are_the_whole_text_and_not_too_long(lines: list[str], longest: int) -> None:
    text = "\n".join(lines)
    found = list(blocks(text, longest))
    assert "".join(text[block.start : block.end] for block in found) == text
    assert all(len(text[block.start : block.end].strip()) <= max(longest, 210) for block in found)
