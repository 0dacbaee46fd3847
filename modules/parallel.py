"""Runs calls in threads, in order, with progress; on Ctrl-C and on a failure of the system what is in flight is cancelled.

Knows no module; every call sees the settings of the caller.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from homefire.configs.console import Task, console, note, progress
from homefire.engine.stop import Stop, stoppable
from homefire.errors import AdapterError, ConfigError, DiskError, EngineError, HomefireError, InputError, MissingExtra, UnknownModel
from homefire.modules.example import Example

T = TypeVar("T")

SYSTEM_FAILURES = (EngineError, AdapterError, ConfigError, DiskError, MissingExtra, UnknownModel)
"""Errors that the next call would meet too."""
HOPELESS = 10
"""So many calls that fail from the start, one and all, are taken for a broken program."""
_SHOWN = 10
"""Failures that are shown one by one."""


def run_in_threads(calls: Sequence[Callable[[], T]], threads: int, on_done: Callable[[int], None] | None = None) -> list[T]:
    """The results of all calls, in order.

    Args:
        calls: What to run.
        threads: Most calls at once.
        on_done: Called in this thread with the number of calls that have ended.

    Raises:
        Exception: the first failure that happened; requests in flight are cancelled, and calls that had not begun are dropped.
    """
    if not calls:
        return []
    pool = ThreadPoolExecutor(max_workers=min(threads, len(calls)), thread_name_prefix="homefire-program")
    with stoppable() as stop:
        context = copy_context()
        try:
            futures: list[Future[T]] = [pool.submit(context.copy().run, call) for call in calls]
            for ended, future in enumerate(as_completed(futures), 1):
                future.result()
                if on_done is not None:
                    on_done(ended)
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class TooManyFailures(HomefireError):
    """So many calls failed that the others were given up; has what there is."""

    def __init__(self, message: str, results: list[Any], failures: dict[int, Exception]) -> None:
        super().__init__(message)
        self.results = results
        """In order; None where a call failed or was given up."""
        self.failures = failures
        """By the place of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How much may go wrong, and how long it may take."""

    max_errors: int | None = None
    """Failures after which the rest is given up; None gives up only when all of the first ones fail."""
    tracebacks: bool = False
    timeout: float | None = None
    """Seconds after which the last calls are begun a second time; whichever ends first counts."""
    straggler_limit: int = 3
    """Most calls that are begun a second time; while more are left, none is."""


@dataclass(slots=True)
class Outcomes(Generic[T]):
    """What became of all calls."""

    results: list[T | None]
    """In order; None where a call failed."""
    failures: dict[int, Exception] = field(default_factory=dict)
    """By the place of the call."""

    def with_failures(self, examples: Sequence[Any]) -> tuple[list[T | None], list[Any], list[Exception]]:
        """The results, the examples that failed, and why."""
        failures = sorted(self.failures.items())
        return self.results, [examples[place] for place, _ in failures], [error for _, error in failures]


def run_examples(
    program: Callable[..., T], examples: Sequence[Example | Mapping[str, Any]], threads: int, patience: Patience, *, hidden: bool = False
) -> Outcomes[T]:
    """Runs a program on the inputs of examples; raises as `run_all`, and ValueError where no example knows its inputs."""
    if wrong := [place for place, one in enumerate(examples) if not isinstance(one, Example | Mapping)]:
        raise InputError(
            f"Example {wrong[0]} is {examples[wrong[0]]!r:.80}; expected homefire.Example(...).with_inputs(...), or a dict of inputs."
        )
    if examples and all(isinstance(one, Example) and one._input_keys is None for one in examples):
        raise ValueError(f"It is not known which fields of {examples[0]!r} are inputs. Say so: example.with_inputs('name', ...).")

    def call(example: Example | Mapping[str, Any]) -> T:
        return program(**(example.inputs() if isinstance(example, Example) else example))

    with shown("Running", len(examples), hidden=hidden) as task:
        return run_all([partial(call, example) for example in examples], threads, patience, task)


def run_all(calls: Sequence[Callable[[], T]], threads: int, patience: Patience, task: Task | None = None) -> Outcomes[T]:
    """Runs all calls; one that fails leaves the others alone.

    Args:
        calls: What to run.
        threads: Most calls at once.
        patience: How much may go wrong.
        task: Is told how many calls have ended.

    Raises:
        TooManyFailures: see `Patience.max_errors`.
        EngineError: and every other failure of the system, at once.
    """
    run = _Run(calls, patience, task)
    return run.run(threads) if calls else run.outcomes


class _Run(Generic[T]):
    """Calls in flight."""

    def __init__(self, calls: Sequence[Callable[[], T]], patience: Patience, task: Task | None) -> None:
        self.outcomes: Outcomes[T] = Outcomes([None] * len(calls))
        self._calls = calls
        self._patience = patience
        self._task = task
        self._ended: SimpleQueue[tuple[int, Future[T]]] = SimpleQueue()
        self._left = set(range(len(calls)))
        self._stops: dict[int, list[Stop]] = {}
        self._again = False

    def run(self, threads: int) -> Outcomes[T]:
        spare = self._patience.straggler_limit if self._patience.timeout is not None else 0
        pool = ThreadPoolExecutor(max_workers=min(threads, len(self._calls)) + spare, thread_name_prefix="homefire-program")
        with stoppable() as stop:
            try:
                for place in range(len(self._calls)):
                    self._submit(pool, place)
                self._collect(pool)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                stop.stop()
                for one in [one for stops in self._stops.values() for one in stops]:
                    one.stop()
                raise
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        self._say_the_rest()
        return self.outcomes

    def _submit(self, pool: ThreadPoolExecutor, place: int) -> None:
        call = self._calls[place]
        timed = self._patience.timeout is not None
        future = pool.submit(copy_context().run, self._stoppable if timed else self._plain, place, call)
        future.add_done_callback(lambda ended: self._ended.put((place, ended)))

    def _plain(self, place: int, call: Callable[[], T]) -> T:
        return call()

    def _stoppable(self, place: int, call: Callable[[], T]) -> T:
        """A call that can be stopped by itself."""
        with stoppable() as stop:
            self._stops.setdefault(place, []).append(stop)
            return call()

    def _collect(self, pool: ThreadPoolExecutor) -> None:
        timeout = self._patience.timeout
        until = None if timeout is None else time.monotonic() + timeout
        while self._left:
            try:
                place, future = self._ended.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
            except Empty:
                until = None
            else:
                self._take(future, place)
            late = timeout is not None and until is None
            if late and not self._again and 0 < len(self._left) <= self._patience.straggler_limit:
                self._again = True
                for place in sorted(self._left):
                    self._submit(pool, place)

    def _take(self, future: Future[T], place: int) -> None:
        if place not in self._left:
            return
        try:
            result = future.result()
        except (*SYSTEM_FAILURES, CancelledError):
            raise
        except Exception as error:
            self._left.discard(place)
            self._fail(place, error)
        else:
            self._left.discard(place)
            self.outcomes.results[place] = result
        for stop in self._stops.get(place, []):
            stop.stop()
        if self._task is not None:
            self._task.update(completed=len(self._calls) - len(self._left))

    def _fail(self, place: int, error: Exception) -> None:
        failures = self.outcomes.failures
        failures[place] = error
        said = f"{type(error).__name__}: {error}"
        if self._patience.tracebacks:
            note(f"Example {place} failed.\n{''.join(traceback.format_exception(error))}")
        elif len(failures) <= _SHOWN:
            note(f"Example {place} failed: {said}")
        ended = len(self._calls) - len(self._left)
        if self._patience.max_errors is not None and len(failures) >= self._patience.max_errors:
            message = f"{len(failures)} of {len(self._calls)} examples failed, the most that max_errors allows. The last one: {said}"
            raise TooManyFailures(message, list(self.outcomes.results), dict(failures)) from error
        if len(failures) == ended >= HOPELESS:
            message = f"All of the first {ended} examples failed, so the program itself is broken. The last one: {said}"
            raise TooManyFailures(message, list(self.outcomes.results), dict(failures)) from error

    def _say_the_rest(self) -> None:
        if len(self.outcomes.failures) > _SHOWN and not self._patience.tracebacks:
            note(f"{len(self.outcomes.failures)} of {len(self._calls)} examples failed in all.")


@contextmanager
def shown(description: str, total: int, *, hidden: bool) -> Iterator[Task | None]:
    """A progress bar, on a terminal and unless it is hidden."""
    if hidden or not console.is_terminal:
        yield None
    else:
        with progress(description, total=total) as task:
            yield task
