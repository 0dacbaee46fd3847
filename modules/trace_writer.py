"""Writes runs to a trace store behind the program: a bounded queue, one thread, many runs in a transaction.

Knows no program. Whatever happens to the disk, the program goes on: what cannot be written is counted, and the user is told once.
"""

from __future__ import annotations

import atexit
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from homefire.configs.console import note
from homefire.engine.threads import without_block
from homefire.errors import HomefireError
from homefire.modules.redaction import Redact, Redaction
from homefire.modules.stored_trace import Rows, Run
from homefire.modules.trace_database import connect, is_locked, remove_old, write

_QUEUE = 2000
_BATCH = 256
_LINGER_SECONDS = 0.2
"""Runs that end so soon after each other are written together."""
_FLUSH_SECONDS = 30.0
_LOCKED_ATTEMPTS = 3
_SWEEP_SECONDS = 600.0
_SWEEP_SHARE = 1 / 20
"""Share of the size limit that is written before old runs are looked for."""


class TraceWriter:
    """The way of runs to the file.

    Args:
        path: The file.
        limit_bytes: About as much is kept.
        limit_seconds: Older runs are removed.
        redact: What is private.
        most_waiting: Runs that may wait to be written; further ones are dropped.
    """

    def __init__(self, path: Path, *, limit_bytes: int, limit_seconds: float, redact: Redact = (), most_waiting: int = _QUEUE) -> None:
        self.path = path
        self.limit_bytes = limit_bytes
        self.limit_seconds = limit_seconds
        self.dropped = 0
        """Runs that found the queue full."""
        self.lost = 0
        """Runs that could not be written."""
        self.problem: str | None = None
        """What went wrong last."""
        self._redact = redact
        self._most = most_waiting
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._told = False
        self._since_sweep = 0
        self._swept = 0.0
        self._process = os.getpid()
        self._queue: queue.Queue[Run | None] = queue.Queue(most_waiting)
        self._writer: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Runs that are not written yet."""
        return self._queue.unfinished_tasks

    def append(self, run: Run) -> None:
        """Takes a run; returns at once."""
        if self._writer is None or self._process != os.getpid():
            self._start()
        try:
            self._queue.put_nowait(run)
        except queue.Full:
            with self._lock:
                self.dropped += 1
            self._tell("the disk does not follow, so some runs are not recorded")

    def flush(self, seconds: float = _FLUSH_SECONDS) -> bool:
        """Waits until all is written or counted as lost; false where that took too long."""
        if self._writer is None or self._process != os.getpid():
            return True
        deadline = time.monotonic() + seconds
        self._hurry.set()
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks:
                left = deadline - time.monotonic()
                if left <= 0 or not self._writer.is_alive():
                    return False
                self._queue.all_tasks_done.wait(min(left, 1.0))
        return True

    def close(self, seconds: float = _FLUSH_SECONDS) -> None:
        """Writes what is waiting, if that does not take too long, and ends the thread; the next run starts another one."""
        atexit.unregister(self.close)
        writer = self._writer
        if writer is None or self._process != os.getpid():
            return
        if self.flush(seconds):
            self._queue.put(None)
            writer.join(seconds)
            self._writer = None
        else:
            self._tell(f"{self.waiting} runs could not be written in {seconds:g} seconds")

    def _start(self) -> None:
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()  # forked: what waits is written by the process that this one was forked from
                self._queue, self._writer, self._hurry = queue.Queue(self._most), None, threading.Event()
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, args=(self._queue,), name="homefire-traces", daemon=True)
                without_block(self._writer.start)
                atexit.register(self.close)

    def _tell(self, problem: str) -> None:
        """Says once that something is wrong."""
        self.problem = problem
        with self._lock:
            told, self._told = self._told, True
        if not told:
            note(f"Traces: {problem} ({self.path}). The program goes on; TraceStore.stats() counts what is lost. This is said once.")

    # Everything below runs on the writer's thread.

    def _write_all(self, waiting: queue.Queue[Run | None]) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while True:
                batch, ended = self._next(waiting)
                try:
                    if batch:
                        connection = self._written(connection, self._rows(batch))
                finally:
                    for _ in range(len(batch) + ended):
                        waiting.task_done()
                if ended:
                    return
        finally:
            if connection is not None:
                connection.close()

    def _next(self, waiting: queue.Queue[Run | None]) -> tuple[list[Run], bool]:
        """Runs that came together, and whether they are the last."""
        batch, item = [], waiting.get()
        if item is not None:
            self._hurry.wait(_LINGER_SECONDS)
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH:
                return batch, False
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                self._hurry.clear()
                return batch, False
        return batch, True

    def _rows(self, batch: Sequence[Run]) -> list[Rows]:
        made = []
        for run in batch:
            try:
                redaction = Redaction(self._redact) if self._redact else None
                if redaction is not None:
                    redaction.learn_run(run)
                made.append(run.rows(dict_of if redaction is None else redaction.clean))
            except Exception as error:
                self._lose(1, f"a run could not be described: {type(error).__name__}: {error}")
        return made

    def _written(self, connection: sqlite3.Connection | None, rows: Sequence[Rows]) -> sqlite3.Connection | None:
        """Writes rows; the connection to go on with, None where a new one is needed."""
        for attempt in range(1, _LOCKED_ATTEMPTS + 1):
            try:
                connection = connection or connect(self.path)
                write(connection, rows)
                self._sweep(connection, sum(row.size for row in rows))
                return connection
            except (sqlite3.Error, HomefireError, OSError) as error:
                if is_locked(error) and attempt < _LOCKED_ATTEMPTS:
                    continue
                self._lose(len(rows), f"{error}")
                if connection is not None:
                    connection.close()
                return None
        return connection

    def _lose(self, count: int, problem: str) -> None:
        with self._lock:
            self.lost += count
        self._tell(problem)

    def _sweep(self, connection: sqlite3.Connection, size: int) -> None:
        """Removes old runs now and then; where that fails, the next time."""
        self._since_sweep += size
        due = self._since_sweep > self.limit_bytes * _SWEEP_SHARE or time.monotonic() - self._swept > _SWEEP_SECONDS
        if not due:
            return
        self._since_sweep, self._swept = 0, time.monotonic()
        try:
            remove_old(connection, self.limit_bytes, time.time() - self.limit_seconds)
        except sqlite3.Error as error:
            self._tell(f"old runs could not be removed: {error}")


def dict_of(body: object) -> object:
    """The body as it is: nothing is private."""
    return body
