"""What a call does when the first answer is not enough, on the scripted engine."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from homefire.engine.callbacks import BaseCallback
from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion, Request
from homefire.engine.scripted_engine import ScriptedEngine, ScriptedLM
from homefire.errors import ConstraintError, EngineError, InputError, ParseError
from homefire.modules.call import MOST_RETRIES, RETRY_SAMPLES
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.chat_format import ChatFormat
from homefire.modules.example import Example, Prediction
from homefire.modules.field_stream import FieldDelta, Restarted
from homefire.modules.predict import SEVERAL_TEMPERATURE, Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd, but the number must be even")
    return value


class Count(Signature):
    """Count."""

    question: str = InputField()
    number: Annotated[int, AfterValidator(even)] = OutputField()


class Free(ScriptedEngine):
    """An engine that enforces nothing and cannot go on with an answer."""

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            backend="scripted", model="free", context=100_000, max_batch=8, adapter_mode="none", structured="none", continues=False
        )


def test_a_broken_constraint_is_told_to_the_model_which_is_asked_for_several_samples() -> None:
    lm = ScriptedLM(['{"number": 7}', '{"number": 9}', '{"number": 4}', '{"number": 5}', '{"number": 6}'])
    with context(lm=lm):
        prediction = Predict(Count)(question="how many?")
    assert prediction.number == 4
    assert prediction.info.calls == 2
    first, second = lm.scripted.requests
    assert second.messages[: len(first.messages)] == first.messages
    said, wanted = second.messages[len(first.messages) :]
    assert (said.role, said.content, wanted.role) == ("assistant", '{"number": 7}', "user")
    assert "number" in wanted.content and "even" in wanted.content
    assert second.sampling.n == RETRY_SAMPLES and second.sampling.temperature > 0


def test_a_constraint_that_stays_broken_is_an_error_after_a_bounded_number_of_requests() -> None:
    lm = ScriptedLM(lambda request: '{"number": 7}')
    with context(lm=lm), pytest.raises(ConstraintError, match="even") as caught:
        Predict(Count)(question="how many?")
    assert caught.value.text == '{"number": 7}'
    assert len(lm.scripted.requests) == 1 + MOST_RETRIES
    assert all(len(request.messages) <= len(lm.scripted.requests[0].messages) + 2 for request in lm.scripted.requests)


def test_an_answer_that_ends_at_its_limit_is_whole_if_nothing_is_missing() -> None:
    whole = '{"answer": 12}'
    with context(lm=ScriptedLM([Completion(text=whole, token_ids=(), finish_reason="length", prompt_tokens=1)])):
        prediction = Predict("question -> answer: int")(question="?")
    assert prediction.answer == 12 and not prediction.cut_off


def test_an_answer_that_lacks_only_its_end_is_cut_off_too() -> None:
    with context(lm=ScriptedLM(["[[ ## answer ## ]]\n12" + "9" * 50]), format=ChatFormat()):
        prediction = Predict("question -> answer: int", max_tokens=20)(question="?")
    assert prediction.cut_off and isinstance(prediction.answer, int)


def test_samples_that_were_cut_off_are_closed_together() -> None:
    def script(request: Request) -> str:
        return ' "no"}' if request.prefill else '{"reasoning": "' + "because " * 100

    lm = ScriptedLM(script)
    with context(lm=lm):
        prediction = Predict("question -> reasoning: str, answer: Literal['yes', 'no']", max_tokens=40, n=3)(question="?")
    assert [one.answer for one in prediction.completions] == ["no"] * 3
    assert all(one.cut_off for one in prediction.completions)
    assert [request.sampling.n for request in lm.scripted.requests] == [3, 1, 1, 1]
    assert prediction.info.calls == 4


def test_several_samples_are_drawn_hot_unless_a_temperature_is_given() -> None:
    lm = ScriptedLM(lambda request: '{"answer": "a"}')
    with context(lm=lm):
        Predict("question -> answer", n=2)(question="?")
        Predict("question -> answer", n=2, temperature=0.1)(question="?")
    assert [request.sampling.temperature for request in lm.scripted.requests] == [SEVERAL_TEMPERATURE, 0.1]


def test_an_engine_that_enforces_nothing_is_asked_once_more() -> None:
    engine = Free(["I would say seven.", *['{"number": 8}'] * RETRY_SAMPLES])
    with context(lm=LM(engine=engine)):
        assert Predict(Count)(question="how many?").number == 8
    stubborn = Free(lambda request: "I would say seven.")
    with context(lm=LM(engine=stubborn)), pytest.raises(ParseError, match="seven"):
        Predict(Count)(question="how many?")
    assert len(stubborn.requests) == 2


def test_a_cut_off_answer_of_an_engine_that_cannot_go_on_is_asked_for_again() -> None:
    engine = Free(lambda request: '{"answer": "yes"}' if len(request.messages) > 2 else '{"answer": "' + "long " * 100)
    with context(lm=LM(engine=engine)):
        prediction = Predict("question -> answer: Literal['yes', 'no']", max_tokens=40)(question="?")
    assert prediction.answer == "yes" and prediction.cut_off
    assert "brief" in engine.requests[1].messages[-1].content
    assert not any(request.prefill or request.generated for request in engine.requests)


def test_probabilities_are_those_of_the_choices_behind_what_came_before() -> None:
    def scores(request: Request, text: str) -> float:
        assert request.prefill.endswith('"mood":') or request.prefill.endswith('"mood": ')
        assert '"why": "because"' in request.prefill
        return -1.0 if "good" in text else -2.0

    lm = ScriptedLM(['{"why": "because", "mood": "bad"}'], scores=scores)
    with context(lm=lm):
        prediction = Predict("text -> why, mood: Literal['good', 'bad']")(text="?")
    assert list(prediction.probabilities("mood")) == ["good", "bad"]
    assert sum(prediction.probabilities("mood").values()) == pytest.approx(1)
    assert prediction.confidence("mood") == pytest.approx(1 / (1 + 2.718281828))
    assert asyncio.run(prediction.aprobabilities("mood")) == prediction.probabilities("mood")
    with pytest.raises(InputError, match="fixed set"):
        prediction.probabilities("why")
    with pytest.raises(InputError, match="no output"):
        prediction.probabilities("other")


def test_only_a_predictor_that_can_score_gives_probabilities() -> None:
    with pytest.raises(InputError, match="predictor"):
        Prediction(mood="good").probabilities("mood")
    with context(lm=ScriptedLM(['{"mood": "good"}'])):
        prediction = Predict("text -> mood: Literal['good', 'bad']")(text="?")
    with pytest.raises(EngineError):
        prediction.probabilities("mood")


def test_an_output_may_have_the_name_of_what_a_prediction_knows() -> None:
    with context(lm=ScriptedLM(['{"confidence": 0.5, "info": "i", "thinking": "t"}'])):
        prediction = Predict("text -> confidence: float, info, thinking")(text="?")
    assert (prediction.confidence, prediction.info, prediction.thinking) == (0.5, "i", "t")
    prediction.confidence = 0.7
    assert prediction["confidence"] == 0.7


def test_thinking_is_kept_apart() -> None:
    said = Completion(text='{"answer": "a"}', token_ids=(), finish_reason="stop", prompt_tokens=1, thinking="let me see")
    with context(lm=ScriptedLM([said])):
        prediction = Predict("question -> answer")(question="?")
    assert (prediction.answer, prediction.thinking) == ("a", "let me see")


def test_a_program_can_be_awaited() -> None:
    async def main() -> list[Prediction]:
        program = ChainOfThought("question -> answer: int")
        return await asyncio.gather(*(program.acall(question=str(index)) for index in range(20)))

    with context(lm=ScriptedLM(lambda request: f'{{"reasoning": "r", "answer": {request.messages[-1].content.split()[-1]}}}')):
        assert [one.answer for one in asyncio.run(main())] == list(range(20))


def test_a_stream_tells_the_fields_and_ends_with_the_prediction() -> None:
    with context(lm=ScriptedLM(['{"reasoning": "first this, then that", "answer": "it \\"is\\" so"}'])):
        *pieces, last = ChainOfThought("question -> answer").stream(question="?")
    assert isinstance(last, Prediction) and last.answer == 'it "is" so'
    deltas = [piece for piece in pieces if isinstance(piece, FieldDelta)]
    assert len(deltas) == len(pieces) > 2
    for name in ("reasoning", "answer"):
        assert "".join(delta.text for delta in deltas if delta.field == name) == last[name]
    assert {delta.path for delta in deltas} == {"predict"}


def test_a_stream_begins_anew_when_the_model_is_asked_again() -> None:
    async def main() -> list[Any]:
        return [piece async for piece in Predict(Count).astream(question="?")]

    with context(lm=ScriptedLM(['{"number": 7}', *['{"number": 8}'] * RETRY_SAMPLES])):
        pieces = asyncio.run(main())
    kinds = [type(piece) for piece in pieces]
    assert kinds.index(Restarted) < len(kinds) - 2 and kinds[-1] is Prediction
    after = pieces[kinds.index(Restarted) + 1 : -1]
    assert "".join(piece.text for piece in after) == "8" and pieces[-1].number == 8


def test_a_stream_of_a_cut_off_answer_goes_on_with_what_closes_it() -> None:
    def script(request: Request) -> str:
        return ' "no"}' if request.prefill else '{"reasoning": "' + "because " * 100

    with context(lm=ScriptedLM(script)):
        *pieces, last = Predict("question -> reasoning: str, answer: Literal['yes', 'no']", max_tokens=40).stream(question="?")
    texts = {name: "".join(piece.text for piece in pieces if piece.field == name) for name in ("reasoning", "answer")}
    assert texts == {"reasoning": last.reasoning, "answer": "no"}


def test_a_stream_raises_what_the_program_raises() -> None:
    with context(lm=ScriptedLM([EngineError("gone")])), pytest.raises(EngineError, match="gone"):
        list(Predict("question -> answer").stream(question="?"))


def test_a_stream_that_is_given_up_leaves_no_thread_and_no_setting() -> None:
    import threading

    before = threading.active_count()
    with context(lm=ScriptedLM(lambda request: '{"answer": "a b c d"}')):
        stream = Predict("question -> answer").stream(question="?")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


class Heard(BaseCallback):
    """Writes down which hooks were called."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.said.append(f"module {type(instance).__name__}")

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.said.append("module ends" if exception is None else f"module fails: {exception}")

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.said.append("format")

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.said.append("lm")

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.said.append(f"parsed {outputs}")


