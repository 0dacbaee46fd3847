"""LMs waiting: batches, tasks, streams, timeouts and stops, over an engine that answers when the test says so."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from homefire.engine.lm import LM
from homefire.engine.request import Completion, Delta, Listener, Message, Request
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.engine.stop import stoppable
from homefire.errors import CallTimeout, EngineError, InputError


class WaitingEngine(ScriptedEngine):
    """Answers no request before the test settles its future."""

    def __init__(self) -> None:
        super().__init__([])
        self.futures: list[Future[list[Completion]]] = []
        self.listeners: list[Listener | None] = []

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        self.futures.append(Future())
        self.listeners.append(listener)
        return self.futures[-1]

    def until(self, count: int) -> None:
        """Waits until so many requests are there."""
        while len(self.futures) < count:
            time.sleep(0.001)


def completion(text: str) -> Completion:
    return Completion(text=text, token_ids=tuple(map(ord, text)), finish_reason="stop", prompt_tokens=1)


def requests(texts: str) -> list[Request]:
    return [Request(messages=(Message("user", text),)) for text in texts]


def test_one_failure_cancels_the_batch_and_is_what_is_raised() -> None:
    engine = WaitingEngine()
    lm = LM(engine=engine)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            lm.generate(requests("abc"))
        except EngineError as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    engine.until(3)
    engine.futures[1].set_exception(EngineError("gone"))
    thread.join(20)
    assert [str(error) for error in failed] == ["gone"]
    assert engine.futures[0].cancelled() and engine.futures[2].cancelled()


def test_a_request_that_is_refused_at_once_cancels_those_before_it() -> None:
    engine = WaitingEngine()
    refuse = engine.submit

    def submit(request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        if request.messages[0].content == "c":
            raise EngineError("refused")
        return refuse(request, listener)

    engine.submit = submit  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="refused"):
        LM(engine=engine).generate(requests("abc"))
    assert [future.cancelled() for future in engine.futures] == [True, True]


def test_a_stop_cancels_what_is_waited_for() -> None:
    engine = WaitingEngine()
    with stoppable() as stop, pytest.raises(CancelledError):
        threading.Timer(0.05, stop.stop).start()
        LM(engine=engine)("hello")
    assert engine.futures[0].cancelled()


def test_a_stop_in_a_task_does_not_look_like_a_cancelled_task() -> None:
    engine = WaitingEngine()

    async def run() -> None:
        with stoppable() as stop:
            asyncio.get_running_loop().call_later(0.05, stop.stop)
            with pytest.raises(CancelledError):
                await LM(engine=engine).acall("hello")

    asyncio.run(run())
    assert engine.futures[0].cancelled()


def test_a_timeout_cancels_and_says_what_to_do() -> None:
    engine = WaitingEngine()
    lm = LM(engine=engine, timeout=0.05)
    with pytest.raises(CallTimeout, match=r"timeout of 0.05 seconds: 2 of 2 requests"):
        lm.generate(requests("ab"))
    with pytest.raises(CallTimeout, match=r"timeout=0.1"):
        asyncio.run(lm.acall("c"))
    with pytest.raises(CallTimeout):
        list(lm.stream("d"))

    async def stream() -> list[str]:
        return [piece async for piece in lm.astream("e")]

    with pytest.raises(CallTimeout):
        asyncio.run(stream())
    assert len(engine.futures) == 5 and all(future.cancelled() for future in engine.futures)


def test_an_engines_own_timeout_error_is_not_the_calls() -> None:
    lm = ScriptedLM([TimeoutError("the server's"), TimeoutError("the server's")]).copy(timeout=60)
    with pytest.raises(TimeoutError, match="the server's"):
        lm("hello")
    with pytest.raises(TimeoutError, match="the server's"):
        asyncio.run(lm.acall("hello"))


def test_calls_in_tasks_are_one_batch_and_need_no_threads() -> None:
    engine = WaitingEngine()
    lm = LM(engine=engine)

    async def run() -> list[list[str]]:
        tasks = [asyncio.create_task(lm.acall(text)) for text in "abcdefgh"]
        while len(engine.futures) < 8:
            await asyncio.sleep(0.001)
        assert threading.active_count() <= before
        for future, text in zip(engine.futures, "ABCDEFGH", strict=True):
            future.set_result([completion(text)])
        return await asyncio.gather(*tasks)

    before = threading.active_count()
    assert asyncio.run(run()) == [[text] for text in "ABCDEFGH"]


def test_cancelling_a_task_cancels_its_requests_only() -> None:
    engine = WaitingEngine()
    lm = LM(engine=engine)

    async def run() -> list[str]:
        first, second = asyncio.create_task(lm.agenerate(requests("ab"))), asyncio.create_task(lm.acall("c"))
        while len(engine.futures) < 3:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        engine.futures[2].set_result([completion("C")])
        return await second

    assert asyncio.run(run()) == ["C"]
    assert [future.cancelled() for future in engine.futures] == [True, True, False]


def test_one_failure_in_a_task_is_raised_as_it_is() -> None:
    engine = WaitingEngine()

    async def run() -> None:
        task = asyncio.create_task(LM(engine=engine).agenerate(requests("abc")))
        while len(engine.futures) < 3:
            await asyncio.sleep(0.001)
        engine.futures[2].set_exception(EngineError("gone"))
        with pytest.raises(EngineError, match="gone"):
            await task

    asyncio.run(run())
    assert engine.futures[0].cancelled() and engine.futures[1].cancelled()


def test_the_event_loop_goes_on_while_an_engine_starts(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    started, go = ScriptedEngine(lambda request: "hi"), threading.Event()
    starts: list[str] = []

    def slow_start(*_: object) -> ScriptedEngine:
        starts.append("one")
        assert go.wait(20)
        return started

    monkeypatch.setattr("homefire.engine.engine_source.engine_for", slow_start)
    lm = LM(str(smollm2), cache=False)

    async def run() -> list[list[str]]:
        tasks = [asyncio.create_task(lm.acall(text)) for text in "abc"]
        tasks.append(asyncio.create_task(lm.copy(temperature=0.5).acall("d")))
        impatient = asyncio.create_task(lm.acall("e"))
        await asyncio.sleep(0.05)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        go.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == [["hi"]] * 4
    assert starts == ["one"]


def test_a_broken_engine_is_started_again(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    engines: list[ScriptedEngine] = []

    def start(*_: object) -> ScriptedEngine:
        engines.append(ScriptedEngine(lambda request: f"engine {len(engines)}"))
        return engines[-1]

    monkeypatch.setattr("homefire.engine.engine_source.engine_for", start)
    lm = LM(str(smollm2), cache=False)
    assert lm("a") == ["engine 1"] and lm("a") == ["engine 1"]
    engines[0].close()
    assert lm("a") == ["engine 2"]


def test_the_listener_hears_the_first_request() -> None:
    heard: list[Delta] = []
    lm = ScriptedLM(["first text", "second text"])
    answers = lm.generate(requests("ab"), listener=heard.append)
    assert "".join(delta.text for delta in heard) == answers[0][0].text == "first text"
    assert len(heard) > 1


def test_streams_give_the_text_in_pieces() -> None:
    lm = ScriptedLM(["some longer text", "another longer text"])
    pieces = list(lm.stream("a"))
    assert len(pieces) > 1 and "".join(pieces) == "some longer text"

    async def run() -> list[str]:
        return [piece async for piece in lm.astream("b")]

    pieces = asyncio.run(run())
    assert len(pieces) > 1 and "".join(pieces) == "another longer text"
    assert [entry["outputs"] for entry in lm.history] == [["some longer text"], ["another longer text"]]
    with pytest.raises(InputError, match="n is 2"):
        lm.stream("c", n=2, temperature=1.0)


def test_a_piece_comes_before_the_end_and_leaving_early_cancels() -> None:
    engine = WaitingEngine()
    lm = LM(engine=engine)
    stream = lm.stream("a")
    threading.Thread(target=lambda: (engine.until(1), engine.listeners[0](Delta(0, "be")))).start()  # type: ignore[misc]
    assert next(stream) == "be"
    stream.close()  # type: ignore[attr-defined]
    assert engine.futures[0].cancelled()

    async def run() -> None:
        pieces = lm.astream("b")
        reading = asyncio.create_task(anext(pieces))
        while len(engine.futures) < 2:
            await asyncio.sleep(0.001)
        engine.listeners[1](Delta(0, "thought", thinking=True))  # type: ignore[misc]
        engine.listeners[1](Delta(0, "ge"))  # type: ignore[misc]
        assert await reading == "ge"
        await pieces.aclose()  # type: ignore[attr-defined]

    asyncio.run(run())
    assert engine.futures[1].cancelled()


def test_an_error_in_a_stream_is_raised_where_it_is_read() -> None:
    lm = ScriptedLM([EngineError("gone")])
    with pytest.raises(EngineError, match="gone"):
        list(lm.stream("a"))
