"""Ten thousand requests and a hundred threads that cancel at random, through everything between an LM and a model: nothing stays behind.

The model itself answers at once here; `test_vllm_backend` asks the real one.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import homefire.engine.threaded_engine as threaded
from homefire.engine.lm import LM
from homefire.engine.response_cache import configure_cache
from homefire.engine.threaded_engine import ThreadedEngine
from tests.engine.test_threaded_engine import CharacterEncoder, HeldBackend, ask, held, settings


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEngine]:
    monkeypatch.setattr(threaded, "PromptEncoder", CharacterEncoder)
    monkeypatch.setattr(threaded, "identity", lambda path, chosen: "weights")
    made = ThreadedEngine("model", Path("base"), settings(), HeldBackend)
    held(made).go.set()
    yield made
    made.close()


def blocks() -> int:
    """Pieces of memory that Python holds."""
    gc.collect()
    return sys.getallocatedblocks()


def test_ten_thousand_requests_leave_memory_flat(engine: ThreadedEngine) -> None:
    configure_cache(enable_disk_cache=False, memory_max_entries=500)
    lm = LM(engine=engine)

    def run(first: int, count: int) -> None:
        for start in range(first, first + count, 100):
            answers = lm.generate([ask(f"q{number}") for number in range(start, start + 100)])
            assert [answer[0].text for answer in answers] == [f"base: q{number}" for number in range(start, start + 100)]
            held(engine).batches.clear()  # the double's own notes

    try:
        run(0, 2000)  # until history and cache are full
        before = blocks()
        run(2000, 10_000)
        assert blocks() - before < 1000  # a tenth of one for each request
    finally:
        configure_cache()
    assert not engine._running and not engine._waiting and engine._inbox.empty()


def test_a_hundred_threads_cancel_at_random(engine: ThreadedEngine) -> None:
    begun = threading.Barrier(100)

    def one(number: int) -> list[str]:
        source, ends = random.Random(number), []
        begun.wait(60)
        for turn in range(10):
            future = engine.submit(ask(f"{number}.{turn}"), (lambda delta: None) if source.random() < 0.5 else None)
            if source.random() < 0.5:
                time.sleep(source.random() / 500)
                future.cancel()
            try:
                ends.append(future.result(60)[0].text)
            except CancelledError:
                ends.append("cancelled")
        return ends

    with ThreadPoolExecutor(100) as threads:
        ends: list[Any] = list(threads.map(one, range(100)))
    for number, said in enumerate(ends):
        assert all(text in (f"base: {number}.{turn}", "cancelled") for turn, text in enumerate(said))
    assert any("cancelled" in said for said in ends)
    assert engine.submit(ask("after")).result(60)[0].text == "base: after"
    engine._ask(lambda: None)  # what was cancelled last has been forgotten by now
    assert not engine._running and not held(engine).batch
