"""Usage: sums by model, over threads, tasks and nested blocks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion
from homefire.engine.response_cache import configure_cache
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.engine.usage import ModelUsage, track_usage


def lm() -> LM:
    return ScriptedLM(lambda request: "four")


def test_a_block_sums_up_what_its_calls_take() -> None:
    model = lm()
    model("before")
    with track_usage() as usage:
        model("ab")
        model("abc", n=3, temperature=0.5)
    model("after")
    assert usage.get_total_tokens() == {
        "scripted": {
            "calls": 2,
            "cache_hits": 0,
            "prompt_tokens": 5,
            "completion_tokens": 16,
            "cached_tokens": 0,
            "total_tokens": 21,
            "seconds": usage.total.seconds,
        }
    }
    assert usage.total.total_tokens == 21


def test_models_are_told_apart_and_an_empty_block_has_nothing() -> None:
    class Other(ScriptedEngine):
        @property
        def info(self) -> EngineInfo:
            return replace(super().info, model="other")

    line = Completion(text="x", token_ids=(), finish_reason="stop", prompt_tokens=10, cached_tokens=4, completion_tokens=7, seconds=0.5)
    with track_usage() as usage:
        lm()("ab")
        LM(engine=Other([line, line]))("x", n=2, temperature=1.0)
    assert usage.models["other"] == ModelUsage(calls=1, prompt_tokens=10, completion_tokens=14, cached_tokens=4, seconds=0.5)
    assert usage.models["scripted"].total_tokens == 6 and usage.total.calls == 2
    with track_usage() as nothing:
        pass
    assert nothing.get_total_tokens() == {} and nothing.total == ModelUsage()


def test_nested_blocks_both_count() -> None:
    model = lm()
    with track_usage() as outer:
        model("a")
        with track_usage() as inner:
            model("a")
    assert (outer.total.calls, inner.total.calls) == (2, 1)


def test_threads_pools_and_tasks_of_the_block_count() -> None:
    model = lm()

    async def tasks() -> None:
        await asyncio.gather(*(asyncio.create_task(model.acall("a")) for _ in range(5)))

    with track_usage() as usage, ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(model, "a") for _ in range(20)]:
            future.result()
        thread = threading.Thread(target=model, args=("a",))
        thread.start()
        thread.join()
        asyncio.run(tasks())
        asyncio.run(asyncio.to_thread(model, "a"))  # type: ignore[arg-type]
    assert usage.total.calls == 27


def test_work_behind_the_block_does_not_count() -> None:
    model = lm()
    with ThreadPoolExecutor(1) as pool:
        with track_usage() as usage:
            pool.submit(model, "a").result()
        pool.submit(model, "a").result()
    assert usage.total.calls == 1


def test_hits_of_the_response_cache_take_no_tokens() -> None:
    class Known(ScriptedEngine):
        @property
        def info(self) -> EngineInfo:
            return replace(super().info, identity="weights")

    configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    try:
        model = LM(engine=Known(["four"]))
        with track_usage() as usage:
            model("a"), model("a"), model("a")
    finally:
        configure_cache()
    assert usage.total == ModelUsage(calls=3, cache_hits=2, prompt_tokens=1, completion_tokens=4, seconds=usage.total.seconds)


def test_failed_calls_take_nothing() -> None:
    with track_usage() as usage, pytest.raises(ValueError, match="no"):
        ScriptedLM([ValueError("no")])("a")
    assert usage.models == {}
