"""Several engines of one model as one: each request goes to the one with the least to do.

Knows no backend. Every copy has a process of its own, and GPUs or cores that no other copy uses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TypeVar

from homefire.engine.machine import core_ranges, parse_cores
from homefire.engine.protocol import Engine, EngineInfo
from homefire.engine.request import Completion, Listener, Request
from homefire.engine.settings import ChosenSettings

T = TypeVar("T")


def shares(settings: ChosenSettings) -> list[ChosenSettings]:
    """The settings of each copy: its own part of the cores or GPUs."""
    copies, cores = settings.data_parallel, parse_cores(settings.cores) if settings.cores else ()
    width = settings.tensor_parallel * settings.pipeline_parallel
    placed = settings.device == "cuda" and settings.distributed_executor != "ray"  # Ray places copies itself
    return [
        replace(
            settings,
            data_parallel=1,
            cores=core_ranges(cores[index * len(cores) // copies : (index + 1) * len(cores) // copies]),
            gpus=tuple(range(index * width, (index + 1) * width)) if placed else (),
        )
        for index in range(copies)
    ]


class Replicas:
    """The `Engine` over engines.

    Args:
        settings: What all of them together run with.
        start: Starts one copy with its settings; the first failure closes the copies that run.
    """

    def __init__(self, settings: ChosenSettings, start: Callable[[ChosenSettings], Engine]) -> None:
        self._engines: list[Engine] = []
        self._settings = settings
        self._lock = threading.Lock()
        try:
            for share in shares(settings):
                self._engines.append(start(share))
        except BaseException:
            self.close()
            raise
        self._running = [0] * len(self._engines)

    @property
    def info(self) -> EngineInfo:
        one = self._engines[0].info
        return replace(one, max_batch=one.max_batch * len(self._engines), settings=self._settings.in_words())

    @property
    def closed(self) -> bool:
        return any(engine.closed for engine in self._engines)

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        return self._on_idlest(lambda engine: engine.submit(request, listener))

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        return self._on_idlest(lambda engine: engine.score(request, texts))

    def count_tokens(self, request: Request) -> int:
        return self._engines[0].count_tokens(request)

    def sleep(self) -> None:
        for engine in self._engines:
            engine.sleep()

    def wake(self) -> None:
        for engine in self._engines:
            engine.wake()

    def close(self) -> None:
        for engine in self._engines:
            engine.close()

    def _on_idlest(self, put: Callable[[Engine], Future[T]]) -> Future[T]:
        with self._lock:
            index = min(range(len(self._engines)), key=self._running.__getitem__)
            self._running[index] += 1
        try:
            future = put(self._engines[index])
        except BaseException:
            self._ended(index)
            raise
        future.add_done_callback(lambda _: self._ended(index))
        return future

    def _ended(self, index: int) -> None:
        with self._lock:
            self._running[index] -= 1
