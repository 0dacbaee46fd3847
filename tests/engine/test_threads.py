"""Values of a block in threads: those that are started, work that is submitted, and what comes behind the block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from homefire.engine.ambient import Ambient
from homefire.engine.threads import SharedCall, carry_into_threads, without_block

value: Ambient[str] = Ambient("test_value", "process")
foreign: ContextVar[str] = ContextVar("another_library", default="untouched")


@pytest.fixture(autouse=True)
def installed() -> None:
    carry_into_threads()


def in_thread() -> str:
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(value.get()))
    thread.start()
    thread.join()
    return seen[0]


def test_a_thread_sees_the_block_that_it_was_started_in() -> None:
    assert in_thread() == "process"
    with value.block("block"):
        assert in_thread() == "block"
        with value.block("inner"):
            assert in_thread() == "inner"
    assert in_thread() == "process"


def test_classes_derived_from_thread_and_timers_see_it_too() -> None:
    seen: list[str] = []

    class Own(threading.Thread):
        def run(self) -> None:
            seen.append(value.get())

    with value.block("block"):
        threads = [Own(), threading.Timer(0.01, lambda: seen.append(value.get()))]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["block", "block"]


def test_a_thread_keeps_what_it_was_started_with() -> None:
    go, seen = threading.Event(), []

    def run() -> None:
        go.wait(20)
        seen.append(value.get())

    thread = threading.Thread(target=run)
    with value.block("block"):
        thread.start()
    go.set()
    thread.join()
    assert seen == ["block"]


def test_a_pool_that_outlives_the_block_forgets_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        with value.block("block"):
            assert pool.submit(value.get).result() == "block"
        assert pool.submit(value.get).result() == "process"
        with value.block("later"):
            assert pool.submit(value.get).result() == "later"
        assert pool.submit(in_thread).result() == "process"


def test_work_waiting_in_a_pool_sees_the_block_that_it_was_submitted_in() -> None:
    go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(go.wait, 20)
        with value.block("block"):
            second = pool.submit(value.get)
        go.set()
        assert (first.result(), second.result()) == (True, "block")


def test_an_event_loops_executor_sees_it() -> None:
    async def run() -> str:
        with value.block("block"):
            return await asyncio.get_running_loop().run_in_executor(None, value.get)

    assert asyncio.run(run()) == "block"


def test_variables_of_others_are_left_alone() -> None:
    token = foreign.set("set here")
    try:
        with value.block("block"), ThreadPoolExecutor(1, initializer=lambda: foreign.set("of the pool")) as pool:
            assert pool.submit(foreign.get).result() == "of the pool"
    finally:
        foreign.reset(token)


def test_errors_and_arguments_pass_through() -> None:
    def fails(text: str, *, number: int) -> None:
        raise ValueError(text * number)

    with value.block("block"), ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(fails, "no", number=2).exception(), ValueError)
        assert list(pool.map(lambda number: (number, value.get()), range(3))) == [(0, "block"), (1, "block"), (2, "block")]


def test_a_thread_that_cannot_be_started_again_says_so_as_ever() -> None:
    with value.block("block"):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
    assert "run" not in vars(thread)


def test_what_outlives_the_block_can_leave_it() -> None:
    with value.block("block"):
        assert without_block(value.get) == "process"
        assert without_block(in_thread) == "process"


def test_threads_are_as_python_makes_them_until_a_block_is_entered() -> None:
    code = """
        import threading
        start = threading.Thread.start
        import homefire
        from homefire.modules.settings import configure, context
        configure(track_usage=False)
        assert threading.Thread.start is start
        with context():
            assert threading.Thread.start is not start
            once = threading.Thread.start
        with context():
            assert threading.Thread.start is once
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_shared_call_is_made_once_for_all_that_wait(gate: threading.Event) -> None:
    calls: list[int] = []

    def slow() -> int:
        calls.append(1)
        gate.wait(20)
        return len(calls)

    shared = SharedCall(slow)

    async def run() -> list[int]:
        tasks = [asyncio.create_task(shared.result()) for _ in range(5)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        gate.set()
        return await asyncio.gather(*tasks[1:])

    assert asyncio.run(run()) == [1, 1, 1, 1]
    assert asyncio.run(shared.result()) == 2


def test_a_shared_calls_failure_reaches_all_and_the_next_one_tries_again() -> None:
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise ValueError(f"no {len(calls)}")

    shared = SharedCall(fails)
    for number in (1, 2):
        with pytest.raises(ValueError, match=f"no {number}"):
            asyncio.run(shared.result())
