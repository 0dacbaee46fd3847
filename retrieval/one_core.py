"""Small work on one core: threads on which torch uses one core each.

Knows no search: work is any function. Waking more cores takes longer than a search needs, and searches come from many threads at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")


class _Process:
    """The threads of this process, started when they are first needed."""

    lock = threading.Lock()
    threads: ThreadPoolExecutor | None = None
    forks_handled = False


def on_one_core(work: Callable[[A], T], items: Sequence[A]) -> list[T]:
    """What `work` gives for each item, in order; each on one core, several items on several cores.

    Torch, called within, uses one core. At most as many items are worked on as there are cores, however many threads call. Work must not
    call this again.
    """
    threads = _Process.threads or _start()
    if len(items) == 1:
        return [threads.submit(work, items[0]).result()]
    return list(threads.map(work, items))


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
            _Process.threads = threads
        return _Process.threads


def _forget() -> None:
    """A forked process has none of the threads, and maybe a lock that nobody will open."""
    _Process.lock = threading.Lock()
    _Process.threads = None
