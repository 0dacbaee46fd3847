"""Runs calls in threads, in order, with progress; on Ctrl-C and on a failure what is in flight is cancelled.

Knows no programs; every call sees the settings of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import TypeVar

from homefire.engine.stop import stoppable

T = TypeVar("T")


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
