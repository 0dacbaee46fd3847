"""From plain programs to awaited ones and back: `asyncify`, `syncify`, and asynchronous streams in a plain loop.

Knows no model. What is given up is cancelled: a task that is cancelled stops the calls that its program has in flight.
"""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import wraps
from types import MethodType
from typing import Any, ClassVar

from homefire.engine.stop import stoppable
from homefire.errors import InputError
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.settings import current

_END = object()


class _Workers:
    """The threads of `asyncify`, by how many the settings allow; made when they are first needed."""

    lock = threading.Lock()
    pools: ClassVar[dict[int, ThreadPoolExecutor]] = {}


def asyncify(program: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """A plain program that can be awaited: each call runs on a thread, with the settings of the task; cancelling the task stops it.

    As many calls run at once as `async_max_workers` of the settings says; more wait for one of them to end.

    >>> answer = await asyncify(program)(question="...")  # doctest: +SKIP
    """

    async def call(*args: Any, **kwargs: Any) -> Any:
        with stoppable() as stop:
            running = _pool().submit(copy_context().run, lambda: program(*args, **kwargs))
            try:
                return await asyncio.wrap_future(running)
            except asyncio.CancelledError:
                stop.stop()
                raise

    return call


def syncify(program: Any, in_place: bool = True) -> Any:
    """A program that is written to be awaited, `aforward` alone, which can then be called plainly.

    Args:
        program: A module, or an asynchronous function.
        in_place: Whether the module itself is changed; otherwise a module around it is returned.

    Raises:
        InputError: it is neither.
    """
    if isinstance(program, Module):
        if not in_place:
            return Synchronous(program)
        vars(program)["forward"] = MethodType(_forward, program)
        return program
    if not inspect.iscoroutinefunction(program):
        raise InputError(f"syncify got {program!r}; expected a module with `aforward`, or an asynchronous function.")

    @wraps(program)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run_plainly(program(*args, **kwargs))

    return call


class Synchronous(Module):
    """Calls a module's `aforward` without awaiting it."""

    def __init__(self, program: Module) -> None:
        self.program = program

    def forward(self, **inputs: Any) -> Prediction:
        """What the module answers."""
        made: Prediction = run_plainly(self.program.acall(**inputs))
        return made


def run_plainly(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, also where an event loop runs already: then on a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(coroutine))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name="homefire-syncify", daemon=True).start()
    return done.result()


def in_background(items: AsyncIterator[Any]) -> Iterator[Any]:
    """The items of an asynchronous iterator, which runs on a thread and an event loop of its own; leaving the loop ends it."""
    found: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    task: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def pump() -> None:
        own = asyncio.current_task()
        assert own is not None
        task.set_result((asyncio.get_running_loop(), own))
        try:
            async for item in items:
                found.put((item, None))
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()

    def run() -> None:
        try:
            asyncio.run(pump())
        except BaseException as error:
            found.put((_END, error))
        else:
            found.put((_END, None))

    thread = threading.Thread(target=copy_context().run, args=(run,), name="homefire-stream", daemon=True)
    thread.start()
    try:
        while True:
            item, error = found.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        loop, own = task.result()
        if thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(own.cancel)
        thread.join()


def is_asynchronous(program: Any, said: bool) -> bool:
    """Whether a program is to be awaited: a function that is asynchronous always, a module where that is said."""
    return said or inspect.iscoroutinefunction(program)


def _forward(self: Module, **inputs: Any) -> Any:
    return run_plainly(self.aforward(**inputs))


def _pool() -> ThreadPoolExecutor:
    most = current().async_max_workers
    with _Workers.lock:
        if most not in _Workers.pools:
            _Workers.pools[most] = ThreadPoolExecutor(most, thread_name_prefix="homefire-asyncify")
        return _Workers.pools[most]
