"""What the research programs search, and how: Python's own documentation, or a folder of yours, behind one small protocol.

Knows no program. A retriever is any function of a query and a number that gives passages, the best one first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeAlias

import typer

import homefire
from homefire.demo_data import stdlib_docstrings

Found: TypeAlias = homefire.Passage | str
Search: TypeAlias = Callable[[str, int], Sequence[Found]]
"""A query and how many; the best passage first."""

ModelOption = Annotated[str, typer.Option(help="A name that `homefire models list` shows, a folder, or vllm/NAME, openai/NAME, ...")]
FolderOption = Annotated[Path | None, typer.Option(help="Your documents; otherwise the documentation of Python's library.")]
EncoderOption = Annotated[str, typer.Option(help="`hash` compares words and needs no model; `all-minilm-l6-v2` compares meanings.")]


def text_of(found: Found) -> str:
    """The text of what a retriever gave."""
    return found if isinstance(found, str) else found.text


def source_of(found: Found) -> str:
    """Where it is from; the text itself where that is all there is."""
    return found if isinstance(found, str) else found.source


def distinct(found: Iterable[Found]) -> list[Found]:
    """Each text once, in order."""
    first: dict[str, Found] = {}
    for one in found:
        first.setdefault(words_of(text_of(one)), one)
    return list(first.values())


def words_of(text: str) -> str:
    """A text as its words alone, so that texts that differ in letter case, spaces or marks are equal."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def numbered(items: Sequence[Any], numbers: Iterable[int]) -> list[Any]:
    """The items that a model chose by their numbers in a list, which begin at 1; numbers without an item are dropped."""
    return [items[number - 1] for number in dict.fromkeys(numbers) if 1 <= number <= len(items)]


def all_of(module: homefire.Module, inputs: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The predictions for all inputs, in parallel and in order; the first failure is raised as `TooManyFailures`."""
    predictions: list[Any] = module.batch(inputs, max_errors=1, disable_progress_bar=True)
    return predictions


def python_library() -> list[homefire.Passage]:
    """A sentence of documentation for each public function, class and method of Python's library."""
    summaries = {row.member: row.text for row in stdlib_docstrings()}
    return [homefire.Passage(id=member, text=f"{member}: {text}", source=member) for member, text in summaries.items()]


def passages_in(folder: Path | None) -> list[homefire.Passage]:
    """The passages of a folder, or of Python's library where none is given."""
    return python_library() if folder is None else list(homefire.read_folder(folder))


def search_in(passages: Sequence[homefire.Passage], encoder: str = "hash") -> Search:
    """Indexes passages in memory and returns how to search them."""
    encodes = homefire.HashEncoder(1024) if encoder == "hash" else homefire.SentenceEncoder(encoder)
    with TemporaryDirectory() as folder:
        index = homefire.Index.build(Path(folder) / "index", passages, encodes)
    return lambda query, k: [hit.passage for hit in index.search([query], k)[0]]


def run(main: Callable[..., None]) -> None:
    """Runs a script's `main` with the arguments of the command line; an error of homefire's is said in one line."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    try:
        app()
    except homefire.HomefireError as error:
        raise SystemExit(str(error)) from error
