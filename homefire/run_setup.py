"""What the options of `eval` and `finetune` mean: the program, its examples, how it is judged, the model and the training settings.

Knows no terminal: whatever is wrong with the options is an error before a model starts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from homefire.configs.console import note
from homefire.configs.load import load, model_name
from homefire.configs.rows_file import Table, check_writable, read_table
from homefire.engine.adapters import AdapterStore
from homefire.engine.lm import LM
from homefire.engine.settings import EngineSettings
from homefire.errors import InputError
from homefire.example_file import choices_of, examples_of
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.settings import context, current
from homefire.modules.signature import Signature
from homefire.optimizers.metrics import Metric, field_match
from homefire.optimizers.train_spec import TrainSettings
from homefire.user_code import fields_of, load_function, load_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options that both commands share say."""

    signature: str
    data: Path
    instructions: str | None = None
    think: bool = False
    choices: Sequence[str] | None = None
    match: Sequence[str] | None = None
    metric: str | None = None
    save: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A program, its examples and how they are judged."""

    program: Module
    examples: list[Example]
    valid: list[Example] | None
    metric: Metric
    judged: str
    """The metric in words."""
    fields: type[Signature]
    """What of the program's fields is in the data."""


def prepare(asked: Asked, *, valid: Path | None = None, limit: int | None = None, seed: int = 0) -> Prepared:
    """Reads the program, the data and the metric, and finds everything that is wrong with them before a model starts.

    Args:
        asked: the options.
        valid: a second file of examples, to judge by.
        limit: most examples to take of the first file, drawn by the seed.
        seed: decides which.

    Raises:
        InputError: the program, the data or the options cannot be used.
        SignatureError: the signature cannot be read.
        DiskError: the rows cannot be saved where they should be.
    """
    if asked.save is not None:
        check_writable(asked.save)
    program = load_program(asked.signature, instructions=asked.instructions, think=asked.think)
    expected = list(dict.fromkeys(name for predictor in program.predictors() for name in predictor.signature.fields))
    tables = [read_table(path, expected) for path in (asked.data, valid) if path is not None]
    _limit_outputs(program, asked.choices or (), tables)
    fields = fields_of(program, tables[0].columns)
    metric, judged = _metric(asked, program, fields, tables)
    examples, *others = (examples_of(table, fields, needs_outputs=asked.metric is None, notice=note) for table in tables)
    judges = others[0] if others else None
    if judges is not None:
        examples = _not_among(examples, judges, asked.data)
    if limit is not None and limit < len(examples):
        chosen = sorted(random.Random(seed).sample(range(len(examples)), limit))
        examples = [examples[index] for index in chosen]
    return Prepared(program=program, examples=examples, valid=judges, metric=metric, judged=judged, fields=fields)


def choose_lm(program: Module, model: str | None, adapter: str | None, config: str | None) -> LM | None:
    """Gives the program the LM that the options name; None where it keeps its own.

    Without options, predictors that have no LM of their own take the one that the user's file configured, otherwise the default one. An
    adapter without a model runs on the model that it was trained for.

    Raises:
        UnknownModel: no such model.
        AdapterError: no such adapter.
        ConfigError: the configuration is wrong.
    """
    if model is adapter is config is None:
        own = all(predictor.lm is not None for predictor in program.predictors())
        return None if own or current().lm is not None else LM()
    settings = load(config, EngineSettings, "engine") if config else EngineSettings()
    named = model or (model_name(config) if config else None)
    ref = None if adapter is None else AdapterStore().resolve(adapter)
    if named is None and ref is not None:
        named = AdapterStore().lineage(ref).base_model
    lm = LM(named, adapter=ref, settings=settings)
    program.set_lm(lm)
    return lm


def running(lm: LM | None) -> AbstractContextManager[None]:
    """A block in which programs run on the LM that was chosen; without one, on what the user's file has set."""
    return nullcontext() if lm is None else context(lm=lm)


def train_settings(config: str | None, **options: Any) -> TrainSettings:
    """The section `train` of the configuration under the options that were given; alpha keeps its ratio to the rank.

    Raises:
        ConfigError: a value is out of its range.
    """
    settings = load(config, TrainSettings, "train") if config else TrainSettings()
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("rank", 0) > 0:
        given["alpha"] = settings.alpha * given["rank"] / settings.rank
    return replace(settings, **given)


def _limit_outputs(program: Module, names: Sequence[str], tables: Sequence[Table]) -> None:
    """Makes the types of these outputs a Literal of what the data hold."""
    for name in names:
        having = [predictor for predictor in program.predictors() if name in predictor.signature.output_fields]
        if not having:
            outputs = {output for predictor in program.predictors() for output in predictor.signature.output_fields}
            raise InputError(f"--choices {name} is no output of the program. Its outputs are: {', '.join(sorted(outputs))}.")
        for predictor in having:
            found = choices_of(tables, predictor.signature.output_fields[name])
            predictor.signature = predictor.signature.with_updated_fields(name, Literal[found])


def _metric(asked: Asked, program: Module, fields: type[Signature], tables: Sequence[Table]) -> tuple[Metric, str]:
    """The metric, and what it is in words."""
    if asked.metric is not None:
        if asked.match:
            raise InputError("--match and --metric were both given; each says how answers are judged. Leave one out.")
        return load_function(asked.metric, 2), asked.metric
    for name in asked.match or ():
        if name not in fields.output_fields:
            known = ", ".join(fields.output_fields)
            raise InputError(f"--match {name} is no output of the program. Its outputs are: {known}. For anything else use --metric.")
    unjudged = {"reasoning"} if isinstance(program, ChainOfThought) else set()
    outputs = [name for name in fields.output_fields if name not in unjudged]
    names = asked.match or [name for name in outputs if name in tables[0].columns] or outputs[:1]
    for table in tables:
        for name in names:
            table.column(name, "Answers are compared with that column. Choose others with --match, or judge with --metric.")
    return field_match(*names), " and ".join(names)


def _not_among(examples: list[Example], judges: Sequence[Example], path: Path) -> list[Example]:
    """The examples whose inputs are not among those to judge by, for what was learnt by heart proves nothing."""
    known = {repr(sorted(example.inputs().items())) for example in judges}
    kept = [example for example in examples if repr(sorted(example.inputs().items())) not in known]
    if len(kept) < len(examples):
        note(f"{path}: {len(examples) - len(kept)} rows are also in --valid and were left out of the training.")
    if not kept:
        raise InputError(f"All rows of {path} are also in --valid, so there is nothing to train on. Give other rows to judge by.")
    return kept
