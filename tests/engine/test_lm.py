"""LM: sampling defaults, direct calls, copies and state, over the scripted engine."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from homefire.engine.lm import LM
from homefire.engine.request import AdapterRef, Message, Request, Sampling
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.engine.stop import stoppable
from homefire.errors import AdapterError, ConfigError, EngineError, InputError, UnknownModel


def test_text_and_messages_give_texts() -> None:
    lm = ScriptedLM(["one", "two", "three"])
    assert lm("hello") == ["one"]
    assert lm(messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], n=2, temperature=1.0) == ["two", "three"]
    assert lm.scripted.requests[1].messages == (Message("system", "s"), Message("user", "u"))


def test_defaults_and_changes_of_sampling() -> None:
    lm = ScriptedLM(lambda request: "x" * 1000).copy(max_tokens=5, temperature=0.5)
    assert lm("hello") == ["xxxxx"]
    assert lm.complete("hello", max_tokens=3)[0].finish_reason == "length"
    assert lm.sampling(n=2) == Sampling(max_tokens=5, temperature=0.5, n=2)
    with pytest.raises(ConfigError, match="'temprature' is no sampling setting"):
        lm("hello", temprature=1.0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"n": 0}, "n is 0"),
        ({"n": 3}, "same completion 3 times"),
        ({"max_tokens": "5"}, "max_tokens is '5'; it must be a whole number"),
        ({"temperature": None}, "temperature is None; it must be a number"),
    ],
)
def test_values_out_of_range(values: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Sampling(**values)  # type: ignore[arg-type]


def test_wrong_messages_are_refused() -> None:
    lm = ScriptedLM([])
    for wrong in ({"role": "robot", "content": "x"}, {"role": "user"}, {"content": "x"}):
        with pytest.raises(InputError, match="is not a message"):
            lm(messages=[wrong])
    with pytest.raises(InputError, match="either a prompt or messages"):
        lm("a", messages=[])


def test_one_failure_cancels_the_batch() -> None:
    lm = ScriptedLM(["a", EngineError("gone"), "c"])
    requests = [Request(messages=(Message("user", text),)) for text in "abc"]
    with pytest.raises(EngineError, match="gone"):
        lm.generate(requests)


def test_a_stop_text_is_one_text() -> None:
    lm = ScriptedLM([])
    assert lm.sampling(stop="###").stop == ("###",)
    assert lm.sampling(stop=["a", "b"]).stop == ("a", "b")


def test_a_stop_cancels_what_is_waited_for() -> None:
    engine, cancelled = ScriptedEngine([]), Future()
    engine.submit = lambda request: cancelled  # type: ignore[method-assign,assignment,return-value]
    with stoppable() as stop, pytest.raises(CancelledError):
        threading.Timer(0.05, stop.stop).start()
        LM(engine=engine)("hello")
    assert cancelled.cancelled()


def test_copies_share_the_engine_and_deepcopies_are_the_lm_itself() -> None:
    lm = ScriptedLM(["a"])
    assert lm.copy(max_tokens=3).engine() is lm.engine()
    assert copy.deepcopy(lm) is lm
    adapted = lm.copy(adapter=AdapterRef("area", 3, Path("somewhere")))
    assert str(adapted) == "scripted with area@3" and lm.adapter is None


def test_unknown_names_are_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path))
    with pytest.raises(UnknownModel):
        LM("no-such-model")
    with pytest.raises(AdapterError, match="area"):
        LM(engine=ScriptedEngine([]), adapter="area")


def test_state_makes_the_lm_again(smollm2: Path) -> None:
    lm = LM(str(smollm2), context=512, temperature=0.7, stop=("\n",))
    state = lm.dump_state()
    assert state == {
        "model": str(smollm2),
        "adapter": None,
        "settings": {"context": 512},
        "sampling": {"temperature": 0.7, "stop": ("\n",)},
    }
    assert LM.from_state(state).dump_state() == state
