"""LM: sampling defaults, direct calls, copies and state, over the scripted engine."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path

import pytest

from homefire.engine import lm_options
from homefire.engine.lm import LM
from homefire.engine.request import AdapterRef, Message, Request, Sampling
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.errors import AdapterError, ConfigError, InputError, UnknownModel


def requests(texts: str) -> list[Request]:
    return [Request(messages=(Message("user", text),)) for text in texts]


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
    assert lm.sampling(temperature=None, max_tokens=None, seed=None) == Sampling(max_tokens=5, temperature=0.5)


def test_unknown_options_name_the_nearest_known_one() -> None:
    lm = ScriptedLM(["x"])
    with pytest.raises(ConfigError, match="An LM takes no 'temprature': did you mean 'temperature'"):
        lm("hello", temprature=1.0)
    with pytest.raises(ConfigError, match="takes no 'api_bse': did you mean 'api_base'"):
        LM("openai/x", api_bse="http://localhost:1")
    with pytest.raises(ConfigError, match=r"takes no 'use_developer'.*extra_body"):
        lm.copy(use_developer=1.0)
    with pytest.raises(ConfigError, match="engine is 'auto'; expected an engine"):
        LM("openai/x", engine="auto")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="model_type is 'text'"):
        LM("openai/x", "text")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"cache": 1}, "cache is 1"),
        ({"thinking": "high"}, "thinking is 'high'"),
        ({"callbacks": [print]}, "is no callback"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ScriptedLM([]).copy(**options)
    with pytest.raises(ConfigError, match=says):
        LM(engine=ScriptedEngine([]), **options)  # type: ignore[arg-type]


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
    for wrong in ({"role": "robot", "content": "x"}, {"role": "user"}, {"content": "x"}, "hello"):
        with pytest.raises(InputError, match="is not a message"):
            lm(messages=[wrong])  # type: ignore[list-item]
    with pytest.raises(InputError, match="either a prompt or messages"):
        lm("a", messages=[])
    with pytest.raises(InputError, match="The prompt is 3"):
        lm(3)  # type: ignore[arg-type]


def test_a_stop_text_is_one_text() -> None:
    lm = ScriptedLM([])
    assert lm.sampling(stop="###").stop == ("###",)
    assert lm.sampling(stop=["a", "b"]).stop == ("a", "b")


def test_scores() -> None:
    lm = LM(engine=ScriptedEngine([], scores=lambda request, text: -float(len(text))))
    request = requests("a")[0]
    assert lm.score(request, ["x", "xyz"]) == [-1.0, -3.0]
    assert asyncio.run(lm.ascore(request, ["x", "xyz"])) == [-1.0, -3.0]


def test_an_lm_says_whether_requests_may_think() -> None:
    lm = ScriptedLM(lambda request: "x").copy(thinking=False)
    lm.generate([*requests("a"), Request(messages=(Message("user", "b"),), thinking=True)])
    assert [request.thinking for request in lm.scripted.requests] == [False, True]
    assert lm.thinking is False


def test_copies_share_the_engine_and_deepcopies_are_the_lm_itself() -> None:
    lm = ScriptedLM(["a"])
    assert lm.copy(max_tokens=3).engine() is lm.engine()
    assert copy.deepcopy(lm) is lm
    adapted = lm.copy(adapter=AdapterRef("area", 3, Path("somewhere")))
    assert str(adapted) == "scripted with area@3" and lm.adapter is None
    assert adapted.copy(temperature=1.0, rollout_id=7).adapter == adapted.adapter
    assert adapted.copy(adapter=None).adapter is None
    with pytest.raises(ConfigError, match="made with an engine, so api_base cannot be changed"):
        lm.copy(api_base="http://localhost:1")


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
    options = lm.copy(cache=False, timeout=5, thinking=True, rollout_id=3).dump_state()
    assert (options["cache"], options["timeout"], options["thinking"], options["sampling"]["rollout_id"]) == (False, 5, True, 3)
    assert LM.from_state(options).dump_state() == options


def test_an_address_for_a_model_of_this_machine_is_refused(smollm2: Path) -> None:
    with pytest.raises(ConfigError, match=r"api_base is 'http://localhost:1', but .* runs on this machine"):
        LM(str(smollm2), api_base="http://user:pass@localhost:1")


def remote(**changes: object) -> LM:
    return LM(
        "openai/some-model", base_url="http://me:hush@localhost:9/v1?token=hush", api_key="hush", headers={"x-key": "hush"}, **changes
    )  # type: ignore[arg-type]


def test_a_remote_lm_contacts_nothing_and_tells_no_key() -> None:
    lm = remote(extra_body={"top_a": 1}, num_retries=1)
    state = lm.dump_state()
    assert "hush" not in f"{state}{lm!r}{lm}"
    assert state["api_base"] == "http://localhost:9/v1" and state["extra_body"] == {"top_a": 1} and state["num_retries"] == 1
    assert lm.model == "openai/some-model" and lm.path is None
    again = LM.from_state(state, allow_endpoint=True)
    assert again.dump_state() == state


def test_a_saved_program_cannot_redirect_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = LM.from_state(remote(extra_body={"top_a": 1}).dump_state())
    assert "api_base and extra_body of the saved LM" in capsys.readouterr().err
    for call in (lambda: loaded("my secret"), lambda: asyncio.run(loaded.acall("my secret")), lambda: loaded.copy(temperature=1.0)("x")):
        with pytest.raises(ConfigError, match="names the server http://localhost:9/v1"):
            call()
    named = loaded.copy(api_base="http://localhost:9/v1", api_key="")
    assert named.engine().info.model == "openai/some-model"


def test_copies_with_another_server_have_another_engine() -> None:
    lm = remote()
    assert lm.copy(temperature=1.0).engine() is lm.engine()
    assert lm.copy(api_base="http://localhost:8/v1").engine() is not lm.engine()
    assert lm.copy(timeout=3).dump_state()["timeout"] == 3


def test_addresses_lose_their_credentials() -> None:
    strip = lm_options.without_credentials
    assert strip("https://me:hush@example.org:8/v1?key=hush#hush") == "https://example.org:8/v1"
    assert strip("http://localhost:8000") == "http://localhost:8000"


def test_many_calls_leave_nothing_behind() -> None:
    lm = ScriptedLM(lambda request: "x")
    for _ in range(1500):
        lm("a")
    assert len(lm.history) == 1000
