"""`homefire cache`: what the response cache holds on disk, and emptying it.

Knows only the response cache.
"""

from __future__ import annotations

import typer

from homefire.configs.home import size
from homefire.engine.response_cache import ResponseCache, settings_of_environment

app = typer.Typer(no_args_is_help=True, help="See how much the cache of answers holds, or empty it.")


@app.command("stats")
def stats() -> None:
    """Show where answers are kept, how many there are and what they take."""
    settings = settings_of_environment()
    if settings.folder is None:
        typer.echo("Answers are not kept on disk: HOMEFIRE_CACHE says so.")
        return
    found = ResponseCache(settings).stats().on_disk
    typer.echo(f"{settings.folder}: {found.entries} answers, {size(found.size)} of at most {size(settings.limit_bytes)}")


@app.command("clear")
def clear() -> None:
    """Remove all answers that are kept on disk."""
    settings = settings_of_environment()
    removed = ResponseCache(settings).clear()
    typer.echo(f"Removed {removed.entries} answers, {size(removed.size)}.")
