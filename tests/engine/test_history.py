"""History: what is kept of every call, how much, and how it is printed."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from homefire.engine.history import HistoryLimits, history_limits, inspect_history, process_history
from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import AdapterRef, Completion, Message, Request
from homefire.engine.response_cache import configure_cache
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.errors import EngineError


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    process_history.clear()
    yield
    process_history.clear()


def test_every_call_is_recorded_for_the_process_and_its_lm() -> None:
    one, two = ScriptedLM(["first", "second"]), ScriptedLM(["third"])
    one(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], temperature=0.5)
    asyncio.run(one.acall("again"))
    two("hello")
    assert [entry["outputs"] for entry in process_history.entries()] == [["first"], ["second"], ["third"]]
    assert [entry["outputs"] for entry in one.history] == [["first"], ["second"]]
    assert two.copy(temperature=1.0).history == []
    entry = one.history[0]
    assert isinstance(entry, Mapping) and {**entry} == {
        "prompt": None,
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "kwargs": {"temperature": 0.5},
        "outputs": ["first"],
        "thinking": [],
        "usage": {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7, "cached_tokens": 0},
        "cost": None,
        "timestamp": entry.when.isoformat(),
        "model": "scripted",
        "model_type": "chat",
        "adapter": None,
        "seconds": entry.seconds,
        "from_cache": False,
        "error": None,
    }


def test_each_request_of_a_batch_is_a_call_and_failures_are_recorded() -> None:
    lm = ScriptedLM(["fine", EngineError("gone")])
    with pytest.raises(EngineError):
        lm.generate([Request(messages=(Message("user", text),)) for text in "ab"])
    fine, failed = lm.history
    assert (fine["outputs"], fine["error"]) == (["fine"], None)
    assert (failed["outputs"], failed["error"], failed["usage"]["total_tokens"]) == ([], "EngineError: gone", 0)


def test_history_is_bounded_and_can_be_off() -> None:
    lm = ScriptedLM(lambda request: request.messages[0].content)
    with history_limits.block(HistoryLimits(most=3)):
        for text in "abcde":
            lm(text)
    assert [entry["outputs"] for entry in lm.history] == [["c"], ["d"], ["e"]]
    with history_limits.block(HistoryLimits(enabled=False)):
        lm("f")
    assert len(lm.history) == 3
    lm("g")
    assert [entry["outputs"] for entry in process_history.entries()] == [["c"], ["d"], ["e"], ["g"]]


def test_it_keeps_text_only() -> None:
    lm = ScriptedLM(["x" * 100])
    answer = lm.complete("hello")[0]
    assert answer not in [value for entry in lm.history for value in entry.values()]


def test_threads_record_without_losing_entries() -> None:
    lm = ScriptedLM(lambda request: "x")
    threads = [threading.Thread(target=lambda: [lm("a") for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lm.history) == 400


def test_printing_shows_roles_outputs_and_what_it_took() -> None:
    thought = Completion(
        text="[bold]4[/bold]", token_ids=(1, 2), finish_reason="stop", prompt_tokens=9, cached_tokens=5, thinking="two and two"
    )
    lm = ScriptedLM([thought, EngineError("gone")]).copy(adapter=AdapterRef("area", 3, Path("somewhere")))
    lm(messages=[{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 2, " + "please, " * 40}])
    out = io.StringIO()
    lm.inspect_history(file=out)
    said = out.getvalue()
    assert "scripted with area@3" in said and "9 + 2 tokens (5 of the prompt cached)" in said
    parts = ["System:", "Add.", "User:", "2 + 2, " + "please, " * 40, "Thinking:", "two and two", "Response:", "[bold]4[/bold]"]
    places = [said.index(part) for part in parts]
    assert places == sorted(places) and "\x1b" not in said
    with pytest.raises(EngineError):
        lm("again")
    lm.inspect_history(file=out)
    assert "Failed: EngineError: gone" in out.getvalue()


def test_printing_to_standard_output_takes_the_last_ones(capsys: pytest.CaptureFixture[str]) -> None:
    lm = ScriptedLM(["first", "second", "third"])
    for _ in range(3):
        lm("hello")
    inspect_history(2)
    said = capsys.readouterr().out
    assert "first" not in said and said.index("second") < said.index("third")
    inspect_history(0)
    assert capsys.readouterr().out == ""


def test_a_hit_of_the_response_cache_says_so() -> None:
    class Known(ScriptedEngine):
        @property
        def info(self) -> EngineInfo:
            return replace(super().info, identity="weights")

    configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    try:
        lm = LM(engine=Known(["one"]))
        lm("hello"), lm("hello")
    finally:
        configure_cache()
    hit = lm.history[1]
    assert (hit["outputs"], hit["from_cache"], hit["usage"], hit["seconds"]) == (["one"], True, {}, 0.0)
    out = io.StringIO()
    lm.inspect_history(file=out)
    assert "from the response cache" in out.getvalue()
