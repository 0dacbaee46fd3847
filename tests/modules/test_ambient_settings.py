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
from homefire.modules.predict import Predict
from homefire.modules.program_of_thought import ProgramOfThought
from homefire.modules.settings import Settings, configure, context, current, settings
from homefire.modules.waiting import asyncify


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
        ({"async_max_workers": 0}, "async_max_workers is 0; expected a whole number, 1 or more"),
        ({"interpreter_factory": 5}, r"interpreter_factory=homefire\.LocalInterpreter"),
        ({"allow_tool_async_sync_conversion": False}, "Leave it out"),
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


def test_settings_are_read_by_name_too() -> None:
    with context(num_threads=3):
        assert settings["num_threads"] == settings.get("num_threads") == settings.num_threads == 3
    assert "lm" in settings and "lmm" not in settings
    assert settings.get("lmm", 5) == 5
    assert settings["adapter"] is settings.format
    with pytest.raises(KeyError, match="lmm"):
        settings["lmm"]


def test_the_trace_of_the_settings_keeps_so_many_steps() -> None:
    trace: list[Any] = []
    predict = Predict("a -> b")
    with context(lm=ScriptedLM(lambda request: '{"b": "x"}'), trace=trace, max_trace_size=2):
        for text in "abc":
            predict(a=text)
    assert [inputs["a"] for _, inputs, _ in trace] == ["b", "c"]
    first: list[Any] = []
    configure(lm=ScriptedLM(lambda request: '{"b": "x"}'), trace=first)
    configure(trace=trace)
    configure(max_trace_size=1)
    predict(a="d")
    configure(trace=None, max_trace_size=None)
    predict(a="e")
    assert ([inputs["a"] for _, inputs, _ in trace], first) == (["d"], [])


def test_programs_that_write_code_take_the_interpreter_of_the_settings() -> None:
    made: list[Any] = []

    class Echo:
        def __init__(self) -> None:
            self.tools: dict[str, Any] = {}
            made.append(self)

        def start(self) -> None: ...

        def execute(self, code: str, variables: Any = None) -> Any:
            return code.upper()

        def shutdown(self) -> None: ...

    with context(lm=ScriptedLM(['{"reasoning": "r", "generated_code": "a + b"}']), interpreter_factory=Echo):
        assert ProgramOfThought("question -> answer")(question="q").answer == "A + B"
    assert len(made) == 1


def test_asyncify_runs_as_many_calls_at_once_as_the_settings_say() -> None:
    most, now, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        threading.Event().wait(0.01)
        with lock:
            now -= 1

    async def run() -> None:
        with context(async_max_workers=2):
            await asyncio.gather(*(asyncify(work)() for _ in range(8)))

    asyncio.run(run())
    assert most <= 2
