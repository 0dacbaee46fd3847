"""Training for real: the same adapter however often a run is interrupted or killed, and clear errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from homefire.engine.request import Message
from homefire.errors import DiskError, InputError, TrainingError
from homefire.optimizers.train_child import INTERRUPTED
from homefire.optimizers.train_lora import COMPLETE, last_checkpoint
from homefire.optimizers.train_spec import TrainEvent, TrainResult, TrainRow, TrainSettings, TrainSpec
from homefire.optimizers.trainer import train

SETTINGS = TrainSettings(rank=4, batch_size=4, epochs=2, checkpoint_every=1, max_tokens=120, learning_rate=2e-3)
AREAS = ("sockets", "dates", "sorting")

# No main guard on purpose: that is how users write scripts.
SCRIPT = """
import json, sys
from pathlib import Path
from homefire.optimizers.train_spec import TrainRow, TrainSpec
from homefire.optimizers.trainer import train

folder = Path(sys.argv[1])
spec = TrainSpec.from_json(json.loads((folder / "spec.json").read_text()))
rows, held_out = ([TrainRow.from_json(row) for row in part] for part in json.loads((folder / "rows.json").read_text()))
train(spec, rows, held_out, runs_dir=folder / "runs", on_event=lambda event: print(event.kind, event.step, flush=True))
"""


def row(number: int) -> TrainRow:
    question = Message("user", f"Name the area of the library. Text: function number {number} for {AREAS[number % 3]}.")
    return TrainRow(prompt=(question,), completion=json.dumps({"area": AREAS[number % 3]}))


ROWS = [row(number) for number in range(10)] + [TrainRow(prompt=(Message("user", "too long " * 150),), completion="x")]
HELD_OUT = [row(number) for number in range(20, 24)]


def spec_of(base: Path) -> TrainSpec:
    return TrainSpec.of(base="small", base_path=base, rows=ROWS, validation_rows=HELD_OUT, settings=SETTINGS)


@pytest.fixture(scope="module")
def whole(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, list[TrainEvent]]:
    """A run that nothing disturbed."""
    events: list[TrainEvent] = []
    return train(spec_of(smollm2), ROWS, HELD_OUT, runs_dir=tmp_path_factory.mktemp("whole"), on_event=events.append), events


def test_learns_and_tells(whole: tuple[TrainResult, list[TrainEvent]]) -> None:
    result, events = whole
    assert result.validation_loss_before is not None
    assert result.validation_loss_after is not None
    assert result.validation_loss_after < 0.8 * result.validation_loss_before
    assert (result.rows, result.dropped_rows, result.steps) == (10, 1, 6)
    assert [point.step for point in result.losses] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events if event.kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert [event.message for event in events if event.kind == "dropped"] == [
        "1 of 11 training rows are longer than max_tokens=120 and are left out."
    ]
    assert result.peak_memory > 10**8
    assert not (result.run_dir / "checkpoints").exists()


def test_adapter_names_the_base_and_no_path(whole: tuple[TrainResult, list[TrainEvent]], smollm2: Path) -> None:
    text = (whole[0].adapter / "adapter_config.json").read_text()
    assert json.loads(text)["base_model_name_or_path"] == "small"
    assert str(smollm2) not in text


def test_finished_run_is_not_trained_again(whole: tuple[TrainResult, list[TrainEvent]], smollm2: Path) -> None:
    events: list[TrainEvent] = []
    again = train(spec_of(smollm2), ROWS, HELD_OUT, runs_dir=whole[0].run_dir.parent, on_event=events.append)
    assert again == whole[0]
    assert not events


def test_interrupted_then_killed_run_gives_the_same_adapter(
    whole: tuple[TrainResult, list[TrainEvent]], smollm2: Path, tmp_path: Path
) -> None:
    spec, runs = spec_of(smollm2), tmp_path / "runs"
    run_dir = runs / spec.run_id

    def interrupt(event: TrainEvent) -> None:
        if event.kind == "step" and event.step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, ROWS, HELD_OUT, runs_dir=runs, on_event=interrupt)
    saved = last_checkpoint(run_dir / "checkpoints")
    assert saved is not None

    _kill_script_after(spec, tmp_path, "saved")
    with FileLock(run_dir / ".lock", timeout=20):  # the training process died with the script
        later = last_checkpoint(run_dir / "checkpoints")
    assert later is not None
    assert later.name > saved.name
    shutil.copytree(later, run_dir / "checkpoints" / "checkpoint-6", ignore=shutil.ignore_patterns(COMPLETE, "optimizer.pt"))

    result = train(spec, ROWS, HELD_OUT, runs_dir=runs)
    assert result.resumed
    assert (result.adapter / "adapter_model.safetensors").read_bytes() == (whole[0].adapter / "adapter_model.safetensors").read_bytes()
    assert result.losses == whole[0].losses
    assert result.validation_loss_after == whole[0].validation_loss_after


def _kill_script_after(spec: TrainSpec, folder: Path, kind: str) -> None:
    (folder / "script.py").write_text(SCRIPT)
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    (folder / "rows.json").write_text(json.dumps([[each.to_json() for each in part] for part in (ROWS, HELD_OUT)]))
    command = [sys.executable, str(folder / "script.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as script:
        assert script.stdout is not None
        assert any(line.startswith(kind) for line in script.stdout)
        script.send_signal(signal.SIGKILL)


def test_half_written_checkpoints_are_removed(tmp_path: Path) -> None:
    for number, complete in ((9, True), (10, True), (11, False)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        if complete:
            (tmp_path / f"checkpoint-{number}" / COMPLETE).write_text('{"seconds": 1}')
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()
    assert last_checkpoint(tmp_path / "none") is None


def test_no_rows_and_wrong_rows(smollm2: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        train(spec_of(smollm2), [], runs_dir=tmp_path)
    with pytest.raises(InputError, match="not those of the spec"):
        train(spec_of(smollm2), ROWS[:2], HELD_OUT, runs_dir=tmp_path)


def test_all_rows_too_long(smollm2: Path, tmp_path: Path) -> None:
    long = ROWS[-1:]
    spec = TrainSpec.of(base="small", base_path=smollm2, rows=long, settings=SETTINGS)
    with pytest.raises(InputError, match=r"Every training row is longer than max_tokens=120: the shortest has \d+"):
        train(spec, long, runs_dir=tmp_path)


def test_full_disk(smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly_full = os.statvfs_result((4096, 4096, 1000, 10, 10, 100, 10, 10, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: nearly_full)
    with pytest.raises(DiskError, match="the training run need"):
        train(spec_of(smollm2), ROWS, HELD_OUT, runs_dir=tmp_path)


def test_broken_model_shows_the_end_of_the_log(smollm2: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(smollm2, broken)
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(TrainingError, match=r"(?s)exit code 1\..*resumes it.*log\.txt, ends:\n.*[Ss]afetensor"):
        train(spec_of(broken), ROWS, HELD_OUT, runs_dir=tmp_path / "runs")
    assert INTERRUPTED != 1
