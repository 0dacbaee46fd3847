"""Work beside the caller: functions on threads of their own, coroutines on an event loop that runs in the background.

Knows no tool and no program. What is started here sees what the caller's context has set, and never keeps the program from ending.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextvars import copy_context
from typing import Any, NoReturn, TypeVar

from homefire.engine.stop import hold_together
from homefire.engine.threads import without_block
from homefire.errors import InputError

T = TypeVar("T")
Late = Callable[[float], NoReturn]
"""Raises the error that says that these seconds were not enough."""


class _Loop:
    """The event loop in the background, made when it is first needed."""

    lock = threading.Lock()
    loop: asyncio.AbstractEventLoop | None = None
    process = 0


def background_loop() -> asyncio.AbstractEventLoop:
    """One event loop for the whole process, on a daemon thread."""
    with _Loop.lock:
        if _Loop.loop is None or _Loop.process != os.getpid():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=_run, args=(loop,), name="homefire-background", daemon=True)
            without_block(thread.start)
            atexit.register(_end, loop, thread, os.getpid())
            _Loop.loop, _Loop.process = loop, os.getpid()
        return _Loop.loop


def in_loop(make: Callable[[], Coroutine[Any, Any, T]], loop: asyncio.AbstractEventLoop | None, instead: str) -> Future[T]:
    """Runs a coroutine on an event loop of another thread.

    Args:
        make: Makes the coroutine.
        loop: Where; None is the loop in the background.
        instead: What to write where the caller is on that loop itself, and would wait for ever.

    Raises:
        InputError: the caller is, or the loop does not run any more.
    """
    target = loop or background_loop()
    try:
        own = asyncio.get_running_loop() is target
    except RuntimeError:
        own = False
    if own:
        raise InputError(f"This call would wait for the event loop that it runs on. Write: {instead}")
    if loop is not None and not loop.is_running():
        raise InputError("The event loop that this tool belongs to has ended, and its session with it. Open another session.")
    return asyncio.run_coroutine_threadsafe(make(), target)


def in_thread(function: Callable[[], T], name: str) -> Future[T]:
    """Runs a function on a daemon thread of its own; cancelling the future gives up its result, not its work."""
    future: Future[T] = Future()
    threading.Thread(target=copy_context().run, args=(_settle, future, function), name=name, daemon=True).start()
    return future


def wait(future: Future[T], seconds: float | None = None, late: Late | None = None) -> T:
    """The result, unless the context is stopped; after `seconds` it is given up and `late` raises."""
    hold_together([future])
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done() or seconds is None or late is None:
            return future.result()
        future.cancel()
        late(seconds)
    except BaseException:
        future.cancel()
        raise


async def wait_async(awaitable: Awaitable[T], seconds: float | None, late: Late) -> T:
    """As `wait`, awaited; cancelling the task cancels what it waits for."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError:
        if limit.expired() and seconds is not None:
            late(seconds)
        raise


def _settle(future: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except BaseException as error:
        failure = error
        _if_wanted(future, lambda: future.set_exception(failure))
    else:
        _if_wanted(future, lambda: future.set_result(result))


def _if_wanted(future: Future[T], settle: Callable[[], None]) -> None:
    try:
        settle()
    except InvalidStateError:
        if not future.cancelled():
            raise


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread, process: int) -> None:
    """Ends the loop with the program, so that nothing is left to complain about."""
    if process != os.getpid():
        return
    loop.call_soon_threadsafe(loop.stop)
    thread.join(2.0)
    if not thread.is_alive():
        loop.close()
