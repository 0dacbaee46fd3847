"""Waiting for engines, and ways to stop it: on Ctrl-C, on a failure and after too long a time, requests in flight are cancelled.

Knows no engine and no program; a Stop travels in the context of the calls it belongs to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from homefire.errors import CallTimeout

T = TypeVar("T")


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


def results(futures: Sequence[Future[T]], seconds: float | None = None, began: float | None = None) -> list[T]:
    """Results of all futures, in order. When one fails, when the context is stopped or after `seconds`, all are cancelled.

    Args:
        futures: What to wait for.
        seconds: How long; None is for ever.
        began: When that time began, on the monotonic clock, if not now.

    Raises:
        CallTimeout: some were not done in time.
        Exception: the first failure that happened.
    """
    hold_together(futures)
    deadline = None if seconds is None else (began or time.monotonic()) + seconds
    try:
        return [future.result(None if deadline is None else max(0.0, deadline - time.monotonic())) for future in futures]
    except BaseException as error:
        late = isinstance(error, TimeoutError) and not all(future.done() for future in futures)
        raise _given_up(futures, error, seconds if late else None) from None


async def aresults(futures: Sequence[Future[T]], seconds: float | None = None, began: float | None = None) -> list[T]:
    """As `results`, for tasks: cancelling the task cancels the futures.

    Args:
        futures: What to wait for.
        seconds: How long; None is for ever.
        began: When that time began, on the monotonic clock, if not now.

    Raises:
        CallTimeout: some were not done in time.
        Exception: the first failure that happened.
    """
    if all(future.done() for future in futures):
        return results(futures)
    hold_together(futures)
    limit = asyncio.timeout(None if seconds is None else seconds - (0.0 if began is None else time.monotonic() - began))
    try:
        async with limit:
            return [await asyncio.wrap_future(future) for future in futures]
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        stopped = task is None or not task.cancelling()
        raise _given_up(futures, CancelledError() if stopped else error, None) from None
    except BaseException as error:
        raise _given_up(futures, error, seconds if limit.expired() else None) from None


def hold_together(futures: Sequence[Future[Any]]) -> None:
    """Lets the stop of this context cancel the futures, and the first that fails cancel the others."""
    if (stop := current_stop()) is not None:
        for future in futures:
            stop.watch(future)
    if len(futures) < 2:
        return
    failed = threading.Event()

    def cancel_others(future: Future[Any]) -> None:
        if (future.cancelled() or future.exception() is not None) and not failed.is_set():
            failed.set()
            for other in futures:
                other.cancel()

    for future in futures:
        future.add_done_callback(cancel_others)


def _given_up(futures: Sequence[Future[Any]], error: BaseException, late_seconds: float | None) -> BaseException:
    """Cancels what is left; what is to be raised: the failure itself rather than the cancellations that followed it."""
    failures = [failure for future in futures if future.done() and not future.cancelled() and (failure := future.exception()) is not None]
    unfinished = sum(not future.done() for future in futures)
    for future in futures:
        future.cancel()
    if late_seconds is not None:
        return CallTimeout(
            f"No answer came within the timeout of {late_seconds:g} seconds: {unfinished} of {len(futures)} requests were not done and are "
            f"cancelled. Allow more time, as in LM(..., timeout={2 * late_seconds:g}), or ask for fewer tokens."
        )
    return failures[0] if isinstance(error, CancelledError) and failures else error
