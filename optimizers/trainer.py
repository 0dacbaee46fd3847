"""Runs a training spec in a child process, shows its progress, and resumes what was interrupted.

Knows nothing of programs and metrics, and imports no torch: `train_child` and `train_lora` do the computing.

A run has a directory named by its spec. The same spec finds it again: finished, its adapter is returned at once; killed or interrupted, it
goes on from its last checkpoint and gives the adapter it would have given.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from homefire.configs.console import Task, note, progress
from homefire.configs.home import home, require_directory, write_atomic
from homefire.engine.fingerprint import weight_shapes
from homefire.errors import DiskError, HomefireError, InputError, MissingExtra, TrainingError
from homefire.optimizers.train_child import INTERRUPTED, RESULT, ROWS, SPEC, VALIDATION_ROWS
from homefire.optimizers.train_spec import TrainEvent, TrainResult, TrainRow, TrainSpec, check_rows, rows_hash

_LOG = "log.txt"
_PACKAGES = ("torch", "transformers", "datasets", "peft", "trl")
_CHILD_ERRORS: dict[str, type[HomefireError]] = {error.__name__: error for error in (InputError, DiskError)}
_LOG_LINES = 8
"""Last lines of the child's log that an error shows."""


def train(
    spec: TrainSpec,
    rows: Sequence[TrainRow],
    validation_rows: Sequence[TrainRow] = (),
    *,
    runs_dir: Path | None = None,
    on_event: Callable[[TrainEvent], None] | None = None,
) -> TrainResult:
    """Trains the adapter of `spec`, or returns it when the run is already complete.

    Args:
        spec: What to train.
        rows: The rows of the spec.
        validation_rows: Rows whose loss is measured before and after; nothing is learnt from them.
        runs_dir: Where runs live; none is `runs` in homefire's own folder.
        on_event: Called in this thread for everything that happens. What it raises ends the run as Ctrl-C does.

    Raises:
        MissingExtra: a library that trains is not installed.
        InputError: no rows, rows that differ from the spec's, or all rows longer than `max_tokens`.
        DiskError: the run would not fit on the disk.
        TrainingError: the run failed; the same call resumes it.
        KeyboardInterrupt: once the child has saved a checkpoint; the same call resumes it.
    """
    check_rows(rows, "training")
    if validation_rows:
        check_rows(validation_rows, "validation")
    if (rows_hash(rows), rows_hash(validation_rows)) != (spec.data_hash, spec.validation_hash):
        raise InputError("The rows are not those of the spec, which names the run. Make the spec from these rows: TrainSpec.of(rows=...).")
    run_dir = (runs_dir or home() / "runs") / spec.run_id
    if (finished := _finished(run_dir)) is not None:
        return finished
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "Finetuning")
    require_directory(run_dir, "the training run", free_bytes=_bytes_needed(spec))
    write_atomic(run_dir / ROWS, _lines(rows))
    write_atomic(run_dir / VALIDATION_ROWS, _lines(validation_rows))
    write_atomic(run_dir / SPEC, json.dumps(spec.to_json(), indent=1))
    _run_child(spec, run_dir, on_event or (lambda event: None))
    result = _finished(run_dir)
    if result is None:
        raise TrainingError(f"The run {spec.run_id} ended without an adapter. Train again; its log is {run_dir / _LOG}.")
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    return result


def _finished(run_dir: Path) -> TrainResult | None:
    """The result of a complete run; anything less is none."""
    if not (run_dir / RESULT).is_file() or not (run_dir / "adapter" / "adapter_model.safetensors").is_file():
        return None
    try:
        return TrainResult.from_json(json.loads((run_dir / RESULT).read_text(encoding="utf-8")), run_dir)
    except (ValueError, TypeError, KeyError):
        return None


def _lines(rows: Sequence[TrainRow]) -> str:
    return "".join(json.dumps(row.to_json()) + "\n" for row in rows)


