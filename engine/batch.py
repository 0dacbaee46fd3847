"""One batch of an LM on its way: what the response cache answers, what an engine computes, and what is told and kept of it.

Knows neither whether its caller waits in a thread or in a task, nor what the requests are for. Plain and asynchronous calls take the same
steps: `look_in_memory`, `look_on_disk`, `submit`, wait for `futures`, `complete`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from homefire.engine.callbacks import BaseCallback, Observation, active_callbacks, observed
from homefire.engine.history import History, HistoryEntry, history_limits, process_history, without_media
from homefire.engine.protocol import Engine
from homefire.engine.request import Completion, Delta, Listener, Request
from homefire.engine.response_cache import ResponseCache
from homefire.engine.response_key import response_key
from homefire.engine.usage import count_usage, tokens_of

Answer = Sequence[Completion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose calls they are."""

    lm: object
    model: str
    history: History
    callbacks: tuple[BaseCallback, ...]


class Texts(list[str]):
    """The texts of an answer, as callbacks hear of it, and the completions that they are of."""

    def __init__(self, completions: Answer) -> None:
        super().__init__(one.text for one in completions)
        self.completions = completions


class Batch:
    """Requests that are made together. `with` around the steps sees to it that nothing stays behind when one fails.

    Args:
        listener: Hears the first request's pieces.
        cache: None where no answer may come from it.
        identity: What the engine is, as the cache's keys know it.
    """

    __slots__ = ("_answers", "_began", "_cache", "_caller", "_keys", "_listener", "_missing", "_observations", "_requests", "futures")

    def __init__(
        self, caller: Caller, requests: Sequence[Request], listener: Listener | None, cache: ResponseCache | None, identity: str
    ) -> None:
        self._caller = caller
        self._requests = requests
        self._listener = listener
        self._cache = cache
        self._keys: list[str | None] = [] if cache is None else [response_key(identity, request) for request in requests]
        self._answers: list[Answer | None] = [None] * len(requests)
        self._missing = list(range(len(requests)))
        self._observations: list[Observation] = []
        self._began = time.perf_counter()
        self.futures: list[Future[list[Completion]]] = []
        """Of what was submitted, in order."""

    def __enter__(self) -> Self:
        own = self._caller.callbacks
        if active_callbacks(own):
            self._observations = [observed("lm", self._caller.lm, _inputs(request), own) for request in self._requests]
            for observation in self._observations:
                observation.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            return
        for future in self.futures:
            future.cancel()
        for index, future in zip(self._missing, self.futures, strict=False):
            if future.done() and not future.cancelled() and future.exception() is None:
                self._computed(index, future.result())
        self._conclude(error)

    @property
    def missing(self) -> bool:
        """Whether an engine is needed."""
        return bool(self._missing)

    def look_in_memory(self) -> bool:
        """Takes what the cache has in memory; whether there is something left that files may have."""
        if self._cache is None:
            return False
        self._take(self._cache.in_memory)
        return self._cache.files is not None and any(self._keys[index] for index in self._missing)

    def look_on_disk(self) -> None:
        """Takes what the cache has in files; reads them."""
        if self._cache is not None:
            self._take(self._cache.on_disk)

    def submit(self, engine: Engine) -> None:
        """Hands what is missing to the engine."""
        for index in self._missing:
            listener = self._listener if index == 0 else None
            self.futures.append(engine.submit(self._requests[index], listener))

    def tell_hit(self) -> None:
        """Lets the listener hear an answer that was there already: each completion in one piece."""
        if self._listener is not None and self._answers and (answer := self._answers[0]) is not None:
            for delta in _deltas(answer):
                with suppress(Exception):
                    self._listener(delta)

    def complete(self, computed: Iterable[list[Completion]]) -> list[list[Completion]]:
        """The completions of all requests, in order, with what the engine computed."""
        for index, answer in zip(self._missing, computed, strict=True):
            self._computed(index, answer)
        self._conclude(None)
        return [list(answer or ()) for answer in self._answers]

    def _take(self, look_up: Callable[[str], tuple[Completion, ...] | None]) -> None:
        missing = []
        for index in self._missing:
            key = self._keys[index]
            answer = None if key is None else look_up(key)
            if answer is None:
                missing.append(index)
            else:
                self._answers[index] = answer
        self._missing = missing

    def _computed(self, index: int, answer: list[Completion]) -> None:
        self._answers[index] = answer
        if self._cache is not None and (key := self._keys[index]) is not None:
            self._cache.store(key, self._requests[index], answer)

    def _conclude(self, error: BaseException | None) -> None:
        """Tells usage, history and callbacks how every request ended."""
        limits, caller = history_limits.get(), self._caller
        for index, answer in enumerate(self._answers):
            if answer:
                count_usage(caller.model, answer)
            if limits.enabled:
                entry = self._entry(self._requests[index], answer, error)
                process_history.record(entry, limits.most)
                caller.history.record(entry, limits.most)
            if self._observations:
                self._observations[index].end(Texts(answer) if answer else None, None if answer else error)

    def _entry(self, request: Request, answer: Answer | None, error: BaseException | None) -> HistoryEntry:
        adapter = None if request.adapter is None else str(request.adapter)
        messages = without_media(request.messages)
        entry = HistoryEntry(model=self._caller.model, adapter=adapter, messages=messages, sampling=request.sampling, time=time.time())
        if not answer:
            entry.seconds = time.perf_counter() - self._began
            entry.error = None if error is None else f"{type(error).__name__}: {error}"
            return entry
        first = answer[0]
        entry.prompt_tokens, entry.cached_tokens, entry.from_cache = first.prompt_tokens, first.cached_tokens, first.from_cache
        for one in answer:
            entry.outputs += (one.text,)
            entry.completion_tokens += tokens_of(one)
            entry.seconds = max(entry.seconds, one.seconds)
            if one.thinking:
                entry.thinking = tuple(other.thinking for other in answer)
        return entry


def _inputs(request: Request) -> dict[str, Any]:
    """What callbacks are told of a request."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "sampling": request.sampling,
        "adapter": request.adapter,
        "request": request,
    }


def _deltas(answer: Answer) -> list[Delta]:
    thoughts = [Delta(index, one.thinking, thinking=True) for index, one in enumerate(answer) if one.thinking]
    return thoughts + [Delta(index, one.text) for index, one in enumerate(answer) if one.text]
