"""Traces to training rows: what the served program will be asked, and what it should have answered.

Knows no trainer. Rows are rendered by the very format that serves, for the predictor that will be served.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.format import Format
from homefire.modules.module import Module, Predictor
from homefire.optimizers.bootstrap import Run
from homefire.optimizers.train_spec import TrainRow


def check_labels(program: Module, examples: Sequence[Example], format: Format) -> None:
    """Sees to it that labels are values of the outputs they belong to.

    Raises:
        InputError: some are not; the first five are named, with what the outputs take.
    """
    wrong: list[str] = []
    for predictor in program.predictors():
        outputs = predictor.signature.output_fields
        for index, example in enumerate(examples):
            labels = example.labels().toDict()
            if not all(name in labels for name in outputs):
                continue
            try:
                format.answer(predictor.signature, labels)
            except InputError as error:
                wrong.append(f"example {index}: {error}")
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise InputError(
            f"{len(wrong)} labels do not fit the program's outputs{more}. Correct the data or the signature. " + " ".join(wrong[:5])
        )


def rows_of(runs: Sequence[Run], program: Module, format: Format, *, with_demos: bool, seed: int) -> list[TrainRow]:
    """One row for every step of the runs that passed, without duplicates, shuffled by the seed.

    Args:
        runs: What a teacher did; its predictors have the same paths as those of `program`.
        program: The program that will be served with the adapter: its instructions and demos are in the rows.
        format: The format that will serve.
        with_demos: Whether the rows have the program's demos in front, as the prompts will.
        seed: Decides the order.

    Raises:
        InputError: no run passed, or every row has the same completion, so that there is nothing to learn.
    """
    predictors = dict(program.named_predictors())
    rows: dict[TrainRow, None] = {}
    for run in runs:
        if run.passed:
            for step in run.steps:
                rows[_row(predictors[_path(step.path, predictors)], step.inputs, step.prediction.toDict(), format, with_demos)] = None
    if not rows:
        failures = [run.error for run in runs if run.error]
        hint = (
            f" {len(failures)} runs failed, the first with: {failures[0]}"
            if failures
            else " Give labels, a better teacher, or a more lenient metric."
        )
        raise InputError(f"There is nothing to train on: none of {len(runs)} runs passed the metric.{hint}")
    if len({row.completion for row in rows}) == 1:
        only = next(iter(rows)).completion
        raise InputError(f"All {len(rows)} training rows have the same answer, {only!r}: nothing to learn. Give examples of other answers.")
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return shuffled


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Splits examples into those to train on and those to judge by; equal inputs are never on both sides.

    Raises:
        InputError: too few examples for both.
    """
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(hashlib.sha256(repr(sorted(example.inputs().items())).encode()).hexdigest(), []).append(example)
    keys = list(groups)
    random.Random(seed).shuffle(keys)
    held = max(1, round(share * len(keys)))
    if len(keys) - held < 1:
        raise InputError(f"{len(examples)} examples are too few to train on some and judge by others. Give more, or a valset.")
    train = [example for key in keys[held:] for example in groups[key]]
    return train, [example for key in keys[:held] for example in groups[key]]


def _row(predictor: Predictor, inputs: Mapping[str, object], outputs: Mapping[str, object], format: Format, with_demos: bool) -> TrainRow:
    demos = [demo.toDict() for demo in predictor.demos] if with_demos else []
    return TrainRow(prompt=format.render(predictor.signature, demos, inputs), completion=format.answer(predictor.signature, outputs))


def _path(path: str, predictors: Mapping[str, Predictor]) -> str:
    if path in predictors:
        return path
    if path == "self" and len(predictors) == 1:
        return next(iter(predictors))
    raise InputError(
        f"The teacher has the predictor {path!r}, but the program has {', '.join(predictors) or 'none'}. They need the same shape."
    )
