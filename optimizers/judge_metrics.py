"""Metrics in which a language model judges: how much of an answer agrees with a reference, is complete, and is grounded.

Knows no engine. The judges are typed signatures with numbers from 0 to 1, so that every verdict can be read. The question, reference and
answer that they see are the fields `question` and `response`; a judge is a module, so that it takes an LM, demos and optimizers like any
other program.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from homefire.errors import InputError
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.retrieval.passage import Passage


class Overlap(Signature):
    """Compare a response with the ground truth, by meaning and not by words."""

    question: str = InputField()
    ground_truth: str = InputField()
    response: str = InputField()
    recall: float = OutputField(desc="share of the ground truth that the response says", ge=0, le=1)
    precision: float = OutputField(desc="share of the response that the ground truth says", ge=0, le=1)


class IdeaOverlap(Signature):
    """List the key ideas of a response and of the ground truth, say which they share, then measure."""

    question: str = InputField()
    ground_truth: str = InputField()
    response: str = InputField()
    ground_truth_ideas: list[str] = OutputField(desc="key ideas of the ground truth", max_length=12)
    response_ideas: list[str] = OutputField(desc="key ideas of the response", max_length=12)
    shared: str = OutputField(desc="which ideas they share")
    recall: float = OutputField(desc="share of the ground truth's ideas that are in the response", ge=0, le=1)
    precision: float = OutputField(desc="share of the response's ideas that are in the ground truth", ge=0, le=1)


class Completeness(Signature):
    """Say how much of the ground truth a response covers."""

    question: str = InputField()
    ground_truth: str = InputField()
    response: str = InputField()
    completeness: float = OutputField(desc="share of the ground truth's ideas that the response covers", ge=0, le=1)


class Groundedness(Signature):
    """Say how much of a response is supported by the context, whatever else you know."""

    question: str = InputField()
    context: list[str] = InputField()
    response: str = InputField()
    groundedness: float = OutputField(desc="share of the response's claims that the context supports", ge=0, le=1)


class Judge(Module, ABC):
    """A module that is called as a metric: `judge(example, prediction)` is a score, with a trace it is whether that is enough.

    Args:
        threshold: The least score that is enough, 0 to 1.

    Raises:
        InputError: the threshold is out of its range.
    """

    def __init__(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}; a score between 0 and 1 is expected, such as 0.66.")
        self.threshold = threshold

    @abstractmethod
    def judged(self, example: Example, pred: Example) -> Prediction:
        """The verdict, with a `score` from 0 to 1."""

    def forward(self, **inputs: Any) -> Prediction:
        """As `judged`, so that optimizers see a program."""
        return self.judged(**inputs)

    def __call__(self, example: Example, pred: Example, trace: Any = None) -> float | bool:  # type: ignore[override]
        score = float(super().__call__(example=example, pred=pred))
        return score if trace is None else score >= self.threshold


class SemanticF1(Judge):
    """How much a response and the reference say the same: harmonic mean of precision and recall, as a model judges them.

    Examples have `question` and `response`, predictions have `response`.

    Args:
        threshold: The least score that is enough while an optimizer collects demos.
        decompositional: Whether the judge lists the ideas of both sides first.
    """

    def __init__(self, threshold: float = 0.66, decompositional: bool = False) -> None:
        super().__init__(threshold)
        self.judge = ChainOfThought(IdeaOverlap if decompositional else Overlap)

    def judged(self, example: Example, pred: Example) -> Prediction:
        """The verdict: `score`, `precision`, `recall` and the judge's `reasoning`."""
        question, truth = (_text(example, "example", name) for name in ("question", "response"))
        verdict = self.judge(question=question, ground_truth=truth, response=_text(pred, "prediction", "response"))
        return verdict.copy(score=harmonic(verdict.precision, verdict.recall))


class CompleteAndGrounded(Judge):
    """Whether a response is complete and supported by what was retrieved: harmonic mean of the two, as a model judges them.

    Examples have `question` and `response`, predictions have `response` and `context`.

    Args:
        threshold: The least score that is enough while an optimizer collects demos.
    """

    def __init__(self, threshold: float = 0.66) -> None:
        super().__init__(threshold)
        self.completeness = ChainOfThought(Completeness)
        self.groundedness = ChainOfThought(Groundedness)

    def judged(self, example: Example, pred: Example) -> Prediction:
        """The verdict: `score`, `completeness` and `groundedness`."""
        question, truth = (_text(example, "example", name) for name in ("question", "response"))
        response, context = _text(pred, "prediction", "response"), _context(pred)
        complete = self.completeness(question=question, ground_truth=truth, response=response).completeness
        grounded = self.groundedness(question=question, context=context, response=response).groundedness
        return Prediction(score=harmonic(complete, grounded), completeness=complete, groundedness=grounded)


def harmonic(one: float, other: float) -> float:
    """Harmonic mean of two shares; 0 where one is 0."""
    one, other = min(max(one, 0.0), 1.0), min(max(other, 0.0), 1.0)
    return 2 * one * other / (one + other) if one and other else 0.0


def _text(record: Example, what: str, name: str) -> str:
    if name not in record:
        known = ", ".join(record) or "no field"
        copied = "prediction.copy" if what == "prediction" else "example.copy"
        raise InputError(f"The judge reads the field {name!r}; the {what} has {known}. Give it one: {copied}({name}=...).")
    return str(record[name])


def _context(pred: Example) -> list[str]:
    found: Any = pred.get("context")
    if found is None:
        raise InputError(
            "The judge reads what was retrieved from the prediction's `context`, and there is none. Return it: "
            "homefire.Prediction(response=..., context=passages)."
        )
    passages: Sequence[Any] = [found] if isinstance(found, str | Passage) else found
    return [passage.text if isinstance(passage, Passage) else str(passage) for passage in passages]
