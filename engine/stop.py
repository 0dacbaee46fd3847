"""A way to stop what other threads wait for: on Ctrl-C and on a failure, requests in flight are cancelled.

Knows no engine and no program; a Stop travels in the context of the calls it belongs to.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class Stop:
    """Cancels the futures it watches, at once and from then on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._futures: set[Future[Any]] = set()

    def watch(self, future: Future[Any]) -> None:
        """Cancels the future when `stop` is called, or now if it was."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._futures.add(future)
        if stopped:
            future.cancel()
        else:
            future.add_done_callback(self._forget)

    def stop(self) -> None:
        """Cancels everything that is watched."""
        with self._lock:
            self._stopped = True
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)


_stop: ContextVar[Stop | None] = ContextVar("homefire_stop", default=None)


def current_stop() -> Stop | None:
    """What can stop the calls of this context."""
    return _stop.get()


@contextmanager
def stoppable() -> Iterator[Stop]:
    """A Stop for all calls of this block and of contexts copied in it."""
    stop = Stop()
    token = _stop.set(stop)
    try:
        yield stop
    finally:
        _stop.reset(token)
