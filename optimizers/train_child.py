"""The process that trains one run directory: reads what the parent wrote, trains, and tells the parent how it goes.

Knows nothing of models and programs: `train_lora` computes. `trainer` starts it. Events leave as JSON lines on its standard output; the
line `stop` on its standard input asks for a checkpoint and the end, and the end of that input ends it at once.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from filelock import FileLock, Timeout

from homefire.configs.console import quiet_libraries
from homefire.configs.home import write_atomic
from homefire.errors import HomefireError, TrainingError
from homefire.optimizers.train_spec import TrainEvent, TrainRow, TrainSpec

INTERRUPTED = 130
"""Exit code of a run that was asked to stop and has saved what it had."""
RESULT = "result.json"
ROWS = "rows.jsonl"
SPEC = "spec.json"
VALIDATION_ROWS = "validation_rows.jsonl"
_PR_SET_PDEATHSIG = 1


class Channel:
    """Events out, the wish to stop in."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.stop = threading.Event()

    def report(self, event: TrainEvent) -> None:
        """Hands an event to the parent."""
        self._send({"event": dataclasses.asdict(event)})

    def fail(self, error: HomefireError) -> None:
        """Hands the error that ends this process to the parent."""
        self._send({"error": type(error).__name__, "message": str(error)})

    def _send(self, record: dict[str, object]) -> None:
        self._out.write(json.dumps(record) + "\n")
        self._out.flush()


def main(arguments: Sequence[str]) -> int:
    """Trains the run in the directory `arguments[0]` on the cores `arguments[1]`, such as `0,1`; `-` leaves the cores as they are."""
    channel = Channel(os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _end_with_parent(channel)
    signal.signal(signal.SIGINT, lambda *_: channel.stop.set())
    run_dir, cores = Path(arguments[0]), arguments[1]
    if sys.platform == "linux" and cores != "-":
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    quiet_libraries()
    try:
        with FileLock(run_dir / ".lock", timeout=10):
            return _train(run_dir, channel)
    except Timeout:
        channel.fail(
            TrainingError(f"Another process is training the run {run_dir.name}. Wait for it: the same call then returns its adapter.")
        )
    except HomefireError as error:
        channel.fail(error)
    return 1


def _end_with_parent(channel: Channel) -> None:
    """Makes sure that no training outlives the process that asked for it, however that one ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        for line in sys.stdin:
            if line.strip() == "stop":
                channel.stop.set()
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _train(run_dir: Path, channel: Channel) -> int:
    from homefire.optimizers.train_lora import train_lora

    result = train_lora(
        TrainSpec.from_json(json.loads((run_dir / SPEC).read_text(encoding="utf-8"))),
        _read_rows(run_dir / ROWS),
        _read_rows(run_dir / VALIDATION_ROWS),
        run_dir=run_dir,
        report=channel.report,
        stop=channel.stop,
    )
    if result is None:
        return INTERRUPTED
    write_atomic(run_dir / RESULT, json.dumps(result.to_json(), indent=1))
    channel.report(TrainEvent(kind="finished", step=result.steps, total_steps=result.steps))
    return 0


def _read_rows(path: Path) -> list[TrainRow]:
    return [TrainRow.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
