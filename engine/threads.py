"""Threads that see what the block they were started in has set, as tasks of asyncio do by themselves.

Knows no variable: those of homefire have names that begin with `homefire_`, and no others are touched.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, ContextVar, copy_context
from functools import wraps
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Values = tuple[tuple[ContextVar[Any], Any], ...]

_NOTHING_SET = Context()


class _Installed:
    """Whether threads carry values yet."""

    lock = threading.Lock()
    done = False


def carry_into_threads() -> None:
    """From now on a thread sees what was set where `start` was called, and work in a pool what was set where it was submitted.

    A thread or a piece of work keeps that until it ends, also when the block has ended meanwhile, as a task of asyncio does. A pool's
    thread keeps nothing from one piece of work to the next, so work that is submitted behind a block does not see the block.
    """
    if _Installed.done:
        return
    with _Installed.lock:
        if not _Installed.done:
            threading.Thread.start = _carrying_start(threading.Thread.start)  # type: ignore[assignment,method-assign]
            ThreadPoolExecutor.submit = _carrying_submit(ThreadPoolExecutor.submit)  # type: ignore[method-assign]
            _Installed.done = True


def without_block(function: Callable[[], T]) -> T:
    """The result of a function that sees no block; for what outlives the block, as an engine's thread does."""
    return Context().run(function)


def _set_here() -> Values:
    """What is set in this context."""
    return tuple((variable, value) for variable, value in copy_context().items() if variable.name.startswith("homefire_"))


def _carrying_start(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def carrying(self: threading.Thread) -> None:
        values = _set_here()
        if not values:
            return start(self)
        run = self.run

        def run_with_values() -> None:
            self.__dict__.pop("run", None)
            for variable, value in values:
                variable.set(value)
            run()

        self.__dict__["run"] = run_with_values
        try:
            start(self)
        except BaseException:
            self.__dict__.pop("run", None)
            raise

    return carrying


def _carrying_submit(submit: Callable[..., Future[T]]) -> Callable[..., Future[T]]:
    @wraps(submit)
    def carrying(self: ThreadPoolExecutor, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return submit(self, _run_with, _set_here(), fn, args, kwargs)

    return carrying


def _run_with(values: Values, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    """Runs a function with exactly these values set, and leaves the thread as it was."""
    wanted = {variable for variable, _ in values}
    masked = [(variable, _NOTHING_SET.run(variable.get)) for variable, _ in _set_here() if variable not in wanted]
    tokens = [(variable, variable.set(value)) for variable, value in (*values, *masked)]
    try:
        return function(*args, **kwargs)
    finally:
        for variable, token in tokens:
            variable.reset(token)


class SharedCall(Generic[T]):
    """A slow call that many tasks may wait for: made once at a time, on a thread of its own."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._future: Future[T] | None = None

    async def result(self) -> T:
        """What the call under way returns, or a new one. A task that is cancelled leaves the call to the others."""
        with self._lock:
            future = self._future
            if future is None or future.done():
                future = self._future = Future()
                future.set_running_or_notify_cancel()
                thread = threading.Thread(target=self._run, args=(future,), name="homefire-start", daemon=True)
                without_block(thread.start)
        return await asyncio.wrap_future(future)

    def _run(self, future: Future[T]) -> None:
        try:
            future.set_result(self._function())
        except BaseException as error:
            future.set_exception(error)
