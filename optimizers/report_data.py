"""What a report of a finetuning run shows, as values, and how its numbers are written.

Knows no page and no terminal: `report_page` and `report` show the same values in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from homefire.optimizers.statistics import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRow:
    """One stage of the run and what it cost."""

    name: str
    seconds: float
    tokens_per_second: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One model on the test split."""

    name: str
    accuracy: float
    """Share of right answers, 0 to 1; higher is better."""
    interval: Interval
    valid_outputs: int
    """Answers that parse to the signature's types."""
    total: int


@dataclass(frozen=True, slots=True)
class LossPoint:
    """Loss at one training step; lower is better."""

    step: int
    loss: float
    validation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedExample:
    """A test example that was answered differently after the run."""

    text: str
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePrediction:
    """A typed prediction: names and values as they are to be shown."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything that a report shows."""

    title: str
    subtitle: str
    model: str
    adapter: str
    machine: str
    created: datetime
    promoted: bool
    gate: str
    """Why the adapter was promoted or not, in one sentence."""
    scores: Sequence[ScoreRow]
    """The base model first, the finetuned one last, on the same examples."""
    p_value: float | None
    """Of the exact McNemar test between the first and the last score; none where it was not made."""
    stages: Sequence[StageRow]
    loss: Sequence[LossPoint]
    labels: Sequence[str]
    confusion_before: Mapping[tuple[str, str], int]
    """Examples by true label and answer."""
    confusion_after: Mapping[tuple[str, str], int]
    changed: Sequence[ChangedExample]
    """All examples whose answer changed: mended, broken, and those that are still wrong."""
    samples: Sequence[SamplePrediction] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    """What the adapter was made from: base model, data hash, hyperparameters."""
    settings: Mapping[str, str] = field(default_factory=dict)
    use_in_python: str = ""
    use_in_shell: Sequence[str] = ()

    @property
    def gain(self) -> float:
        """Accuracy of the last score less that of the first, -1 to 1."""
        return self.scores[-1].accuracy - self.scores[0].accuracy

    @property
    def mended(self) -> list[ChangedExample]:
        """Wrong before, right after."""
        return [example for example in self.changed if example.after == example.label != example.before]

    @property
    def broken(self) -> list[ChangedExample]:
        """Right before, wrong after."""
        return [example for example in self.changed if example.before == example.label != example.after]


def gain_in_points(data: ReportData) -> str:
    """The gain in percentage points, with its sign."""
    return f"{100 * data.gain:+.1f} points"


def p_value_in_words(value: float | None) -> str:
    """The p value with its test."""
    if value is None:
        return "not tested"
    return "p < 0.0001, exact McNemar" if value < 0.0001 else f"p = {value:.4f}, exact McNemar"


def interval_in_percent(interval: Interval) -> str:
    """Both ends of an interval of shares."""
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"


def speed(stage: StageRow) -> str:
    """Tokens per second, empty where none were counted."""
    return "" if stage.tokens_per_second is None else f"{stage.tokens_per_second:,.0f}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
