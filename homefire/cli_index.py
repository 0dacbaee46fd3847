"""`homefire index`: an index made of files and folders, changed, and looked after.

Knows no way of searching and no server; their commands stand in files of their own.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from homefire.cli_index_search import IndexPath, Json, search
from homefire.cli_index_serve import serve
from homefire.cli_index_tune import tune
from homefire.errors import InputError

if TYPE_CHECKING:
    from homefire.index_building import BuildReport
    from homefire.retrieval.index import Index

app = typer.Typer(no_args_is_help=True, help="Make documents searchable: build an index, change it, search it, serve it.")

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, and folders with all below them.", show_default=False)]
Methods = Annotated[
    list[str] | None,
    typer.Option("--method", metavar="dense|bm25|late", help="Way of searching to have; default: all that there can be. Repeatable."),
]


@app.command("build")
def build_command(
    index: IndexPath,
    paths: Paths,
    encoder: Annotated[
        str | None,
        typer.Option(help="Model of one vector a passage: a name, a folder, or hash (no model). Default: all-minilm-l6-v2."),
    ] = None,
    token_encoder: Annotated[
        str | None, typer.Option(help="ColBERT model for late interaction; default: the token vectors of the encoder.", show_default=False)
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Of each number of a token vector: 1, 2 or 4; default: 2.", show_default=False)] = None,
    methods: Methods = None,
    tokens: Annotated[int | None, typer.Option(min=2, help="Most tokens of a passage; default: what suits the encoder.")] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Tokens that a passage shares with the one before.")] = None,
    language: Annotated[str | None, typer.Option(help="Of the texts, for stems and stop words; none for neither.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Build it anew even if it was built with another encoder.")] = False,
    as_json: Json = False,
) -> None:
    """Make the index equal to files and folders.

    A new index is made; in one that is there unchanged documents are skipped,
    changed ones replaced and vanished ones removed. An interrupted build goes
    on when the same command is run again. Reads text, Markdown,
    reStructuredText, HTML, PDF, DOCX, JSON Lines, CSV and the docstrings of
    Python.
    """
    from homefire.index_building import Wanted, build

    wanted = Wanted(
        encoder=encoder, token_encoder=token_encoder, bits=bits, methods=methods, tokens=tokens, overlap=overlap, language=language
    )
    _show(build(index, paths, wanted, replace=replace), as_json)


@app.command("add")
def add_command(index: IndexPath, paths: Paths, as_json: Json = False) -> None:
    """Add files and folders, or take them in again where they have changed; nothing is removed."""
    from homefire.index_building import add

    _show(add(index, paths), as_json)


@app.command("remove")
def remove_command(
    index: IndexPath,
    names: Annotated[list[str], typer.Argument(metavar="ID", help="Sources of documents, or ids of single passages.", show_default=False)],
) -> None:
    """Remove documents by their sources, or passages by their ids."""
    from homefire.retrieval.index import Index

    opened = Index.open(index)
    before = len(opened)
    documents, passages = _sorted(opened, names)
    removed = opened.remove(documents)
    opened.delete(passages)
    gone = before - len(opened)
    words = [f"{count:,} {what}{'s' * (count != 1)}" for count, what in ((removed, "document"), (gone, "passage"))]
    typer.echo(f"Removed {words[0]}, {words[1]} in all; {len(opened):,} left.")


@app.command("stats")
def stats_command(index: IndexPath, as_json: Json = False) -> None:
    """Show what an index holds, what it takes, and how it is searched."""
    from homefire.index_display import show_stats
    from homefire.retrieval.index import Index

    stats = Index.open(index).stats()
    if as_json:
        print(json.dumps(asdict(stats), indent=2, ensure_ascii=False))
    else:
        show_stats(stats, Console(highlight=False))


@app.command("check")
def check_command(
    index: IndexPath,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be made again from what is whole.")] = False,
    as_json: Json = False,
) -> None:
    """Compare every file of an index with what was written. Leaves with 1 when something is damaged, or lost by a repair."""
    from homefire.index_display import show_check
    from homefire.retrieval.index_check import check_index

    report = check_index(index, repair=repair)
    if as_json:
        print(json.dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        show_check(report, index, Console(highlight=False), repair=repair)
    if report.lost_passages or (not report.is_whole and not repair):
        raise typer.Exit(1)


app.command("search")(search)
app.command("serve")(serve)
app.command("tune")(tune)


def _show(report: BuildReport, as_json: bool) -> None:
    from homefire.index_display import show_build

    if as_json:
        print(json.dumps(asdict(report), indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False)
    show_build(report, console)
    console.print()
    console.print(Text(f'Search it: homefire index search {report.stats.directory} "..."', style="dim"), soft_wrap=True)


def _sorted(index: Index, names: list[str]) -> tuple[list[str], list[str]]:
    """Sources of documents, and ids of passages. A folder stands for all documents below it, a table for all of its rows.

    A path means the same however it is written, as it does where documents are added.

    Raises:
        InputError: there is nothing of that name.
    """
    sources = index.sources()
    documents: set[str] = set()
    passages: list[str] = []
    for name in names:
        plain = name.removesuffix("/")
        ways = {plain, Path(os.path.relpath(plain)).as_posix()} if plain else set()
        found = {source for source in sources for way in ways if source == way or source.startswith((way + "/", way + "#"))}
        if found:
            documents |= found
        elif index.get([name]):
            passages.append(name)
        else:
            near = difflib.get_close_matches(plain, sources, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(
                f"The index {str(index.directory)!r} holds no document {name!r} and no passage of that id.{hint} Sources stand in what "
                "homefire index search shows."
            )
    return sorted(documents), passages
