"""The one console: progress bars and notes on standard error, and silence for the libraries underneath.

Knows nothing of what is running; it imports none of the libraries that it silences.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as RichTask
from rich.text import Text

console = Console(stderr=True, highlight=False)

_LINE_SECONDS = 60.0
_MANY_STEPS = 20

_PRIVATE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
}
_SILENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "GLOO_LOG_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
_LOGGERS = [
    *("vllm", "transformers", "datasets", "huggingface_hub", "trl", "peft", "accelerate", "sentence_transformers", "faiss"),
    *("torch", "torch.distributed", "torch._dynamo", "torch._inductor", "outlines", "outlines_core", "xgrammar"),
    *("filelock", "fsspec", "httpx", "httpcore", "urllib3"),
]


def quiet_libraries() -> None:
    """Turns off the log floods of the libraries, and everything that would phone home.

    To be called before those libraries are imported. What the user has set in the environment stays as it is; with `HOMEFIRE_VERBOSE=1`
    the logs stay on and only the privacy switches are set.
    """
    for name, value in _PRIVATE.items():
        os.environ.setdefault(name, value)
    if os.environ.get("HOMEFIRE_VERBOSE") == "1":
        return
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)
    for logger in _LOGGERS:
        logging.getLogger(logger).setLevel(logging.ERROR)


def is_quiet() -> bool:
    """Whether the user asked for silence with `HOMEFIRE_QUIET=1`."""
    return os.environ.get("HOMEFIRE_QUIET") == "1"


def note(text: str) -> None:
    """One line for the user, above the bars that are showing."""
    if not is_quiet():
        console.print(text, markup=False, soft_wrap=True)


class Task:
    """One line of progress; may be moved from any thread."""

    def __init__(self, description: str, total: float | None) -> None:
        self.description = description
        self.total = total
        self.completed = 0.0
        self._lock = threading.Lock()

    def advance(self, count: float = 1) -> None:
        """Moves on by `count`."""
        with self._lock:
            self.completed += count
        self._show()

    def update(self, *, completed: float | None = None, total: float | None = None, description: str | None = None) -> None:
        """Sets what is given and leaves the rest."""
        with self._lock:
            self.completed = self.completed if completed is None else completed
            self.total = self.total if total is None else total
            self.description = self.description if description is None else description
        self._show()

    def _show(self) -> None:
        """Nothing to draw where there is no terminal."""


class _Lines(Task):
    """A plain line now and then, for logs of long work."""

    def __init__(self, description: str, total: float | None) -> None:
        super().__init__(description, total)
        self._start = time.monotonic()
        self._next = self._start + _LINE_SECONDS

    def _show(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_SECONDS
            rate = self.completed / (now - self._start)
            left = _pace(self.total, rate, (self.total - self.completed) / rate) if self.total and rate else ""
            note(f"{self.description}: {self.steps()}{left or f'{now - self._start:.0f} s'}")

    def end(self) -> None:
        """The last line."""
        note(f"{self.description}: {self.steps()}{time.monotonic() - self._start:.1f} s")

    def steps(self) -> str:
        return "" if self.total is None else f"{self.completed:g} of {self.total:g}, "


class _Bar(Task):
    def __init__(self, description: str, total: float | None, progress: Progress) -> None:
        super().__init__(description, total)
        self._progress = progress
        self.id: TaskID = progress.add_task(description, total=total)

    def _show(self) -> None:
        self._progress.update(self.id, description=self.description, total=self.total, completed=self.completed)


class _Steps(MofNCompleteColumn):
    def render(self, task: RichTask) -> Text:
        """Steps done of steps in all; nothing where their number is not known."""
        return Text("") if task.total is None else super().render(task)


class _Pace(ProgressColumn):
    """How fast it goes and how long it will take."""

    max_refresh = 0.5

    def render(self, task: RichTask) -> Text:
        """Nothing until that can be said."""
        left = task.time_remaining
        return Text("" if task.speed is None or left is None or task.finished else _pace(task.total, task.speed, left))


def _pace(total: float | None, rate: float, seconds_left: float) -> str:
    """Nothing for a handful of steps: they are rarely alike."""
    if total is None or total < _MANY_STEPS:
        return ""
    minutes, seconds = divmod(round(seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{rate:,.{0 if rate >= 10 else 1}f}/s, {left} left"


@dataclass
class _Display:
    """The bars on the screen: one display for all threads, there as long as there is a bar."""

    progress: Progress | None = None
    bars: int = 0


_display = _Display()
_display_lock = threading.Lock()


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Task]:
    """Shows how far something is: a bar on a terminal, else plain lines, one at the start, one at the end and one a minute between.

    Of 20 steps or more it also says how many are done a second, and how long the rest will take.

    Args:
        description: What is being done, as in "Loading smollm2-135m".
        total: Steps in all; without it a spinner turns.
    """
    if is_quiet():
        yield Task(description, total)
    elif console.is_terminal and not console.is_jupyter:
        bar = _open_bar(description, total)
        try:
            yield bar
        finally:
            _close_bar(bar)
    else:
        note(f"{description} ...")
        task = _Lines(description, total)
        yield task
        task.end()


def _open_bar(description: str, total: float | None) -> _Bar:
    with _display_lock:
        if _display.progress is None:
            text, bar = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24)
            _display.progress = Progress(
                SpinnerColumn(), text, bar, _Steps(), TimeElapsedColumn(), _Pace(), console=console, transient=True
            )
            _display.progress.start()
        _display.bars += 1
        return _Bar(description, total, _display.progress)


def _close_bar(bar: _Bar) -> None:
    with _display_lock:
        _display.bars -= 1
        if _display.progress is not None:
            _display.progress.remove_task(bar.id)
            if _display.bars == 0:
                _display.progress.stop()
                _display.progress = None
