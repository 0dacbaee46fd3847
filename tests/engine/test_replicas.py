"""Copies of one engine: who gets a request, what they share, how they end."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from homefire.engine import pool
from homefire.engine.catalogue import ResolvedModel
from homefire.engine.protocol import EngineInfo
from homefire.engine.replicas import Replicas, shares
from homefire.engine.request import Completion, Listener, Message, Request
from homefire.engine.scripted_engine import ScriptedEngine
from homefire.engine.settings import ChosenSettings, EngineSettings
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


def test_when_one_dies_the_others_make_room_for_those_that_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Held] = []
    source, wish = ResolvedModel(name="model", backend="vllm", path=Path("copies")), EngineSettings(data_parallel=2)
    monkeypatch.setattr(pool, "chosen_settings", lambda source, settings: FOUR)
    monkeypatch.setattr(pool, "_started", lambda name, path, settings: Replicas(settings, lambda chosen: started(engines, chosen)))
    monkeypatch.setattr(pool, "_engines", {})
    first = pool.engine_for(source, wish)
    assert pool.engine_for(source, wish) is first
    engines[1]._closed = True
    assert first.closed and pool.engine_for(source, wish) is not first
    assert [engine.log for engine in engines] == [["close"], ["close"], [], []]
