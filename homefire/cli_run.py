"""`homefire eval` and `homefire finetune`: measure a program on a file of examples, and finetune it on them.

Knows no engine's and no trainer's insides: `run_setup` reads what is asked, the optimizers do it, `run_results` shows it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from rich.console import Console

from homefire.configs.console import note
from homefire.configs.rows_file import write_rows
from homefire.errors import InputError
from homefire.optimizers.bootstrap_finetune import BootstrapFinetune
from homefire.optimizers.evaluate import Evaluate
from homefire.optimizers.gate import Gate
from homefire.optimizers.lineage import in_text
from homefire.optimizers.metrics import Metric
from homefire.optimizers.train_spec import TrainSettings
from homefire.run_results import show_evaluation, show_finetuning
from homefire.run_setup import Asked, Prepared, choose_lm, prepare, running, train_settings
from homefire.user_code import load_program

ProgramText = Annotated[
    str, typer.Argument(metavar="SIGNATURE", help="\"text -> label: Literal['a', 'b']\", or FILE.py:NAME of a program or signature.")
]
Data = Annotated[Path, typer.Option(help="Examples: CSV, TSV or JSON Lines with a column for each field.")]
Instructions = Annotated[str | None, typer.Option(help="What the model is told to do.")]
Think = Annotated[bool, typer.Option("--think", help="Reason before the answer (ChainOfThought).")]
Choices = Annotated[
    list[str] | None, typer.Option(metavar="FIELD", help="Only values that the data have for this output are answers. Repeatable.")
]
Match = Annotated[
    list[str] | None, typer.Option(metavar="FIELD", help="Output that must equal the data. Repeatable; default: all with a column.")
]
MetricName = Annotated[
    str | None, typer.Option("--metric", metavar="FILE.py:NAME", help="metric(example, prediction) to use instead of --match.")
]
Teacher = Annotated[str | None, typer.Option(metavar="FILE.py:NAME", help="Program whose answers are learnt, instead of the data's.")]
Model = Annotated[str | None, typer.Option(help="Model to run; without it the program's own, or the default one.")]
Config = Annotated[str | None, typer.Option(help="Preset (laptop, gpu-server) or YAML file.")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only so many rows of --data, drawn by --seed.")]
Save = Annotated[Path | None, typer.Option(help="Save every judged row: .csv, .json or .jsonl.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Examples in flight at once; default: what the engine batches.")]


def evaluate_command(
    signature: ProgramText,
    data: Data,
    instructions: Instructions = None,
    think: Think = False,
    choices: Choices = None,
    match: Match = None,
    metric: MetricName = None,
    model: Model = None,
    adapter: Annotated[str | None, typer.Option(metavar="NAME[@V]", help="LoRA adapter to run with.")] = None,
    config: Config = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Decides which rows --limit draws.")] = 0,
    save: Save = None,
    num_threads: Threads = None,
) -> None:
    """Measure a program on labelled examples: score with its interval, valid outputs, failures, speed."""
    asked = Asked(
        signature=signature, data=data, instructions=instructions, think=think, choices=choices, match=match, metric=metric, save=save
    )
    prepared = prepare(asked, limit=limit, seed=seed)
    with running(choose_lm(prepared.program, model, adapter, config)):
        result = Evaluate(prepared.examples, prepared.metric, num_threads=num_threads)(prepared.program)
        show_evaluation(result, _facts(prepared), Console(highlight=False))
    _save(save, result.records())


def finetune(
    signature: ProgramText,
    data: Data,
    name: Annotated[str, typer.Option(help="Name of the adapter in the store.")],
    valid: Annotated[Path | None, typer.Option(help="Held-out examples to judge by; without them --holdout of --data.")] = None,
    instructions: Instructions = None,
    think: Think = False,
    choices: Choices = None,
    match: Match = None,
    metric: MetricName = None,
    teacher: Teacher = None,
    model: Model = None,
    config: Config = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the examples.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter; alpha changes with it.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples computed at once.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Share of --data to judge by, when there is no --valid; default 0.2.")] = None,
    min_gain: Annotated[float, typer.Option(help="Promote only above this gain of the mean score, 0 to 1.")] = 0.0,
    exclude_demos: Annotated[bool, typer.Option("--exclude-demos", help="Train and serve without the program's demos.")] = False,
    limit: Limit = None,
    seed: Annotated[int | None, typer.Option(help="Decides --limit, the hold-out and the training.")] = None,
    save: Save = None,
    num_threads: Threads = None,
) -> None:
    """Finetune the model behind a program; the new adapter goes into service only if it is better on held-out examples.

    Leaves with 0 also when it is not better. The same command goes on where an interrupted one ended.
    """
    settings = train_settings(config, epochs=epochs, rank=rank, learning_rate=learning_rate, batch_size=batch_size, seed=seed)
    asked = Asked(
        signature=signature, data=data, instructions=instructions, think=think, choices=choices, match=match, metric=metric, save=save
    )
    share = _holdout(holdout, valid)
    prepared = prepare(asked, valid=valid, limit=limit, seed=settings.seed)
    taught_by = None if teacher is None else load_program(teacher)
    optimizer = _optimizer(prepared.metric, name, settings, min_gain, share, exclude_demos, num_threads)
    with running(choose_lm(prepared.program, model, None, config)):
        result = optimizer.run(prepared.program, trainset=prepared.examples, valset=prepared.valid, teacher=taught_by)
        show_finetuning(result, _facts(prepared), Console(highlight=False))
    _save(save, [*result.before.records(run="before"), *result.after.records(run="after")])


def _optimizer(
    metric: Metric, name: str, settings: TrainSettings, min_gain: float, holdout: float, exclude_demos: bool, num_threads: int | None
) -> BootstrapFinetune:
    return BootstrapFinetune(
        metric,
        name=name,
        train_kwargs=asdict(settings),
        gate=Gate(min_gain=min_gain),
        exclude_demos=exclude_demos,
        holdout=holdout,
        num_threads=num_threads,
        seed=settings.seed,
    )


def _save(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        write_rows(path, rows)
        note(f"Saved {len(rows)} rows in {path}.")


def _holdout(share: float | None, valid: Path | None) -> float:
    if share is None:
        return 0.2
    if valid is not None:
        raise InputError("--holdout and --valid were both given; each says what to judge by. Leave one out.")
    if not 0 < share < 1:
        raise InputError(f"--holdout is {share}; a share between 0 and 1 is expected, such as 0.2.")
    return share


def _facts(prepared: Prepared) -> dict[str, str]:
    models = dict.fromkeys(str(predictor.language_model()) for predictor in prepared.program.predictors())
    return {"program": shorten(in_text(prepared.fields), 200), "model": ", ".join(models), "judged by": prepared.judged}
