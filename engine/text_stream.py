"""Text on its way from an engine's thread to whoever reads it piece by piece.

Knows no LM: it hears deltas and follows a future.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from homefire.engine.request import Delta
from homefire.engine.stop import hold_together

Futures = Sequence[Future[Any]]


class TextStream:
    """Hears the text of one completion, and gives it to a loop in this or another thread."""

    def __init__(self) -> None:
        self._pieces: SimpleQueue[str | None] = SimpleQueue()

    def hear(self, delta: Delta) -> None:
        """Takes a piece; thoughts are left out."""
        if not delta.thinking:
            self._pieces.put(delta.text)

    def until_done(self, futures: Futures, seconds: float | None) -> Iterator[str]:
        """The pieces until the futures are done, or for so many seconds."""
        hold_together(futures)
        deadline = None if seconds is None else time.monotonic() + seconds
        _call_when_done(futures, lambda: self._pieces.put(None))
        with suppress(Empty):
            while (piece := self._pieces.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))) is not None:
                yield piece


class AsyncTextStream:
    """Hears the text of one completion, and gives it to a task of the event loop that it was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[str | None] = asyncio.Queue()

    def hear(self, delta: Delta) -> None:
        """Takes a piece; thoughts are left out."""
        if not delta.thinking:
            self._put(delta.text)

    async def until_done(self, futures: Futures, seconds: float | None) -> AsyncIterator[str]:
        """The pieces until the futures are done, or for so many seconds."""
        hold_together(futures)
        deadline = None if seconds is None else self._loop.time() + seconds
        _call_when_done(futures, lambda: self._put(None))
        with suppress(TimeoutError):
            while (piece := await self._next(deadline)) is not None:
                yield piece

    async def _next(self, deadline: float | None) -> str | None:
        async with asyncio.timeout_at(deadline):
            return await self._pieces.get()

    def _put(self, piece: str | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody reads any more
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)


def _call_when_done(futures: Futures, end: Any) -> None:
    """Calls `end` once the future is done; at once where there is none, because the answer was there already."""
    for future in futures:
        future.add_done_callback(lambda _: end())
    if not futures:
        end()
