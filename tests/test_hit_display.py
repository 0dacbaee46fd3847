"""Hits on the terminal: what stands where, at any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from homefire.hit_display import place, record, show_hits
from homefire.retrieval.excerpt import Highlighter
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage
from homefire.retrieval.words import Analyzer

LEAVE = Passage(
    id="a1",
    text="# Leave\n\nThirty days of leave a year.\n" + "More words follow here. " * 40,
    source="handbook/leave.md",
    metadata={"line": 12, "heading": "Work > Leave", "page": 3},
)
EVIL = Passage(id="b2", text="\x1b[2Jgone [bold]leave[/bold] :smile:", source="evil\u202e.md")
HITS = [Hit(LEAVE, 0.9, 1, {"fused": 0.9, "bm25": 7.25}), Hit(EVIL, 0.5, 2)]


def printed(width: int, *, terminal: bool = False, whole: bool = False, cited: tuple[str, ...] = ()) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system="standard" if terminal else None, highlight=False)
    show_hits(HITS, Highlighter("days of leave", Analyzer.of()), console, whole=whole, cited=cited)
    return out.getvalue()


def test_a_hit_says_where_it_is_from_and_how_well_it_fits() -> None:
    lines = printed(100).splitlines()
    assert lines[0] == "  1 handbook/leave.md:12  page 3  Work > Leave" + " " * 31 + "fused 0.900  bm25 7.250"
    assert lines[1].startswith("    # Leave · Thirty days of leave a year. More words")
    assert lines[1:5][-1].endswith("…") and lines[5] == ""
    assert lines[6].startswith("  2 evil.md") and lines[6].endswith("score 0.500")
    assert lines[7] == "    \ufffd[2Jgone [bold]leave[/bold] :smile:"


@pytest.mark.parametrize("width", [20, 40, 60, 100, 300])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = printed(width).splitlines()
    assert max(map(len, lines)) <= min(width, 114)
    assert lines == [line.rstrip() for line in lines]


def test_the_query_is_marked_and_so_is_what_an_answer_cites() -> None:
    text = printed(100, terminal=True, cited=("b2",))
    assert "\x1b[1;33mdays\x1b[0m of \x1b[1;33mleave\x1b[0m" in text
    assert text.count("cited") == 1 and text.index("cited") > text.index("evil")
    assert "\x1b[2J" not in text


def test_whole_passages_keep_their_lines() -> None:
    lines = printed(100, whole=True).splitlines()
    assert lines[1:4] == ["    # Leave", "", "    Thirty days of leave a year."]
    assert "".join(lines).count("More words follow here.") >= 35


def test_a_hit_as_json() -> None:
    assert record(HITS[0]) == {
        "rank": 1,
        "score": 0.9,
        "scores": {"fused": 0.9, "bm25": 7.25},
        "id": "a1",
        "source": "handbook/leave.md",
        "position": 0,
        "metadata": LEAVE.metadata,
        "text": LEAVE.text,
    }


def test_a_row_of_a_table_names_its_line_once() -> None:
    row = Passage(id="c3", text="Ada builds engines.", source="people.csv#L2", metadata={"line": 2})
    assert place(row).plain == "people.csv#L2"
    assert place(LEAVE).plain.startswith("handbook/leave.md:12")
