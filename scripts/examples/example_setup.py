"""What the examples share: options of their command lines, how an error ends one, and how a typed answer is shown.

Knows no program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.pretty import Pretty
from rich.table import Table
from rich.text import Text

import homefire
from homefire.configs.console import note

ModelOption: TypeAlias = Annotated[
    str, typer.Option(help="A name that `homefire models list` shows, a folder, or vllm/NAME, openai/NAME, ...")
]
TokensOption: TypeAlias = Annotated[int, typer.Option(min=16, help="Most tokens of one answer; a better model is worth more.")]


def show(title: str, prediction: homefire.Prediction, *names: str) -> None:
    """Prints fields of a prediction with their types; all of them where none is named."""
    table = Table(title=Text(title), title_justify="left", show_lines=True)
    for column in ("field", "type", "value"):
        table.add_column(column, overflow="fold")
    for name in names or prediction.keys():
        value: Any = prediction[name]
        table.add_row(name, type(value).__name__, Text(value) if isinstance(value, str) else Pretty(value))
    Console().print(table)
    if prediction.cut_off:
        note("An answer reached its token limit and was closed; --max-tokens allows more.")


def run(main: Callable[..., object]) -> None:
    """Runs an example with the arguments of the command line; an error of homefire's is one paragraph."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    try:
        app()
    except homefire.HomefireError as error:
        note(f"error: {error}")
        sys.exit(error.exit_code)
