"""`homefire models`: list, pull, where.

Knows only the catalogue.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from homefire.configs.home import size
from homefire.engine.catalogue import ModelEntry, available, pull, where

app = typer.Typer(no_args_is_help=True, help="List, fetch and find models.")


@app.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the models of the catalogue and those on this machine."""
    entries = available()
    if as_json:
        print(json.dumps([_record(entry) for entry in entries], indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Name", "Kind", "Weights", "Disk", "Here", "What it is"):
        table.add_column(column, overflow="fold", no_wrap=column in ("Kind", "Weights", "Disk", "Here"))
    for entry in entries:
        weights = f"{entry.parameters / 1e6:.0f} M" if entry.parameters else ""
        table.add_row(entry.name, entry.kind, weights, size(entry.disk_bytes), "yes" if entry.pulled else "no", entry.summary)
    Console(highlight=False).print(table)


@app.command("pull")
def pull_model(name: Annotated[str, typer.Argument(help="Name of the catalogue, Hugging Face id, or GGUF file.")]) -> None:
    """Fetch a model once; it works offline from then on. Prints its folder."""
    print(pull(name))


@app.command("where")
def where_model(name: Annotated[str, typer.Argument(help="Name of the catalogue, Hugging Face id, folder or GGUF file.")]) -> None:
    """Print the folder of a model that is on this machine."""
    print(where(name))


def _record(entry: ModelEntry) -> dict[str, str | int | bool | None]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "summary": entry.summary,
        "parameters": entry.parameters,
        "disk_bytes": entry.disk_bytes,
        "pulled": entry.pulled,
        "path": str(entry.path) if entry.path else None,
    }
