"""Runs a training spec in a child process, shows its progress, and resumes what was interrupted.

Knows nothing of programs and metrics, and imports no torch: `train_child` does the computing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from homefire.optimizers.train_spec import TrainEvent, TrainResult, TrainRow, TrainSpec


def train(
    spec: TrainSpec,
    rows: Sequence[TrainRow],
    validation_rows: Sequence[TrainRow] = (),
    *,
    runs_dir: Path | None = None,
    on_event: Callable[[TrainEvent], None] | None = None,
) -> TrainResult:
    """Trains the adapter of `spec`, or returns it when the run is already complete.

    Raises:
        InputError: no rows, rows that differ from the spec's, or all rows longer than `max_tokens`.
        DiskError: the run would not fit on the disk.
        TrainingError: the run failed; the same call resumes it.
        KeyboardInterrupt: after the child has saved a checkpoint; the same call resumes it.
    """
    raise NotImplementedError