@pytest.mark.parametrize("awaited", [False, True])
def test_callbacks_hear_the_way_of_a_call(awaited: bool) -> None:
    heard = Heard()
    program = ChainOfThought("question -> answer")
    with context(lm=ScriptedLM(lambda request: '{"reasoning": "r", "answer": "a"}'), callbacks=[heard]):
        asyncio.run(program.acall(question="?")) if awaited else program(question="?")
    parsed = "parsed {'reasoning': 'r', 'answer': 'a'}"
    assert heard.said == ["module ChainOfThought", "module Predict", "format", "lm", parsed, "module ends", "module ends"]


def test_callbacks_of_one_module_hear_only_its_calls() -> None:
    heard = Heard()
    one, other = Predict("question -> answer"), Predict("question -> answer")
    one.callbacks = [heard]
    with context(lm=ScriptedLM(lambda request: '{"answer": "a"}')):
        one(question="?")
        other(question="?")
    assert [line for line in heard.said if line.startswith("module")] == ["module Predict", "module ends"]


@pytest.mark.parametrize("awaited", [False, True])
def test_a_prediction_knows_what_each_model_did_for_it(awaited: bool) -> None:
    program = ChainOfThought("question -> answer")
    lm = ScriptedLM(lambda request: '{"reasoning": "r", "answer": "a"}')
    with context(lm=lm, track_usage=True):
        prediction = asyncio.run(program.acall(question="?")) if awaited else program(question="?")
    assert prediction.get_lm_usage()["scripted"]["calls"] == 1
    assert prediction.get_lm_usage()["scripted"]["completion_tokens"] == len('{"reasoning": "r", "answer": "a"}')
    with context(lm=lm):
        assert program(question="?").get_lm_usage() == {}


def test_a_prediction_can_be_copied_and_pickled() -> None:
    import copy
    import pickle

    with context(lm=ScriptedLM(['{"answer": "a"}'])):
        prediction = Predict("question -> answer")(question="?")
    for again in (copy.deepcopy(prediction), pickle.loads(pickle.dumps(prediction)), prediction.copy()):
        assert again == prediction and again.info == prediction.info
    assert Example(prediction).toDict() == {"answer": "a"}
