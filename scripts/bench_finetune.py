"""The main job on Banking77 (77 intents). Run it with: .venv/bin/python scripts/bench_finetune.py --data FOLDER --limit 600

FOLDER holds train.csv and test.csv with the columns text and category. Without --limit the whole set is used, which wants a GPU.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from homefire.configs.console import note
from homefire.demo import Task, print_outcome, run_demo
from homefire.errors import InputError
from homefire.labelled_file import read_labelled
from homefire.labelled_text import LabelledText, Splits, normalised

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with train.csv and test.csv.")],
    model: Annotated[str, typer.Option(help="Model to finetune.")] = "smollm2-135m",
    limit: Annotated[
        int | None, typer.Option(min=231, help="Most training examples; a tenth more for the gate, half as many to test.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training examples.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("homefire-demo/banking77"),
    seed: Annotated[int, typer.Option(help="Decides the split, the order and the training.")] = 0,
) -> None:
    """Measure, finetune, measure again, and print the table."""
    task = Task(
        title="Which of 77 things does a bank's customer want?",
        instructions="Name the intent of this message to a bank.",
        text="message",
        label="intent",
        splits=banking77(data, limit, seed),
    )
    name = f"banking77-{limit or 'all'}"
    print_outcome(run_demo(task, model=model, name=name, out=out, train_kwargs={"epochs": epochs}, seed=seed))


def banking77(folder: Path, limit: int | None, seed: int) -> Splits:
    """The set's own split, its training part divided for the gate, balanced over the intents when it is limited."""
    train = read_labelled(folder / "train.csv", "text", "category", notice=note)
    known = {normalised(row.text) for row in train}
    test = [row for row in read_labelled(folder / "test.csv", "text", "category", notice=note) if normalised(row.text) not in known]
    if len({row.label for row in train}) != 77:
        raise InputError(f"{folder} has {len({row.label for row in train})} intents; Banking77 has 77.")
    wanted = limit or len(train)
    drawn = _balanced(train, wanted + wanted // 10, seed)
    gate = len(drawn) // 11
    return Splits(
        train=tuple(drawn[gate:]), validation=tuple(drawn[:gate]), test=tuple(_balanced(test, wanted // 2 if limit else len(test), seed))
    )


def _balanced(rows: Sequence[LabelledText], count: int, seed: int) -> list[LabelledText]:
    """Rows drawn one from each label in turn, so that any beginning of the list is balanced too."""
    chance = random.Random(seed)
    by_label: defaultdict[str, list[LabelledText]] = defaultdict(list)
    for row in chance.sample(list(rows), len(rows)):
        by_label[row.label].append(row)
    drawn: list[LabelledText] = []
    while len(drawn) < count and any(by_label.values()):
        for members in by_label.values():
            if members and len(drawn) < count:
                drawn.append(members.pop())
    return drawn


if __name__ == "__main__":
    app()
