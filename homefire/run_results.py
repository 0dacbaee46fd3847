"""What `eval` and `finetune` show on the terminal.

Knows no command line and no model: it puts results into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from homefire.optimizers.bootstrap_finetune import FinetuneResult
from homefire.optimizers.evaluate import EvaluationResult
from homefire.optimizers.report_data import StageRow, interval_in_percent, speed

_SHOWN_ERRORS = 3


def show_evaluation(result: EvaluationResult, facts: Mapping[str, str], console: Console) -> None:
    """Prints the facts about a run, then what it measured."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in {**facts, **_measures(result)}.items():
        table.add_row(name, Text(value))
    console.print(Group(table, *_errors(result)))


def show_finetuning(result: FinetuneResult, facts: Mapping[str, str], console: Console) -> None:
    """Prints the scores before and after, the stages, what the gate says, and what to do next."""
    heads = Table(box=None, pad_edge=False, show_header=False)
    heads.add_column(style="bold", no_wrap=True)
    heads.add_column(overflow="fold")
    for name, value in facts.items():
        heads.add_row(name, Text(value))
    scores = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Held out", "Before", "After"):
        scores.add_column(name, justify="left" if name == "Held out" else "right")
    before, after = _measures(result.before), _measures(result.after)
    for name in before:
        scores.add_row(name, before[name], after[name])
    console.print(Group(heads, "", scores, *_errors(result.after), "", _stages(result.stages), ""))
    console.print(Text(result.decision.sentence, style="bold green" if result.decision.promoted else "bold yellow"))
    for sentence in _next_steps(result):
        console.print(Text(sentence), soft_wrap=True)


def _measures(result: EvaluationResult) -> dict[str, str]:
    total = len(result.rows)
    return {
        "examples": str(total),
        "score": f"{100 * result.mean:.1f}% ({100 * result.interval.level:.0f}% interval {interval_in_percent(result.interval)})",
        "valid outputs": f"{result.valid}/{total}",
        "failures": str(sum(row.error is not None for row in result.rows)),
        "seconds": f"{result.seconds:.1f}",
        "tokens/s": f"{result.tokens_per_second:,.0f}",
    }


def _errors(result: EvaluationResult) -> list[RenderableType]:
    """The first failures, one a line."""
    failed = [(number, row.error) for number, row in enumerate(result.rows, 1) if row.error is not None]
    return [Text(f"example {number}: {error}", style="red") for number, error in failed[:_SHOWN_ERRORS]]


def _stages(stages: Sequence[StageRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("Stage", "left"), ("Seconds", "right"), ("Tokens/s", "right"), ("Detail", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for stage in stages:
        table.add_row(Text(stage.name), f"{stage.seconds:.1f}", speed(stage), Text(stage.detail))
    return table


def _next_steps(result: FinetuneResult) -> list[str]:
    adapter, name = result.adapter, result.adapter.name
    model = result.candidate.predictors()[0].language_model().model
    if result.decision.promoted:
        return [
            f'{adapter} is in service: homefire.LM("{model}", adapter="{name}").',
            f"Look at it: homefire adapters show {adapter}",
            f"Roll it back: homefire adapters rollback {name}",
        ]
    return [
        f"{adapter} is kept and not in service; what was in service before still is.",
        f"Look at it: homefire adapters show {adapter}",
        f"Try it all the same: --adapter {adapter}",
    ]
