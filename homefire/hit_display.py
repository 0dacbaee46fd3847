"""Hits on the terminal: where each passage is from, how well it fits by each method, and its text with the query's words marked.

Knows no command line and no index.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from homefire.retrieval.excerpt import Highlighter, shown
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage

_INDENT = 4
_LINES = 4
"""Lines of a passage that is not shown whole."""
_LONGEST_LINE = 110
"""Characters: longer lines are hard to read."""
_MARKED = "bold yellow"
_ROW = re.compile(r"#L\d+$")
"""End of the source of a table's row: its line."""


def show_hits(hits: Sequence[Hit], highlighter: Highlighter, console: Console, *, whole: bool = False, cited: Collection[str] = ()) -> None:
    """Prints hits, the best one first.

    Args:
        hits: What was found.
        highlighter: Knows the query.
        console: Where to.
        whole: Whether to print each passage whole, with its lines, instead of the piece with the query's words.
        cited: Ids of passages that an answer names; they are marked.
    """
    width = min(console.width, _LONGEST_LINE + _INDENT) - _INDENT
    for hit in hits:
        number = f"{hit.rank:>{_INDENT - 1}} "
        for line in _head(hit, hit.passage.id in cited, width):
            _print(console, line, width, Text(number, style="bold"))
            number = " " * _INDENT
        _print(console, _whole(hit.text, highlighter) if whole else _piece(hit.text, highlighter, width), width, Text(number))
        console.print()


def record(hit: Hit) -> dict[str, Any]:
    """A hit as JSON takes it."""
    passage = hit.passage
    return {
        "rank": hit.rank,
        "score": hit.score,
        "scores": dict(hit.scores),
        "id": passage.id,
        "source": passage.source,
        "position": passage.position,
        "metadata": passage.metadata,
        "text": passage.text,
    }


def place(passage: Passage) -> Text:
    """Where a passage is from: `source:line`, page, headings."""
    values = passage.metadata
    line = f":{values['line']}" if "line" in values and not _ROW.search(passage.source) else ""
    text = Text(shown(passage.source) + line, style="bold cyan")
    if "page" in values:
        text.append(f"  page {values['page']}", style="cyan")
    if values.get("heading"):
        text.append(f"  {shown(str(values['heading']))}", style="italic")
    return text


def _print(console: Console, text: Text, width: int, before: Text) -> None:
    """Prints a text in lines of at most that width, each indented, the first one by what stands before it."""
    for line in text.wrap(console, width):
        line.rstrip()
        console.print(Text.assemble(before, line) if line else "", soft_wrap=True)
        before = Text(" " * _INDENT)


def _head(hit: Hit, cited: bool, width: int) -> list[Text]:
    """The place, and behind it, or below where there is no room, the scores."""
    where, scores = place(hit.passage), _scores(hit)
    if cited:
        where.append("  cited", style="bold green")
    gap = width - where.cell_len - scores.cell_len
    return [Text.assemble(where, " " * gap, scores)] if gap >= 2 else [where, scores]


def _scores(hit: Hit) -> Text:
    named = dict(hit.scores) or {"score": hit.score}
    return Text("  ".join(f"{name} {score:.3f}" for name, score in named.items()), style="dim")


def _piece(text: str, highlighter: Highlighter, width: int) -> Text:
    excerpt = highlighter.excerpt(text, _LINES * width - width // 2)
    return _marked(excerpt.text, excerpt.places)


def _whole(text: str, highlighter: Highlighter) -> Text:
    safe = shown(text)
    return _marked(safe, [(first, last) for first, last, _ in highlighter.places(safe)])


def _marked(text: str, places: Sequence[tuple[int, int]]) -> Text:
    marked = Text(text)
    for first, last in places:
        marked.stylize(_MARKED, first, last)
    return marked
