"""Streams of a program: the pieces of its outputs, field by field, while it runs.

Knows no engine's streams: predictors tell what they read, and whoever iterates gets it. A stream that is given up cancels what it started.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any

from homefire.engine.request import Delta
from homefire.engine.stop import Stop, stoppable
from homefire.modules.example import Prediction
from homefire.modules.format import Format
from homefire.modules.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDelta:
    """A piece of an output that is being written."""

    path: str
    """Dotted path of the predictor in the program, `self` for one that is called alone."""
    field: str
    """Name of the output, or `thinking` for what a reasoning model thinks first."""
    text: str
    """What came, as a user would read it; the pieces of one field are its text."""
    thinking: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """What came of this predictor so far is void: it broke a constraint and is asked again."""

    path: str


Piece = FieldDelta | Restarted
_told: ContextVar[Callable[[Piece], None] | None] = ContextVar("homefire_stream", default=None)


def current_reader() -> Callable[[Piece], None] | None:
    """Who hears the pieces of the calls in this context."""
    return _told.get()


@dataclass(slots=True)
class FieldReader:
    """A Listener that turns the pieces of one completion into the pieces of its fields."""

    dialect: Format
    signature: type[Signature]
    path: str
    tell: Callable[[Piece], None]
    _text: str = ""
    _shown: dict[str, int] = field(default_factory=dict)

    def __call__(self, delta: Delta) -> None:
        if delta.index:
            return
        if delta.thinking:
            self.tell(FieldDelta(path=self.path, field="thinking", text=delta.text, thinking=True))
            return
        self.read(self._text + delta.text)

    def read(self, text: str) -> None:
        """Tells what is new in the answer's text so far."""
        self._text = text
        for name, value in self.dialect.partial(self.signature, text).items():
            shown = self._shown.get(name, 0)
            if len(value) > shown:
                self._shown[name] = len(value)
                self.tell(FieldDelta(path=self.path, field=name, text=value[shown:]))

    def go_on_from(self, prefix: str) -> None:
        """The next pieces follow this text: the whole part of an answer that was cut off."""
        self._text = prefix

    def restart(self) -> None:
        """The next pieces are those of a new answer."""
        self._text = ""
        self._shown.clear()
        self.tell(Restarted(path=self.path))


@contextmanager
def _reading(tell: Callable[[Piece], None]) -> Iterator[None]:
    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


@dataclass(frozen=True, slots=True)
class _Ended:
    made: Any


def stream(call: Callable[[], Any]) -> Iterator[FieldDelta | Restarted | Prediction]:
    """Runs a program on a thread of its own and yields its pieces, then its prediction.

    Raises:
        Exception: what the program raised.
    """
    pieces: queue.SimpleQueue[Piece | _Ended | _Failed] = queue.SimpleQueue()
    begun: Future[Stop] = Future()

    def run() -> None:
        try:
            with stoppable() as stop, _reading(pieces.put):
                begun.set_result(stop)
                pieces.put(_Ended(call()))
        except BaseException as error:
            pieces.put(_Failed(error))

    thread = threading.Thread(target=copy_context().run, args=(run,), name="homefire-stream", daemon=True)
    thread.start()
    try:
        while True:
            piece = pieces.get()
            if isinstance(piece, _Failed):
                raise piece.error
            if isinstance(piece, _Ended):
                yield piece.made
                return
            yield piece
    finally:
        begun.result().stop()
        thread.join()


async def astream(call: Callable[[], Any]) -> AsyncIterator[FieldDelta | Restarted | Prediction]:
    """As `stream`, for a program that is awaited: `call` makes its coroutine."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[Piece | _Ended | _Failed] = asyncio.Queue()

    def tell(piece: Piece) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    async def run() -> None:
        try:
            with _reading(tell):
                made = await call()
            loop.call_soon(pieces.put_nowait, _Ended(made))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            pieces.put_nowait(_Failed(error))

    task = asyncio.ensure_future(run())
    try:
        while True:
            piece = await pieces.get()
            if isinstance(piece, _Failed):
                raise piece.error
            if isinstance(piece, _Ended):
                yield piece.made
                return
            yield piece
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
