"""The report of a finetuning run: an HTML file that loads nothing, and the same numbers as terminal tables.

Knows no engine, program or trainer: it shows the values of `ReportData`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from rich.table import Table
from rich.text import Text

from homefire.errors import DiskError
from homefire.optimizers.report_data import (
    ChangedExample,
    LossPoint,
    ReportData,
    SamplePrediction,
    ScoreRow,
    StageRow,
    gain_in_points,
    interval_in_percent,
    p_value_in_words,
    speed,
)
from homefire.optimizers.report_page import page

__all__ = [
    "ChangedExample",
    "LossPoint",
    "ReportData",
    "SamplePrediction",
    "ScoreRow",
    "StageRow",
    "scores_table",
    "stages_table",
    "write_report",
]


def write_report(data: ReportData, path: str | Path) -> Path:
    """Writes the report as one HTML file, whole or not at all, and returns its path.

    Raises:
        DiskError: the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(page(data))
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DiskError(
            f"The report cannot be written to {path}: {error.strerror}. Choose a directory that can be written, with space left."
        ) from error
    return path


def scores_table(data: ReportData) -> Table:
    """Accuracy with its interval and valid outputs of each model, for the terminal."""
    table = Table(
        title=f"Test split, {data.scores[0].total} examples", caption=_gain_line(data), title_justify="left", caption_justify="left"
    )
    table.add_column("Model")
    for name in ("Accuracy", f"{100 * data.scores[0].interval.level:.0f}% interval", "Valid outputs"):
        table.add_column(name, justify="right")
    for score in data.scores:
        table.add_row(
            Text(score.name), f"{100 * score.accuracy:.1f}%", interval_in_percent(score.interval), f"{score.valid_outputs}/{score.total}"
        )
    return table


def stages_table(data: ReportData) -> Table:
    """Seconds and tokens per second of each stage, for the terminal."""
    table = Table(show_footer=True)
    table.add_column("Stage", footer="Total")
    table.add_column("Seconds", justify="right", footer=f"{sum(stage.seconds for stage in data.stages):.1f}")
    table.add_column("Tokens/s", justify="right")
    table.add_column("Detail")
    for stage in data.stages:
        table.add_row(Text(stage.name), f"{stage.seconds:.1f}", speed(stage), Text(stage.detail))
    return table


def _gain_line(data: ReportData) -> str:
    return f"Gain {gain_in_points(data)}; {p_value_in_words(data.p_value)}; {len(data.mended)} mended, {len(data.broken)} broken."
