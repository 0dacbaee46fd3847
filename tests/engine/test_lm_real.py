"""The LM over vLLM and the small real model: a start that no event loop waits for, tasks, cancelling, timeouts, streams and the cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from homefire.engine import response_cache as caches
from homefire.engine.lm import LM
from homefire.engine.response_cache import configure_cache
from homefire.engine.usage import track_usage
from homefire.errors import CallTimeout

LONG = "Write a very long story about a lighthouse."


@pytest.fixture(scope="module")
def lm(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    before, caches._Process.cache = caches._Process.cache, None
    configure_cache(disk_cache_dir=tmp_path_factory.mktemp("answers"), enable_memory_cache=True)
    made = LM(f"vllm/{smollm2}", context=768, max_tokens=8)
    yield made
    configure_cache(enable_disk_cache=False)
    caches._Process.cache = before
    made.engine().close()


def test_the_event_loop_goes_on_while_the_engine_starts(lm: LM) -> None:
    async def run() -> tuple[int, list[list[str]]]:
        calls = asyncio.gather(*(lm.acall(f"Say the number {number}.") for number in range(4)))
        ticks = 0
        while not calls.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, await calls

    ticks, answers = asyncio.run(run())
    assert ticks > 20 and all(answer[0] for answer in answers)
    assert lm.info.identity == lm._source.identity()


def test_tasks_and_threads_give_the_same_and_share_the_cache(lm: LM) -> None:
    fresh = lm.copy(cache=False)
    plain = fresh.complete("What is the capital of France?")[0]
    awaited = asyncio.run(lm.acomplete("What is the capital of France?"))[0]
    hit = lm.complete("What is the capital of France?")[0]
    assert plain.token_ids == awaited.token_ids == hit.token_ids
    assert [one.from_cache for one in (plain, awaited, hit)] == [False, False, True]


def test_a_cancelled_task_frees_its_requests_and_the_others_go_on(lm: LM) -> None:
    async def run() -> list[str]:
        long = [asyncio.create_task(lm.acall(f"{LONG} {number}", max_tokens=600)) for number in range(6)]
        await asyncio.sleep(0.5)
        for task in long:
            task.cancel()
        ended = await asyncio.gather(*long, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended)
        return await lm.acall("Say hello.")

    assert asyncio.run(run())[0]


def test_a_timeout_gives_the_call_up_and_the_engine_goes_on(lm: LM) -> None:
    hurried = lm.copy(timeout=0.3)
    with pytest.raises(CallTimeout, match=r"0\.3 seconds"):
        hurried(LONG, max_tokens=700)
    with pytest.raises(CallTimeout, match=r"0\.3 seconds"):
        asyncio.run(hurried.acall(LONG, max_tokens=700))
    assert "CallTimeout" in (hurried.history[-1]["error"] or "")
    assert lm("Say hello again.")[0]


def test_streams_give_what_the_call_gives(lm: LM) -> None:
    fresh = lm.copy(cache=False, max_tokens=12)
    text = fresh("Name three colours.")[0]
    assert "".join(pieces := list(fresh.stream("Name three colours."))) == text and len(pieces) > 3

    async def run() -> list[str]:
        return [piece async for piece in fresh.astream("Name three colours.")]

    assert "".join(asyncio.run(run())) == text


def test_another_process_would_find_the_answers(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    with track_usage() as usage:
        drawn = lm.complete("Name a fruit.", n=2, temperature=1.0, logprobs=True)
        caches._Process.cache.close()  # type: ignore[union-attr]
        again = LM(lm._source.settings.model, context=768, max_tokens=8)
        monkeypatch.setattr(caches._Process, "cache", caches.ResponseCache(caches._Process.cache.settings))  # type: ignore[union-attr]
        monkeypatch.setattr("homefire.engine.engine_source.engine_for", lambda *_: pytest.fail("it was started"))
        found = again.complete("Name a fruit.", n=2, temperature=1.0, logprobs=True)
    assert [(one.text, one.token_ids, one.logprobs) for one in found] == [(one.text, one.token_ids, one.logprobs) for one in drawn]
    assert (usage.total.calls, usage.total.cache_hits) == (2, 1)
    assert usage.total.completion_tokens == sum(len(one.token_ids) for one in drawn)
