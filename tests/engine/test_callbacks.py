"""Callbacks: who hears what, in which order, with which ids; and what a broken one does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homefire.engine import callbacks
from homefire.engine.callbacks import ACTIVE_CALL_ID, BaseCallback, Inputs, ambient_callbacks, observed, with_callbacks
from homefire.engine.lm import LM
from homefire.engine.request import Message, Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import EngineError


class Ears(BaseCallback):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, Any]] = []
        self.parents: list[str | None] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        assert isinstance(instance, LM)
        self.heard.append(("lm start", call_id, inputs["messages"]))
        self.parents.append(ACTIVE_CALL_ID.get())

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append(("lm end", call_id, exception or outputs))

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        self.heard.append(("module start", call_id, dict(inputs)))
        self.parents.append(ACTIVE_CALL_ID.get())

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append(("module end", call_id, exception or outputs))


def test_calls_of_an_lm_are_heard_by_its_own_and_by_ambient_callbacks() -> None:
    own, ambient = Ears(), Ears()
    lm = ScriptedLM(["one", "two"]).copy(callbacks=[own])
    with ambient_callbacks.block((ambient,)):
        lm("hello")
    asyncio.run(lm.acall("again"))
    assert [(what, value) for what, _, value in own.heard] == [
        ("lm start", [{"role": "user", "content": "hello"}]),
        ("lm end", ["one"]),
        ("lm start", [{"role": "user", "content": "again"}]),
        ("lm end", ["two"]),
    ]
    assert ambient.heard == own.heard[:2]
    assert own.heard[0][1] == own.heard[1][1] != own.heard[2][1]


def test_a_failure_is_heard() -> None:
    ears = Ears()
    with pytest.raises(EngineError):
        ScriptedLM([EngineError("gone")]).copy(callbacks=[ears])("hello")
    assert isinstance(ears.heard[1][2], EngineError)


def test_each_request_of_a_batch_is_a_call() -> None:
    ears = Ears()
    lm = ScriptedLM(["one", "two"]).copy(callbacks=[ears])
    lm.generate([Request(messages=(Message("user", text),)) for text in "ab"])
    assert [value for what, _, value in ears.heard if what == "lm end"] == [["one"], ["two"]]


def test_calls_inside_calls_know_their_parent() -> None:
    ears = Ears()
    with ambient_callbacks.block((ears,)):
        with observed("module", "program", {"question": "x"}) as call:
            ScriptedLM(["one"])("hello")
            call.give("the answer")
        assert ACTIVE_CALL_ID.get() is None
    assert [what for what, _, _ in ears.heard] == ["module start", "lm start", "lm end", "module end"]
    assert ears.parents == [None, ears.heard[0][1]]
    assert ears.heard[3][2] == "the answer"


def test_tasks_have_parents_of_their_own() -> None:
    ears = Ears()

    async def program(lm: LM) -> str:
        with observed("module", "program", {}):
            await asyncio.sleep(0)
            await lm.acall("hello")
            return ACTIVE_CALL_ID.get() or ""

    async def run() -> list[str]:
        lm = ScriptedLM(lambda request: "x")
        return await asyncio.gather(*(program(lm) for _ in range(4)))

    with ambient_callbacks.block((ears,)):
        ids = asyncio.run(run())
    assert len(set(ids)) == 4
    assert sorted(parent for parent in ears.parents if parent is not None) == sorted(ids)


def test_an_exception_passes_through_and_ends_the_call() -> None:
    ears = Ears()
    with pytest.raises(ValueError, match="no"), observed("module", "program", {}, own=[ears]) as call:
        call.give("never")
        raise ValueError("no")
    assert isinstance(ears.heard[1][2], ValueError)


def test_a_broken_callback_is_reported_once_and_breaks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
            raise RuntimeError("deaf")

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            raise RuntimeError("mute")

    ears = Ears()
    lm = ScriptedLM(["one", "two"]).copy(callbacks=[Broken(), ears])
    assert [lm("a"), lm("b")] == [["one"], ["two"]]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("Broken.on_lm_start failed: RuntimeError: deaf") == said.count("Broken.on_lm_end failed: RuntimeError: mute") == 1
    assert len(ears.heard) == 4


def test_every_kind_has_its_hooks() -> None:
    heard: list[str] = []
    hooks = [name for name in vars(BaseCallback) if name.startswith("on_")]
    every = type("Every", (BaseCallback,), {name: lambda self, *_, name=name: heard.append(name) for name in hooks})
    for kind in callbacks._HOOKS:
        with observed(kind, None, {}, own=[every()]):
            pass
    assert heard == hooks and len(hooks) == 22


def test_without_callbacks_nothing_is_made() -> None:
    with observed("module", None, {}) as one, observed("tool", None, {}) as two:
        one.give("x")
        assert one is two and ACTIVE_CALL_ID.get() is None


def test_methods_of_anybodys_class_are_heard() -> None:
    heard: list[Any] = []

    class Ears(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append((type(instance).__name__, dict(inputs)))

        def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append(outputs if exception is None else type(exception))

    class Shop:
        callbacks = (Ears(),)

        @with_callbacks
        def price(self, fruit: str, count: int = 1) -> float:
            """What it costs."""
            return {"apple": 0.5}[fruit] * count

        @with_callbacks
        async def weigh(self, fruit: str) -> int:
            return len(fruit)

    shop = Shop()
    assert shop.price("apple", count=2) == 1.0
    assert asyncio.run(shop.weigh("apple")) == 5
    with pytest.raises(KeyError):
        shop.price("stone")
    assert heard == [
        *(("Shop", {"fruit": "apple", "count": 2}), 1.0),
        *(("Shop", {"fruit": "apple"}), 5),
        *(("Shop", {"fruit": "stone"}), KeyError),
    ]
    assert Shop.price.__doc__ == "What it costs."
