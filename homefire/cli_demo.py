"""`homefire demo`: the main job on the standard library's docstrings or on a file of the user's own.

Knows no stage of it; `demo` runs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homefire.configs.console import note
from homefire.demo_data import stdlib_docstrings
from homefire.engine.catalogue import DEFAULT_MODEL
from homefire.errors import InputError
from homefire.labelled_file import read_labelled
from homefire.labelled_text import LabelledText, Splits, split

if TYPE_CHECKING:
    from homefire.demo import Task

FULL = (600, 100, 300)
QUICK = (120, 40, 60)
"""Examples for training, validation and test."""


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your own examples: CSV, TSV or JSON Lines. Without it: the docstrings of Python's library.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column with the text; goes with --data.")] = None,
    label: Annotated[str | None, typer.Option(help="Column with the class; goes with --data.")] = None,
    model: Annotated[str, typer.Option(help="Model to finetune; it is fetched when it is not here.")] = DEFAULT_MODEL,
    quick: Annotated[bool, typer.Option("--quick", help="All of it at a small size.")] = False,
    limit: Annotated[int | None, typer.Option(min=30, help="Most examples in all.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training examples.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the adapter in the store.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("homefire-demo"),
    seed: Annotated[int, typer.Option(help="Decides the split, the order of the rows and the training.")] = 0,
) -> None:
    """Measure a typed program on a local model, finetune it, measure again, and write a report."""
    from homefire.demo import print_outcome, run_demo  # brings pydantic, which `homefire --help` does without

    task = (
        _own_task(data, text, label, QUICK if quick else FULL, limit, seed)
        if data
        else _docstring_task(QUICK if quick else FULL, limit, seed)
    )
    train_kwargs = {} if epochs is None else {"epochs": epochs}
    outcome = run_demo(task, model=model, name=name or ("demo-quick" if quick else "demo"), out=out, train_kwargs=train_kwargs, seed=seed)
    print_outcome(outcome)


def _docstring_task(sizes: tuple[int, int, int], limit: int | None, seed: int) -> Task:
    from homefire.demo import Task

    return Task(
        title="Which area of Python's library does a docstring come from?",
        instructions="Name the area of Python's standard library that this docstring comes from.",
        text="docstring",
        label="area",
        splits=_split(stdlib_docstrings(), sizes, limit, seed),
    )


def _own_task(data: Path, text: str | None, label: str | None, sizes: tuple[int, int, int], limit: int | None, seed: int) -> Task:
    if text is None or label is None:
        raise InputError("--data needs the names of two columns: --text COLUMN --label COLUMN.")
    from homefire.demo import Task

    rows = read_labelled(data, text, label, notice=note)
    return Task(
        title=f"{label} of {data.name}",
        instructions=f"Name the {label} of this {text}.",
        text=_identifier(text, "text"),
        label=_identifier(label, "label"),
        splits=_split(rows, sizes, limit, seed),
    )


def _split(rows: list[LabelledText], sizes: tuple[int, int, int], limit: int | None, seed: int) -> Splits:
    share = 1.0 if limit is None else min(1.0, limit / sum(sizes))
    train, validation, test = (max(10, round(share * size)) for size in sizes)
    return split(rows, seed=seed, train=train, validation=validation, test=test)


def _identifier(column: str, otherwise: str) -> str:
    """A column's name as the name of a field."""
    name = "_".join("".join(char if char.isalnum() else " " for char in column).split()).lower()
    return name if name.isidentifier() and not name.startswith("_") else otherwise
