"""BaseLM: models of a user's own, in DSPy's way; what they may return, what fails, several completions, and their state as an LM."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from homefire.engine.own_lm import BaseLM
from homefire.errors import ConfigError, EngineError, InputError, ModelError
from homefire.modules.predict import Predict
from homefire.modules.settings import context


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, **more}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}


class Parrot(BaseLM):
    """Says what it was told to."""

    def __init__(self, said: Any, **options: Any) -> None:
        super().__init__("parrot", **options)
        self.said = said
        self.heard: list[dict[str, Any]] = []

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self.heard.append({"messages": messages, **kwargs})
        said = self.said(self.heard) if callable(self.said) else self.said
        if isinstance(said, Exception):
            raise said
        return said


def as_objects(text: str) -> SimpleNamespace:
    choice = SimpleNamespace(message=SimpleNamespace(content=text, reasoning_content="hm"), finish_reason="stop")
    return SimpleNamespace(choices=[choice], usage=SimpleNamespace(prompt_tokens=7, completion_tokens=3))


@pytest.mark.parametrize("said", [answer("Hi."), as_objects("Hi."), "Hi.", ["Hi."], {"choices": [{"text": "Hi."}]}])
def test_what_forward_may_return(said: Any) -> None:
    lm = Parrot(said)
    assert lm("Hello.") == asyncio.run(lm.acall("Hello.")) == ["Hi."]
    assert lm.heard[0]["messages"] == [{"role": "user", "content": "Hello."}]


def test_a_program_on_it(capsys: pytest.CaptureFixture[str]) -> None:
    lm = Parrot(answer('{"answer": 4}'), temperature=0.3, max_tokens=50, colour="red")
    with context(lm=lm):
        prediction = Predict("question -> answer: int")(question="2 + 2?")
    assert (prediction.answer, str(lm), lm.model) == (4, "parrot", "parrot")
    assert {name: lm.heard[0][name] for name in ("temperature", "max_tokens", "colour")} == {
        "temperature": 0.3,
        "max_tokens": 50,
        "colour": "red",
    }
    assert lm.history[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "cached_tokens": 0}
    lm.inspect_history()
    assert "2 + 2?" in capsys.readouterr().out


def test_an_answer_without_its_form_is_asked_for_again() -> None:
    lm = Parrot(lambda heard: answer("four") if len(heard) == 1 else answer('{"answer": 4}'))
    with context(lm=lm):
        assert Predict("question -> answer: int")(question="2 + 2?").answer == 4


def test_several_completions_also_of_a_forward_that_gives_one_at_a_time() -> None:
    lm = Parrot(lambda heard: answer(str(len(heard))), temperature=1.0)
    assert lm("Count.", n=3) == ["1", "2", "3"]
    lm.said = ["a", "b", "c", "d"]
    assert lm("Count.", n=3) == ["a", "b", "c"]


def test_an_answer_that_was_cut_off_is_known_to_be() -> None:
    lm = Parrot(answer("Once", finish_reason="length"))
    assert lm.complete("Tell.")[0].finish_reason == "length"
    assert Parrot(as_objects("Hi.")).complete("Hello.")[0].thinking == "hm"


def test_calls_run_at_once() -> None:
    together = threading.Barrier(4, timeout=60)

    def wait(heard: Any) -> str:
        together.wait()
        return '{"answer": "x"}'

    with context(lm=Parrot(wait)):
        predict = Predict("question -> answer")
        assert len(predict.batch([{"question": str(number)} for number in range(4)], num_threads=4)) == 4


def test_one_that_is_asynchronous() -> None:
    class Slow(BaseLM):
        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return messages[-1]["content"].upper()

    assert Slow("slow")("hello") == ["HELLO"]


@pytest.mark.parametrize(
    ("said", "error", "problem"),
    [
        (ValueError("no network"), ModelError, "'parrot' failed: ValueError: no network"),
        ({"choices": []}, EngineError, "expected a text, or"),
        (None, EngineError, "forward gave None"),
        (InputError("mine"), InputError, "mine"),
    ],
)
def test_what_fails_says_why(said: Any, error: type[Exception], problem: str) -> None:
    with pytest.raises(error, match=problem):
        Parrot(said)("Hello.")


def test_one_failing_call_leaves_the_others_alone() -> None:
    lm = Parrot(lambda heard: ValueError("once") if len(heard) == 2 else '{"answer": "x"}')
    with context(lm=lm):
        made = Predict("question -> answer").batch([{"question": str(number)} for number in range(5)], num_threads=1)
    assert [one is None for one in made] == [False, True, False, False, False]


def test_one_that_says_nothing_shows_what_to_write() -> None:
    with pytest.raises(InputError, match="def forward"):
        BaseLM("mine")("Hello.")
    with pytest.raises(ConfigError, match="model_type is 'text'"):
        BaseLM("mine", model_type="text")


def test_a_copy_has_other_sampling_and_a_history_of_its_own() -> None:
    lm = Parrot(answer("Hi."))
    copied = lm.copy(temperature=0.9)
    copied("Hello.")
    assert (lm.heard[0]["temperature"], len(lm.history), len(copied.history)) == (0.9, 0, 1)
    copied.launch()
    copied.close()
    assert copied("Hello.") == ["Hi."]  # an engine that was handed in is not its LM's to end
