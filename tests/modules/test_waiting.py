"""From plain programs to awaited ones and back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import homefire
from homefire.modules.waiting import asyncify, syncify


class Awaited(homefire.Module):
    def __init__(self) -> None:
        self.ask = homefire.Predict("question -> answer")

    async def aforward(self, **inputs: Any) -> homefire.Prediction:
        return await self.ask.acall(**inputs)


def test_a_plain_program_is_awaited_with_the_settings_of_the_task() -> None:
    program = homefire.Predict("question -> answer")

    async def run() -> list[str]:
        with homefire.context(lm=homefire.ScriptedLM(lambda request: '{"answer": "yes"}')):
            found = await asyncio.gather(*(asyncify(program)(question=str(number)) for number in range(20)))
        return [one.answer for one in found]

    assert asyncio.run(run()) == ["yes"] * 20


def test_programs_on_threads_run_at_the_same_time() -> None:
    meeting = threading.Barrier(20, timeout=30)

    async def run() -> None:
        await asyncio.gather(*(asyncify(meeting.wait)() for _ in range(20)))

    asyncio.run(run())


def test_a_failure_is_raised_where_it_is_awaited() -> None:
    def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(asyncify(fails)())  # type: ignore[arg-type]


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "around"])
def test_an_awaited_program_is_called_plainly(in_place: bool) -> None:
    program = Awaited()
    program.ask.lm = homefire.ScriptedLM(lambda request: '{"answer": "yes"}')
    made = syncify(program, in_place)
    assert (made is program) is in_place
    assert made(question="q").answer == "yes"

    async def inside_a_loop() -> str:
        return str(made(question="q").answer)

    assert asyncio.run(inside_a_loop()) == "yes"


def test_a_copy_of_a_changed_module_calls_itself() -> None:
    program = syncify(Awaited())
    copied = program.deepcopy()
    copied.ask.lm = homefire.ScriptedLM(['{"answer": "mine"}'])
    program.ask.lm = homefire.ScriptedLM(['{"answer": "not mine"}'])
    assert copied(question="q").answer == "mine"


def test_asynchronous_functions_are_called_plainly() -> None:
    async def add(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert syncify(add)(2, b=3) == 5
    with pytest.raises(homefire.InputError, match="expected a module"):
        syncify(7)
