"""Many calls at once: order, failures, patience, pairs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError, EngineError, InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.parallel import Patience, TooManyFailures, run_all
from homefire.modules.parallel_pairs import Parallel
from homefire.modules.predict import Predict
from homefire.modules.settings import configure, context


class Square(Module):
    def forward(self, n: int) -> Prediction:
        if n < 0:
            raise ValueError(f"{n} is negative")
        return Prediction(square=n * n)


def examples(*numbers: int) -> list[Example]:
    return [Example(n=n).with_inputs("n") for n in numbers]


def test_a_failed_example_is_none_and_the_others_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    found = Square().batch(examples(1, -2, 3))
    assert [one and one.square for one in found] == [1, None, 9]
    assert "Example 1 failed: ValueError: -2 is negative" in capsys.readouterr().err


def test_failed_examples_are_returned_with_their_errors() -> None:
    given = examples(-1, 2, -3)
    found, failed, errors = Square().batch(given, num_threads=2, return_failed_examples=True)
    assert [one and one.square for one in found] == [None, 4, None]
    assert failed == [given[0], given[2]] and [str(error) for error in errors] == ["-1 is negative", "-3 is negative"]


def test_max_errors_stops_with_what_there_is() -> None:
    with pytest.raises(TooManyFailures, match="2 of 4 examples failed, the most that max_errors allows") as caught:
        Square().batch(examples(1, -2, -3, 4), num_threads=1, max_errors=2)
    assert [one and one.square for one in caught.value.results][:3] == [1, None, None] and set(caught.value.failures) == {1, 2}
    with context(max_errors=1, num_threads=1), pytest.raises(TooManyFailures, match="1 of 2"):
        Square().batch(examples(-1, 2))


def test_a_broken_program_stops_early() -> None:
    ran: list[int] = []

    class Broken(Module):
        def forward(self, n: int) -> Prediction:
            ran.append(n)
            time.sleep(0.01)  # leaves those who count the failures a moment
            raise KeyError("no")

    with pytest.raises(TooManyFailures, match="All of the first 10 examples failed"):
        Broken().batch(examples(*range(500)), num_threads=1)
    assert len(ran) < 500


def test_a_failure_of_the_system_is_raised_at_once() -> None:
    with context(lm=ScriptedLM(lambda request: EngineError("out of memory"))), pytest.raises(EngineError):
        Predict("n: int -> answer").batch(examples(*range(3)))


def test_tracebacks_where_they_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Square().batch(examples(-1, 2), provide_traceback=True)
    with context(provide_traceback=True):
        Square().batch(examples(-1, 2))
    assert capsys.readouterr().err.count("Traceback (most recent call last)") == 2


def test_mappings_are_inputs_and_examples_must_know_theirs() -> None:
    assert [one.square for one in Square().batch([{"n": 2}, {"n": 3}])] == [4, 9]
    assert Square().batch([]) == []
    with pytest.raises(ValueError, match="with_inputs"):
        Square().batch([Example(n=1)])


def test_settings_name_their_kinds() -> None:
    for name, value in [("num_threads", 0), ("max_errors", "3"), ("provide_traceback", 1), ("warn_on_type_mismatch", "no")]:
        with pytest.raises(ConfigError, match=f"{name} is {value!r}"):
            configure(**{name: value})


def test_stragglers_are_begun_again_and_the_first_to_end_counts() -> None:
    begun: list[str] = []
    second = threading.Event()

    def straggler() -> str:
        begun.append("slow")
        if len(begun) > 1:
            second.set()
            return "second"
        assert second.wait(60)
        return "first"

    calls: list[Callable[[], str]] = [lambda: "quick", straggler]
    outcomes = run_all(calls, 2, Patience(timeout=0.2, straggler_limit=1))
    assert begun == ["slow", "slow"] and outcomes.results[0] == "quick" and outcomes.results[1] in ("first", "second")


def test_more_stragglers_than_allowed_are_waited_for() -> None:
    begun: list[int] = []
    go = threading.Event()
    timer = threading.Timer(1.0, go.set)
    timer.start()

    def slow(number: int) -> int:
        begun.append(number)
        assert go.wait(60)
        return number

    assert run_all([partial(slow, n) for n in range(3)], 3, Patience(timeout=0.1, straggler_limit=1)).results == [0, 1, 2]
    assert sorted(begun[:3]) == [0, 1, 2] and len(begun) <= 4
    timer.join()


def test_pairs_of_all_kinds() -> None:
    def add(a: int, b: int = 0) -> int:
        return a + b

    pairs: list[tuple[Callable[..., Any], Any]] = [(Square(), examples(3)[0]), (add, (1, 2)), (add, {"a": 5}), (len, [1, 2, 3])]
    square, *others = Parallel(num_threads=2)(pairs)
    assert square.square == 9 and others == [3, 5, 3]
    assert asyncio.run(Parallel().acall([(add, (4, 4))])) == [8]
    whole: list[Any] = Parallel(access_examples=False)([(lambda example: example.n, examples(7)[0])])
    assert whole == [7]
    results, failed, errors = Parallel(return_failed_examples=True)([(Square(), {"n": -1}), (Square(), {"n": 1})])
    assert results[0] is None and failed == [{"n": -1}] and str(errors[0]) == "-1 is negative"


def test_wrong_pairs_show_the_call() -> None:
    for wrong in [Square(), (Square(),), (Square, {"n": 1}), ("program", {"n": 1})]:
        with pytest.raises(InputError, match=r"Parallel\(\)\(\[\(program, example\)"):
            Parallel()([wrong])  # type: ignore[list-item]
    with pytest.raises(InputError, match="The example of pair 0 is 5"):
        Parallel()([(Square(), 5)])


def test_different_programs_share_the_engine() -> None:
    def script(request: Request) -> str:
        return '{"answer": "a"}' if "answer" in request.messages[0].content else '{"word": "w"}'

    first, second = Predict("n: int -> answer"), Predict("n: int -> word")
    with context(lm=ScriptedLM(script)):
        found = Parallel()([(program, {"n": n}) for n in range(4) for program in (first, second)])
    assert [next(iter(one.values())) for one in found] == ["a", "w"] * 4
