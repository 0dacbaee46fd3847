"""Small work on one core: threads on which torch uses one core each.

Knows no search: work is any function. Waking more cores takes longer than a search needs, and searches come from many threads at once.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")


class _Here(threading.local):
    """What the running thread is."""

    is_worker = False


class _Process:
    """The threads of this process, started when they are first needed."""

    here = _Here()
    lock = threading.Lock()
    threads: ThreadPoolExecutor | None = None
    count = 0
    forks_handled = False


def on_one_core(work: Callable[[A], T], items: Sequence[A]) -> list[T]:
    """What `work` gives for each item, in order; each on one core, several items on several cores.

    Torch, called within, uses one core. At most as many items are worked on as there are cores, however many threads call. Work that calls
    this again goes on where it is.

    Raises:
        Exception: what the work for the first item that failed raised.
    """
    if _Process.here.is_worker:
        return [work(item) for item in items]
    threads = _Process.threads or _start()
    done: list[T] = []
    running: deque[Future[T]] = deque()
    for item in items:
        if len(running) >= 2 * _Process.count:  # no more at once, so that a long list leaves room for the next caller's items
            done.append(running.popleft().result())
        running.append(threads.submit(work, item))
    return done + [one.result() for one in running]


def _start() -> ThreadPoolExecutor:
    """Starts all threads at once.

    `torch.set_num_threads` holds for the thread that calls it, once that has asked for its number, and for threads that ask for theirs
    later; so the number for the latter is put back at once.
    """
    import torch

    with _Process.lock:
        if _Process.threads is None:
            count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            cores = torch.get_num_threads()
            set_threads = torch._C.set_num_threads  # vLLM's CPU engine puts a function that does nothing in place of torch.set_num_threads
            all_there = threading.Barrier(count)

            def one_core() -> None:
                _Process.here.is_worker = True
                torch.get_num_threads()
                all_there.wait()
                set_threads(1)

            threads = ThreadPoolExecutor(count, thread_name_prefix="homefire-core")
            for started in [threads.submit(one_core) for _ in range(count)]:
                started.result()
            set_threads(cores)
            if not _Process.forks_handled and hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget)
            _Process.forks_handled = True
            _Process.count = count
            _Process.threads = threads
        return _Process.threads


def _forget() -> None:
    """A forked process has none of the threads, and maybe a lock that nobody will open."""
    _Process.here = _Here()
    _Process.lock = threading.Lock()
    _Process.threads = None
