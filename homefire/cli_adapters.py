"""`homefire adapters`: list, show, promote, rollback.

Knows only the adapter store.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from homefire.configs.home import size
from homefire.engine.adapters import AdapterStore, Lineage
from homefire.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List finetuned adapters, see where they come from, and choose which one is in service.")

Name = Annotated[str, typer.Argument(help="Name of an adapter.", show_default=False)]
Version = Annotated[str, typer.Argument(help="An adapter and a version, as NAME@3 or NAME@latest.", show_default=False)]


@app.command("list")
def list_adapters() -> None:
    """List every version of every adapter; a star marks the one in service."""
    store = AdapterStore()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "Adapter", "Base model", "Rows", "Scores", "Size", "Created"):
        table.add_column(column, justify="right" if column in ("Rows", "Size") else "left", overflow="fold")
    for name in store.names():
        for version in store.versions(name):
            lineage = version.lineage
            star, scores = "*" if version.in_service else "", _scores(lineage.scores)
            table.add_row(star, str(version.ref), lineage.base_model, str(lineage.rows), scores, size(version.size), lineage.created)
    if table.row_count:
        _print(table)
    else:
        typer.echo("There are no adapters yet. Make one with: homefire finetune --help")


@app.command("show")
def show_adapter(adapter: Annotated[str, typer.Argument(help="NAME for the version in service, NAME@3 or NAME@latest.")]) -> None:
    """Show what a version was trained from and how it scored, and the history of its name."""
    store = AdapterStore()
    ref = store.resolve(adapter)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in _facts(store.lineage(ref)):
        table.add_row(label, value)
    table.add_row("Folder", str(ref.path))
    for entry in store.history(ref.name):
        version = "base model" if entry.version is None else f"version {entry.version}"
        table.add_row("In service since", " ".join(part for part in (entry.at, version, entry.note, _scores(entry.scores)) if part))
    typer.echo(str(ref))
    _print(table)


@app.command("promote")
def promote_adapter(adapter: Version, note: Annotated[str, typer.Option(help="Why; kept in the history.")] = "") -> None:
    """Put a version in service: from now on its bare name means this version."""
    name, at, _ = adapter.partition("@")
    if not at:
        raise InputError(f"{adapter!r} names no version; expected one such as {adapter}@latest. See: homefire adapters list.")
    store = AdapterStore()
    ref = store.resolve(adapter)
    typer.echo(f"{store.promote(name, ref.version, note=note)} is in service. Undo it with: homefire adapters rollback {name}")


@app.command("rollback")
def rollback_adapter(name: Name, note: Annotated[str, typer.Option(help="Why; kept in the history.")] = "") -> None:
    """Put back what was in service before the last promotion: the version before, or the base model."""
    ref = AdapterStore().rollback(name, note=note)
    typer.echo(f"The base model is in service for {name} again." if ref is None else f"{ref} is in service again.")


def _facts(lineage: Lineage) -> list[tuple[str, str]]:
    return [
        ("Base model", f"{lineage.base_model} ({lineage.base_fingerprint[:12]})"),
        ("Program", lineage.program),
        ("Rows", f"{lineage.rows} ({lineage.data_hash[:12]})"),
        ("Scores", _scores(lineage.scores) or "none recorded"),
        ("Settings", ", ".join(f"{key}={value}" for key, value in lineage.settings.items())),
        ("Seed", str(lineage.seed)),
        ("Created", lineage.created),
        ("Trained with", ", ".join(f"{package} {version}" for package, version in lineage.versions.items())),
    ]


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())


def _print(table: Table) -> None:
    Console(highlight=False, markup=False).print(table)
