"""The main job, end to end: measure a typed program, finetune it on its own traces, measure again, show what changed.

Knows no command line; `cli_demo` reads the options, `report` draws the page.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from homefire.configs.console import console, note
from homefire.configs.home import size
from homefire.engine.adapters import AdapterStore
from homefire.engine.catalogue import pull
from homefire.engine.lm import LM
from homefire.engine.machine import detect
from homefire.engine.settings import EngineSettings
from homefire.labelled_text import LabelledText, Splits
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import Field, make_signature
from homefire.optimizers.bootstrap_finetune import BootstrapFinetune, FinetuneResult
from homefire.optimizers.evaluate import Evaluate, EvaluationResult
from homefire.optimizers.lineage import in_text
from homefire.optimizers.metrics import field_match
from homefire.optimizers.report import ReportData, scores_table, stages_table, write_report
from homefire.optimizers.report_data import ChangedExample, LossPoint, SamplePrediction, ScoreRow, StageRow
from homefire.optimizers.statistics import mcnemar


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A classification task: what to show the model and what to ask of it."""

    title: str
    instructions: str
    text: str
    """Name of the input field."""
    label: str
    """Name of the output field."""
    splits: Splits

    def program(self) -> Predict:
        """One typed step whose output is one of the labels."""
        choices = Literal[tuple(self.splits.labels)]  # type: ignore[valid-type]
        return Predict(
            make_signature([Field(self.text, str, "input"), Field(self.label, choices, "output")], self.instructions), max_tokens=48
        )

    def examples(self, rows: Sequence[LabelledText]) -> list[Example]:
        """Rows as examples of the program."""
        return [Example({self.text: row.text, self.label: row.label}).with_inputs(self.text) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a demo did."""

    data: ReportData
    before: EvaluationResult
    after: EvaluationResult
    finetuning: FinetuneResult
    report: Path


def run_demo(
    task: Task, *, model: str, name: str, out: Path, train_kwargs: dict[str, Any], settings: EngineSettings | None = None, seed: int = 0
) -> Outcome:
    """Runs the whole job and writes `report.html` into `out`.

    Raises:
        InputError: the data cannot be learnt from.
        HomefireError: whatever the stages raise.
    """
    stages: list[StageRow] = []
    lm, program = _start(task, model, settings, stages)
    test = task.examples(task.splits.test)
    samples = _show_samples(task, program, test[:3])
    metric = field_match(task.label)
    optimizer = BootstrapFinetune(metric, name=name, train_kwargs=train_kwargs, seed=seed)
    before = _measure("Test before", program, test, metric, stages)
    result = optimizer.run(program, trainset=task.examples(task.splits.train), valset=task.examples(task.splits.validation))
    stages += result.stages
    after = _measure("Test after", result.candidate, test, metric, stages)
    data = _report(task, lm, samples, before, after, result, stages)
    path = write_report(data, out / "report.html")
    return Outcome(data=data, before=before, after=after, finetuning=result, report=path)


def print_outcome(outcome: Outcome) -> None:
    """The tables of the report, for the terminal."""
    console.print(scores_table(outcome.data), stages_table(outcome.data))
    console.print(outcome.finetuning.decision.sentence, f"Report: {outcome.report}", sep="\n", markup=False)


def _start(task: Task, model: str, settings: EngineSettings | None, stages: list[StageRow]) -> tuple[LM, Predict]:
    started = time.perf_counter()
    pull(model)
    stages.append(StageRow(name="Fetch the model", seconds=time.perf_counter() - started, detail=model))
    started = time.perf_counter()
    lm = LM(model, settings=settings)
    info = lm.info
    stages.append(
        StageRow(name="Start the engine", seconds=time.perf_counter() - started, detail=f"{info.backend}, {info.settings.get('dtype', '')}")
    )
    program = task.program()
    program.lm = lm
    return lm, program


def _show_samples(task: Task, program: Predict, examples: Sequence[Example]) -> list[SamplePrediction]:
    note(f"\nThe program: {in_text(program.signature)}")
    samples = []
    for example, prediction in zip(examples, program.batch(examples), strict=True):
        samples.append(SamplePrediction(inputs={task.text: example[task.text]}, outputs={task.label: str(prediction[task.label])}))
        note(f"  {example[task.text]!r} -> {prediction[task.label]!r} (should be {example[task.label]!r})")
    note("")
    return samples


def _measure(name: str, program: Module, examples: Sequence[Example], metric: Any, stages: list[StageRow]) -> EvaluationResult:
    result = Evaluate(examples, metric)(program)
    detail = f"score {result.score} on {len(examples)} examples"
    stages.append(StageRow(name=name, seconds=result.seconds, tokens_per_second=result.tokens_per_second, detail=detail))
    return result


def _report(
    task: Task,
    lm: LM,
    samples: Sequence[SamplePrediction],
    before: EvaluationResult,
    after: EvaluationResult,
    result: FinetuneResult,
    stages: Sequence[StageRow],
) -> ReportData:
    lineage = AdapterStore().lineage(result.adapter)
    training = result.training
    return ReportData(
        title=task.title,
        subtitle=_sizes(task.splits),
        model=lm.model,
        adapter=str(result.adapter),
        machine=_machine_line(),
        created=datetime.now(UTC),
        promoted=result.decision.promoted,
        gate=result.decision.reason,
        scores=[_score(lm.model, before), _score(str(result.adapter), after)],
        p_value=mcnemar([row.score == 1 for row in before.rows], [row.score == 1 for row in after.rows]).p_value,
        stages=stages,
        loss=[LossPoint(point.step, point.loss) for point in training.losses],
        labels=task.splits.labels,
        confusion_before=_confusion(task, before),
        confusion_after=_confusion(task, after),
        changed=_changed(task, before, after),
        samples=samples,
        lineage={
            "base model": lineage.base_model,
            "training data": f"{lineage.rows} rows, {lineage.data_hash[:12]}",
            "created": lineage.created,
        },
        settings={**{key: str(value) for key, value in lineage.settings.items()}, **lm.info.settings},
        use_in_python=_use_in_python(lm, result),
        use_in_shell=[f"homefire adapters show {result.adapter}", f"homefire adapters rollback {result.adapter.name}"],
    )


def _use_in_python(lm: LM, result: FinetuneResult) -> str:
    adapter = result.adapter.name if result.decision.promoted else str(result.adapter)
    return f'import homefire\n\nhomefire.configure(lm=homefire.LM("{lm.model}", adapter="{adapter}"))'


def _sizes(splits: Splits) -> str:
    return f"{len(splits.train)} examples to train on, {len(splits.validation)} for the gate, {len(splits.test)} for the test"


def _machine_line() -> str:
    machine = detect()
    gpus = ", ".join(gpu.name for gpu in machine.gpus) or "no GPU"
    return f"{machine.cpu_name}, {len(machine.cores)} cores, {size(machine.memory_total)}, {gpus}"


def _score(name: str, result: EvaluationResult) -> ScoreRow:
    return ScoreRow(name=name, accuracy=result.mean, interval=result.interval, valid_outputs=result.valid, total=len(result.rows))


def _answers(task: Task, result: EvaluationResult) -> list[str]:
    return [row.error or "" if row.prediction is None else str(row.prediction[task.label]) for row in result.rows]


def _confusion(task: Task, result: EvaluationResult) -> dict[tuple[str, str], int]:
    truth = [str(row.example[task.label]) for row in result.rows]
    return dict(Counter(zip(truth, _answers(task, result), strict=True)))


def _changed(task: Task, before: EvaluationResult, after: EvaluationResult) -> list[ChangedExample]:
    pairs = zip(before.rows, _answers(task, before), _answers(task, after), strict=True)
    return [
        ChangedExample(text=row.example[task.text], label=str(row.example[task.label]), before=old, after=new)
        for row, old, new in pairs
        if old != new
    ]
