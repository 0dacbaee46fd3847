"""The ambient settings: what they take, who sees them, and what they hand down to the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from homefire.engine.callbacks import BaseCallback, ambient_callbacks
from homefire.engine.history import history_limits, process_history
from homefire.engine.lm import LM
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError
from homefire.modules.json_format import JsonFormat
from homefire.modules.settings import Settings, configure, context, current, settings


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    yield
    configure(lm=None, format=None, callbacks=None, track_usage=False, disable_history=False, max_history_size=Settings().max_history_size)


class Counting(BaseCallback):
    def __init__(self) -> None:
        self.calls = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.calls += 1


def lm() -> LM:
    return ScriptedLM(lambda request: "x")


def test_configure_sets_what_is_given_and_none_puts_back() -> None:
    one = lm()
    configure(lm=one)
    configure(track_usage=True)
    assert (settings.lm, settings.track_usage, settings.disable_history) == (one, True, False)
    configure(lm=None)
    assert current() == Settings(track_usage=True, format=current().format)


def test_context_sets_for_a_block_also_when_it_fails() -> None:
    one, two = lm(), lm()
    configure(lm=one)
    with pytest.raises(ValueError, match="no"), context(lm=two):
        assert settings.lm is two
        with context(track_usage=True):
            assert settings.lm is two and settings.track_usage
        raise ValueError("no")
    assert settings.lm is one and not settings.track_usage


def test_adapter_is_another_name_of_the_format() -> None:
    mine = JsonFormat()
    with context(adapter=mine):
        assert settings.format is settings.adapter is current().adapter is mine
    with context(format=mine), context(format=None):
        assert settings.format is not mine


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lmm": 1}, "There is no setting 'lmm': did you mean 'lm'"),
        ({"max_histroy": 1}, "did you mean 'max_history_size'"),
        ({"zzz": 1}, "There is no setting 'zzz'. There are: lm, format"),
        ({"lm": "smollm2"}, r"lm is 'smollm2'; expected an LM, as in lm=homefire.LM\('smollm2'\)"),
        ({"adapter": "areas"}, "format is the text 'areas'.*A LoRA adapter belongs to an LM"),
        ({"callbacks": [print]}, "is no callback"),
        ({"callbacks": Counting()}, "expected a list of callbacks"),
        ({"max_history_size": -1, "track_usage": "yes"}, "max_history_size is -1.*track_usage is 'yes'"),
    ],
)
def test_wrong_settings_are_errors(changes: dict[str, Any], says: str) -> None:
    before = current()
    with pytest.raises(ConfigError, match=says):
        configure(**changes)
    with pytest.raises(ConfigError, match=says), context(**changes):
        pass
    assert current() is before


def test_any_thread_may_configure_and_all_see_it() -> None:
    one, two = lm(), lm()
    configure(lm=one)
    thread = threading.Thread(target=lambda: configure(lm=two))
    thread.start()
    thread.join()
    assert settings.lm is two


def test_threads_pools_and_tasks_of_a_block_see_it() -> None:
    one, two = lm(), lm()
    configure(lm=one)

    async def in_tasks() -> list[LM | None]:
        async def see() -> LM | None:
            await asyncio.sleep(0)
            return settings.lm

        return [await asyncio.create_task(see()), await asyncio.to_thread(lambda: settings.lm)]

    seen: list[LM | None] = []
    with ThreadPoolExecutor(1) as pool:
        with context(lm=two):
            seen.append(pool.submit(lambda: settings.lm).result())
            thread = threading.Thread(target=lambda: seen.append(settings.lm))
            thread.start()
            thread.join()
            seen += asyncio.run(in_tasks())
        assert seen == [two] * 4
        assert pool.submit(lambda: settings.lm).result() is one
        configure(lm=two)
        assert pool.submit(lambda: settings.lm).result() is two


def test_tasks_do_not_see_each_others_blocks() -> None:
    async def run() -> list[bool]:
        async def see(own: LM) -> bool:
            with context(lm=own):
                await asyncio.sleep(0.001)
                return settings.lm is own

        return await asyncio.gather(*(see(lm()) for _ in range(20)))

    assert all(asyncio.run(run()))


def test_callbacks_reach_the_lm() -> None:
    process, block = Counting(), Counting()
    configure(callbacks=[process])
    lm()("a")
    with context(callbacks=[block]):
        lm()("b")
        with context(lm=lm()), ThreadPoolExecutor(1) as pool:
            pool.submit(lm(), "c").result()
    assert (process.calls, block.calls) == (1, 2)
    assert settings.callbacks == (process,) == ambient_callbacks.get()


def test_history_can_be_off_and_shorter() -> None:
    process_history.clear()
    one = lm()
    configure(max_history_size=2)
    for text in "abc":
        one(text)
    assert len(one.history) == 2
    with context(disable_history=True):
        one("d")
    assert [entry["messages"][0]["content"] for entry in one.history] == ["b", "c"]
    configure(disable_history=True)
    assert not history_limits.get().enabled
    with context(disable_history=False):
        one("e")
    assert len(process_history.entries()) == 2