def _bytes_needed(spec: TrainSpec) -> int:
    """Three checkpoints (two are kept while the next is written) of an adapter and its two moments in float32, and the adapter itself."""
    adapter = sum(4 * spec.settings.rank * sum(shape) for shape in weight_shapes(spec.base_path).values() if len(shape) == 2)
    return 10 * adapter + 2**26


@dataclass
class _Talk:
    """What the child has said so far."""

    error: HomefireError | None = None
    step: int = 0


def _run_child(spec: TrainSpec, run_dir: Path, on_event: Callable[[TrainEvent], None]) -> None:
    """Starts the child, follows it to its end, and raises what it failed with."""
    talk = _Talk()
    with (run_dir / _LOG).open("ab") as log, _start(run_dir, log) as child:
        try:
            with progress(f"Training {spec.base}") as bar:
                _follow(child, talk, bar, on_event)
        except BaseException as cause:
            _stop(child)
            if isinstance(cause, KeyboardInterrupt):
                note(f"Training stopped after step {talk.step}. The same call goes on from there ({run_dir}).")
            raise
        code = child.wait()
    if talk.error is not None:
        raise talk.error
    if code == INTERRUPTED:
        raise KeyboardInterrupt(f"The training process was asked to stop after step {talk.step}; the same call goes on from there.")
    if code != 0:
        raise TrainingError(_failure(run_dir, code))


def _start(run_dir: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """The child, in a process group of its own so that Ctrl-C reaches this process alone.

    Its threads sleep while they wait: spinning gains nothing on a quiet machine, and makes a step four times slower on a busy one.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {
        "CUDA_VISIBLE_DEVICES": environment.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
        "OMP_WAIT_POLICY": environment.get("OMP_WAIT_POLICY", "PASSIVE"),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    new_group = 0
    if sys.platform == "win32":
        new_group = subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "homefire.optimizers.train_child", str(run_dir.absolute()), _cores()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment,
        start_new_session=sys.platform != "win32",
        creationflags=new_group,
    )


def _cores() -> str:
    """The cores this process may use, as `0,1`; `-` where the system does not say.

    An engine pins its threads to one core each and a child inherits the pinning of the thread that starts it, so all threads are asked.
    """
    if sys.platform != "linux":
        return "-"
    cores: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError):
            cores |= os.sched_getaffinity(int(thread))
    return ",".join(map(str, sorted(cores))) or "-"


def _follow(child: subprocess.Popen[bytes], talk: _Talk, bar: Task, on_event: Callable[[TrainEvent], None]) -> None:
    """Reads events until the child closes its output."""
    assert child.stdout is not None
    for line in child.stdout:
        record = json.loads(line)
        if "error" in record:
            known = _CHILD_ERRORS.get(record["error"], TrainingError)
            talk.error = known(record["message"])
            continue
        event = TrainEvent(**record["event"])
        talk.step = max(talk.step, event.step)
        _show(event, bar)
        on_event(event)


def _show(event: TrainEvent, bar: Task) -> None:
    if event.kind == "dropped":
        note(event.message)
    elif event.kind == "started":
        bar.update(total=event.total_steps, completed=event.step)
    elif event.kind == "step":
        name = bar.description.partition("  ")[0]
        bar.update(completed=event.step, description=f"{name}  loss {event.loss:.3f}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Asks the child to save and leave; whoever asks again does not wait for it."""
    assert child.stdin is not None and child.stdout is not None
    try:
        with suppress(OSError):
            child.stdin.write(b"stop\n")
            child.stdin.flush()
        child.stdout.read()
        child.wait()
    except BaseException:
        child.kill()
        raise


def _failure(run_dir: Path, code: int) -> str:
    lines = (run_dir / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " Signal 9 often means that memory ran out: try a smaller batch_size with more gradient_accumulation." if code == -9 else ""
    last = "\n".join(lines) or "(nothing)"
    return (
        f"The training process {ending}.{hint} The same call resumes it from its last checkpoint. Its log, {run_dir / _LOG}, ends:\n{last}"
    )
