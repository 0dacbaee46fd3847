"""BootstrapFinetune: a program's own traces become a LoRA adapter, which is served only if it is better.

Knows no trainer's insides. The way: traces, rows, training while the engine sleeps, a new version in the store, evaluation against what is
in service on the same held-out examples, the gate. The method is of DSPy (arXiv 2310.03714, section 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.configs.load import typed
from homefire.engine.adapters import AdapterStore
from homefire.engine.lm import LM
from homefire.engine.request import AdapterRef
from homefire.errors import ConfigError, InputError
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.settings import current
from homefire.optimizers.bootstrap import bootstrap
from homefire.optimizers.dataset import check_labels, hold_out, rows_of
from homefire.optimizers.evaluate import Evaluate, EvaluationResult
from homefire.optimizers.gate import Decision, Gate
from homefire.optimizers.lineage import is_same_training, lineage_of
from homefire.optimizers.metrics import Metric
from homefire.optimizers.report_data import StageRow
from homefire.optimizers.train_spec import TrainResult, TrainRow, TrainSettings, TrainSpec
from homefire.optimizers.trainer import train

Trainer = Callable[[TrainSpec, Sequence[TrainRow], Sequence[TrainRow]], TrainResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneResult:
    """Everything that came out of a run."""

    program: Module
    """The better program: with the new adapter if it was promoted, otherwise as it was."""
    candidate: Module
    """The program with the new adapter, promoted or not."""
    adapter: AdapterRef
    before: EvaluationResult
    """The program in service on the held-out examples."""
    after: EvaluationResult
    """The candidate on the same examples."""
    decision: Decision
    training: TrainResult
    stages: tuple[StageRow, ...]


class BootstrapFinetune:
    """Finetunes the weights behind a program on the program's own successful runs.

    Args:
        metric: Which runs are worth learning from, and how versions are compared. See `metrics`.
        name: Name of the adapter in the store.
        train_kwargs: Training settings, as keywords of `TrainSettings`.
        gate: What a new version must show to be promoted.
        exclude_demos: Train without the program's demos in the prompt, and drop them from the finetuned program.
        holdout: Share of the trainset that is held out when no valset is given.
        num_threads: Examples in flight at once; None takes what the engine batches.
        seed: Decides the split, the order of the rows and the training.
        store: Where adapters are kept.
        trainer: Runs a TrainSpec; for tests.
    """

    def __init__(
        self,
        metric: Metric | None = None,
        *,
        name: str = "finetuned",
        train_kwargs: Mapping[str, Any] | None = None,
        gate: Gate | None = None,
        exclude_demos: bool = False,
        holdout: float = 0.2,
        num_threads: int | None = None,
        seed: int = 0,
        store: AdapterStore | None = None,
        trainer: Trainer = train,
    ) -> None:
        self.metric = metric
        self.name = name
        self.settings = typed({"seed": seed, **(train_kwargs or {})}, TrainSettings, "train_kwargs")
        self.gate = gate or Gate()
        self.exclude_demos = exclude_demos
        self.holdout = holdout
        self.num_threads = num_threads
        self.seed = seed
        self.store = store or AdapterStore()
        self.trainer = trainer

    def compile(
        self, student: Module, *, trainset: Sequence[Example], valset: Sequence[Example] | None = None, teacher: Module | None = None
    ) -> Module:
        """The finetuned program, or the program as it was where finetuning did not help. The student is not modified."""
        return self.run(student, trainset=trainset, valset=valset, teacher=teacher).program

    def run(
        self, student: Module, *, trainset: Sequence[Example], valset: Sequence[Example] | None = None, teacher: Module | None = None
    ) -> FinetuneResult:
        """As `compile`, with everything that came out.

        Args:
            student: The program; all its predictors use one local model.
            trainset: Examples that know their inputs.
            valset: Held-out examples for the gate; None holds out a part of the trainset.
            teacher: A program of the same shape whose runs are learnt from. None: labels supply the outputs that they cover, and the
                student itself gives the others.

        Raises:
            InputError: nothing to train on, labels that do not fit, or a program that cannot be finetuned.
            TrainingError: training failed; the same call resumes it.
            KeyboardInterrupt: interrupted; the same call resumes at the last checkpoint.
        """
        return _Finetuning(self, student).run(trainset, valset, teacher)


class _Finetuning:
    """One run in progress."""

    def __init__(self, options: BootstrapFinetune, student: Module) -> None:
        self.options = options
        self.student = student
        self.lm = _one_lm(student)
        self.path = _local_path(self.lm)
        self.format = current().format
        self.stages: list[StageRow] = []

    def run(self, trainset: Sequence[Example], valset: Sequence[Example] | None, teacher: Module | None) -> FinetuneResult:
        options = self.options
        if options.metric is None:
            raise InputError("BootstrapFinetune needs a metric to tell whether the new weights are better: BootstrapFinetune(metric=...).")
        in_service = self._in_service()
        check_labels(self.student, [*trainset, *(valset or [])], self.format)
        learn, judge = (list(trainset), list(valset)) if valset is not None else hold_out(trainset, options.holdout, options.seed)
        rows = self._rows(learn, teacher, options.metric)
        served = self._with(in_service)
        before = self._evaluate("Evaluate before", served, judge)
        training = self._train(rows)
        adapter = self._store(training, rows)
        candidate = self._with(adapter)
        after = self._evaluate("Evaluate after", candidate, judge)
        decision = _already_served(adapter) if adapter == in_service else options.gate.decide(before, after)
        options.store.record_scores(adapter, {"before": before.mean, "after": after.mean, "p": decision.p_value})
        if decision.promoted and adapter != in_service:
            options.store.promote(
                options.name, adapter.version, scores={"before": before.mean, "after": after.mean}, note=decision.sentence
            )
        return FinetuneResult(
            program=candidate if decision.promoted else served,
            candidate=candidate,
            adapter=adapter,
            before=before,
            after=after,
            decision=decision,
            training=training,
            stages=tuple(self.stages),
        )

    def _rows(self, learn: Sequence[Example], teacher: Module | None, metric: Metric | None) -> list[TrainRow]:
        options, started = self.options, time.perf_counter()
        runs = bootstrap(teacher or self.student, learn, metric, labels=teacher is None, threads=options.num_threads)
        rows = rows_of(runs, self.student, self.format, with_demos=not options.exclude_demos, seed=options.seed)
        passed = sum(run.passed for run in runs)
        self._done("Collect traces", started, detail=f"{passed} of {len(runs)} runs passed, {len(rows)} rows")
        return rows

    def _in_service(self) -> AdapterRef | None:
        """The version that the new one has to beat, when it is of this base model; otherwise the base."""
        adapter = self.options.store.in_service(self.options.name)
        if adapter is not None:
            self.options.store.check_base(adapter, self.path)
        return adapter

    def _with(self, adapter: AdapterRef | None) -> Module:
        copied = self.student.deepcopy()
        for predictor in copied.predictors():
            predictor.lm = predictor.language_model().copy(adapter=adapter, thinking=False)  # rows hold answers, no thoughts
            if self.options.exclude_demos and adapter is not None:
                predictor.demos = []
        return copied

    def _evaluate(self, name: str, program: Module, examples: Sequence[Example]) -> EvaluationResult:
        started = time.perf_counter()
        result = Evaluate(examples, self.options.metric, num_threads=self.options.num_threads)(program)
        self._done(name, started, result.tokens_per_second, f"score {result.score} on {len(examples)} held-out examples")
        return result

    def _train(self, rows: Sequence[TrainRow]) -> TrainResult:
        spec = TrainSpec.of(base=self.lm.model, base_path=self.path, rows=rows, settings=self.options.settings)
        started = time.perf_counter()
        engine = self.lm.engine()
        engine.sleep()
        try:
            result = self.options.trainer(spec, rows, ())
        finally:
            engine.wake()
        seconds = time.perf_counter() - started
        self._done("Finetune", started, result.tokens / max(seconds, 1e-9), f"{result.steps} steps over {result.rows} rows")
        return result

    def _store(self, training: TrainResult, rows: Sequence[TrainRow]) -> AdapterRef:
        """The new version, or the one that the same data and settings made before."""
        lineage = lineage_of(training, self.lm.model, self.path, self.student, self.options.settings, rows)
        store, name = self.options.store, self.options.name
        for version in reversed(store.versions(name) if name in store.names() else []):
            if is_same_training(version.lineage, lineage):
                return version.ref
        return store.add(name, training.adapter, lineage)

    def _done(self, name: str, started: float, speed: float | None = None, detail: str = "") -> None:
        self.stages.append(StageRow(name=name, seconds=time.perf_counter() - started, tokens_per_second=speed, detail=detail))


def _already_served(adapter: AdapterRef) -> Decision:
    reason = f"{adapter} is in service already; the same data and settings made it before."
    return Decision(promoted=True, gain=0.0, p_value=1.0, reason=reason)


def _local_path(lm: LM) -> Path:
    if lm.path is None:
        raise InputError(f"{lm.model} is not a local model, so its weights cannot be trained here. Take a local one: program.set_lm(LM()).")
    return lm.path


def _one_lm(program: Module) -> LM:
    lms = {str(lm): lm for lm in (predictor.language_model() for predictor in program.predictors())}
    if not lms:
        raise InputError("The program has no predictor, so there is nothing to finetune.")
    if len({lm.model for lm in lms.values()}) > 1:
        raise ConfigError(f"The program uses {len(lms)} models ({', '.join(lms)}); finetune one at a time: program.set_lm(...).")
    return next(iter(lms.values()))
