"""Few-shot optimizers: demos for the prompt, from labels or from the program's own successful runs.

Knows no weights. LabeledFewShot and BootstrapFewShot are of DSPy (arXiv 2310.03714, section 4).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.module import Module, Predictor
from homefire.optimizers.bootstrap import bootstrap
from homefire.optimizers.metrics import Metric


class LabeledFewShot:
    """Gives every predictor the same labelled examples as demos.

    Args:
        k: Most demos.
        seed: Decides which.
    """

    def __init__(self, k: int = 16, *, seed: int = 0) -> None:
        self.k = k
        self.seed = seed

    def compile(self, student: Module, *, trainset: Sequence[Example]) -> Module:
        """A copy of the program with demos.

        Raises:
            InputError: the trainset is empty.
        """
        if not trainset:
            raise InputError("LabeledFewShot got an empty trainset; give at least one labelled example.")
        compiled = student.deepcopy()
        for predictor in compiled.predictors():
            predictor.demos = random.Random(self.seed).sample(list(trainset), min(self.k, len(trainset)))
        return compiled


class BootstrapFewShot:
    """Gives every predictor demos from runs whose score passes, then labelled examples up to the limit.

    Args:
        metric: Which runs pass; None lets all pass.
        metric_threshold: Least score that passes; None lets every score above 0 pass.
        max_bootstrapped_demos: Most demos from runs.
        max_labeled_demos: Most demos in all.
        seed: Decides which examples are tried first and which labels are added.
    """

    def __init__(
        self,
        metric: Metric | None = None,
        *,
        metric_threshold: float | None = None,
        max_bootstrapped_demos: int = 4,
        max_labeled_demos: int = 16,
        seed: int = 0,
    ) -> None:
        self.metric = metric
        self.metric_threshold = metric_threshold
        self.max_bootstrapped_demos = max_bootstrapped_demos
        self.max_labeled_demos = max_labeled_demos
        self.seed = seed

    def compile(self, student: Module, *, trainset: Sequence[Example], teacher: Module | None = None) -> Module:
        """A copy of the program with demos; the teacher (by default the student itself) makes the runs.

        Raises:
            InputError: the trainset is empty.
        """
        if not trainset:
            raise InputError("BootstrapFewShot got an empty trainset; give at least one example.")
        order = random.Random(self.seed).sample(list(trainset), len(trainset))
        compiled = student.deepcopy()
        used = self._bootstrap(compiled, teacher or student, order)
        spare = [example for example in order if example not in used]
        for predictor in compiled.predictors():
            room = max(0, self.max_labeled_demos - len(predictor.demos))
            predictor.demos = [*predictor.demos, *(example for example in spare[:room] if _fits(example, predictor))]
        return compiled

    def _bootstrap(self, compiled: Module, teacher: Module, order: Sequence[Example]) -> list[Example]:
        """Adds demos from runs, tried in batches until there are enough; returns the examples that gave them."""
        predictors = dict(compiled.named_predictors())
        used: list[Example] = []
        waiting = iter(order)
        while len(used) < self.max_bootstrapped_demos and (batch := list(islice(waiting, teacher.useful_threads()))):
            for run in bootstrap(teacher, batch, self.metric, labels=False, threshold=self.metric_threshold):
                if not run.passed or len(used) == self.max_bootstrapped_demos:
                    continue
                used.append(run.example)
                last = {step.path: step for step in run.steps}  # a predictor that ran several times shows its last call
                for path, step in last.items():
                    name = path if path in predictors else next(iter(predictors))
                    predictors[name].demos = [*predictors[name].demos, Example({**step.inputs, **step.prediction.toDict()})]
        return used


def _fits(example: Example, predictor: Predictor) -> bool:
    """Whether the example shows this predictor's outputs."""
    return all(name in example for name in predictor.signature.output_fields)
