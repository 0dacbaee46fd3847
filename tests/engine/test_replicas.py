"""Copies of one engine: who gets a request, what they share, how they end."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import pytest

from homefire.engine.protocol import EngineInfo
from homefire.engine.replicas import Replicas, shares
from homefire.engine.request import Completion, Listener, Message, Request
from homefire.engine.scripted_engine import ScriptedEngine
from homefire.engine.settings import ChosenSettings
from homefire.errors import EngineError
from tests.engine.test_threaded_engine import settings

FOUR = replace(settings(), cores="0-3", data_parallel=2)
HELLO = Request(messages=(Message("user", "Hello"),))


class Held(ScriptedEngine):
    """Answers when the test says so."""

    def __init__(self, chosen: ChosenSettings) -> None:
        super().__init__(lambda request: "x")
        self.chosen = chosen
        self.futures: list[Future[list[Completion]]] = []
        self.log: list[str] = []

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, max_batch=4)

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        self.futures.append(Future())
        return self.futures[-1]

    def sleep(self) -> None:
        self.log.append("sleep")

    def wake(self) -> None:
        self.log.append("wake")

    def close(self) -> None:
        self.log.append("close")


def started(engines: list[Held], chosen: ChosenSettings) -> Held:
    engines.append(Held(chosen))
    return engines[-1]


def test_the_idlest_copy_gets_the_request() -> None:
    engines: list[Held] = []
    both = Replicas(FOUR, lambda chosen: started(engines, chosen))
    for _ in range(4):
        both.submit(HELLO)
    assert [len(engine.futures) for engine in engines] == [2, 2]
    engines[1].futures[0].set_result([])
    engines[1].futures[1].cancel()
    both.submit(HELLO)
    both.submit(HELLO)
    assert [len(engine.futures) for engine in engines] == [2, 4]
    assert both.info.max_batch == 8
    both.sleep()
    both.wake()
    both.close()
    assert [engine.log for engine in engines] == [["sleep", "wake", "close"]] * 2


def test_copies_have_cores_or_gpus_of_their_own() -> None:
    assert [share.cores for share in shares(FOUR)] == ["0-1", "2-3"]
    gpus = replace(FOUR, device="cuda", cores="", tensor_parallel=2)
    assert [share.gpus for share in shares(gpus)] == [(0, 1), (2, 3)]
    assert [share.gpus for share in shares(replace(gpus, distributed_executor="ray"))] == [(), ()]
    assert {share.data_parallel for share in shares(gpus)} == {1}


def test_when_one_cannot_start_the_others_are_closed() -> None:
    engines: list[Held] = []

    def start(chosen: ChosenSettings) -> Held:
        if engines:
            raise EngineError("no memory")
        return started(engines, chosen)

    with pytest.raises(EngineError, match="no memory"):
        Replicas(FOUR, start)
    assert engines[0].log == ["close"]
