"""RLM on the scripted engine: variables and not texts in the prompt, questions in batches and in budget, typed submission."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from homefire.engine.request import Completion, Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import CodeExecutionError, ConfigError
from homefire.modules.interpreter import FinalOutput
from homefire.modules.rlm import RLM
from homefire.modules.settings import context

LONG = "needle " + "hay " * 20_000


def step(code: str, reasoning: str = "think") -> str:
    return json.dumps({"reasoning": reasoning, "code": code})


def prompt(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


class Batches(ScriptedLM):
    """Knows how many requests came at once."""

    def __init__(self, script: Any, **options: Any) -> None:
        super().__init__(script, **options)
        self.sizes: list[int] = []

    def generate(self, requests: Sequence[Request], **options: Any) -> list[list[Completion]]:
        self.sizes.append(len(requests))
        return super().generate(requests, **options)


def test_it_explores_and_submits() -> None:
    lm = ScriptedLM([step("print(doc[:6], len(doc))"), step("SUBMIT(where=doc.find('needle'), word='needle')")])
    with context(lm=lm):
        prediction = RLM("doc, question -> where: int, word")(doc=LONG, question="Where?")
    assert (prediction.where, prediction.word) == (0, "needle")
    assert prediction.final_reasoning == "think"
    assert [sorted(one) for one in prediction.trajectory] == [["code", "output", "reasoning"]] * 2
    assert prediction.trajectory[0]["output"] == f"needle {len(LONG)}"
    first, second = map(prompt, lm.scripted.requests)
    assert f"- doc: str, {len(LONG)} characters: 'needle hay" in first
    assert len(first) < 3_000
    assert f"needle {len(LONG)}" in second and "iteration: 2 of 20" in second


def test_awaited_it_does_the_same() -> None:
    lines = [step("a = llm_query('hello')\na"), "sub-answer", step("SUBMIT(a)")]
    with context(lm=ScriptedLM(lines)):
        assert asyncio.run(RLM("doc -> word").acall(doc=LONG)).word == "sub-answer"


def test_questions_of_a_batch_are_one_batch_of_the_engine() -> None:
    sub = Batches(lambda request: request.messages[-1].content[::-1])
    main = ScriptedLM([step("SUBMIT(llm_query_batched(['abc', 'def', 'ghi']))")])
    with context(lm=main):
        assert RLM("doc -> words: list[str]", sub_lm=sub)(doc=LONG).words == ["cba", "fed", "ihg"]
    assert sub.sizes == [3]
    assert len(main.scripted.requests) == 1


def test_the_budget_of_questions_is_told_and_kept() -> None:
    lines = [step("print(llm_query('a'))"), "A", step("llm_query_batched(['b', 'c'])"), step("SUBMIT(word='done')")]
    lm = ScriptedLM(lines)
    with context(lm=lm):
        prediction = RLM("doc -> word", max_llm_calls=2)(doc=LONG)
    assert prediction.word == "done"
    assert "2 calls of the model were asked for, but 1 of 2 are left" in prediction.trajectory[1]["output"]
    assert "at most 2 prompts in all" in prompt(lm.scripted.requests[0])
    assert len(lm.scripted.requests) == 4


@pytest.mark.parametrize(
    ("submission", "said"),
    [
        ("SUBMIT(n='many', word='x')", "n: The value is not whole number"),
        ("SUBMIT(n=1)", "word is missing"),
        ("SUBMIT(n=1, word='x', more=2)", "no output 'more'"),
        ("SUBMIT(1, 'x', 2)", "SUBMIT takes n, word, but 3 values were given"),
        ("SUBMIT(n=float('nan'), word='x')", "n: "),
        ("SUBMIT(n=2 ** 70_000, word={1: {2}})", "cannot be taken"),
        ("llm_query('')", "A prompt is a text"),
        ("llm_query_batched('abc')", "A prompt is a text"),
    ],
)
def test_what_cannot_be_submitted_is_an_observation(submission: str, said: str) -> None:
    with context(lm=ScriptedLM([step(submission), step("SUBMIT(3, 'x')")])):
        prediction = RLM("doc -> n: int, word")(doc=LONG)
    assert said in prediction.trajectory[0]["output"]
    assert (prediction.n, prediction.word) == (3, "x")


@pytest.mark.parametrize("code", ["SUBMIT({'n': 3, 'word': 'x'})", "SUBMIT(3, word='x')", "print('seen')\nSUBMIT(word='x', n=3.0)\n1 / 0"])
def test_ways_to_submit(code: str) -> None:
    with context(lm=ScriptedLM([step(code)])):
        prediction = RLM("doc -> n: int, word")(doc=LONG)
    assert (prediction.n, prediction.word) == (3, "x")


def test_code_that_catches_everything_has_submitted_all_the_same() -> None:
    with context(lm=ScriptedLM([step("try:\n    SUBMIT('first')\nexcept BaseException:\n    pass\nprint('on')")])):
        assert RLM("doc -> word")(doc=LONG).word == "first"


def test_without_a_submission_the_outputs_are_extracted_with_notice() -> None:
    lm = ScriptedLM([step("print('seen')"), step("1 / 0"), '{"n": 5}'])
    with context(lm=lm):
        prediction = RLM("doc -> n: int", max_iters=2)(doc=LONG)
    assert prediction.n == 5
    assert prediction.final_reasoning == "No SUBMIT within 2 steps: extracted from what was seen."
    assert "2 of 2; the last step, call SUBMIT" in prompt(lm.scripted.requests[1])
    assert "ZeroDivisionError" in prompt(lm.scripted.requests[2])


def test_outputs_are_shown_up_to_a_limit() -> None:
    lm = ScriptedLM([step("print(doc)"), step("SUBMIT('x')")])
    with context(lm=lm):
        RLM("doc -> word", max_output_chars=500)(doc=LONG)
    assert "characters left out" in prompt(lm.scripted.requests[1])
    assert len(prompt(lm.scripted.requests[1])) < 4_000


def test_tools_are_described_and_called() -> None:
    def pages(number: int) -> list[str]:
        """Pages of the book."""
        return ["page"] * number

    lm = ScriptedLM([step("SUBMIT(len(pages('4')))")])
    with context(lm=lm):
        assert RLM("doc -> n: int", tools=[pages])(doc=LONG).n == 4
    assert "- pages(number: whole number): Pages of the book." in prompt(lm.scripted.requests[0])


def test_tables_are_described_as_what_the_code_sees() -> None:
    pandas = pytest.importorskip("pandas")
    lm = ScriptedLM([step("SUBMIT(sum(row['n'] for row in table))")])
    with context(lm=lm):
        assert RLM("table: Any -> n: int")(table=pandas.DataFrame({"n": range(100)})).n == 4950
    assert "- table: DataFrame, given as list, 100 items: [{'n': 0}, {'n': 1}" in prompt(lm.scripted.requests[0])


def test_an_interpreter_that_takes_submissions_itself_is_heard() -> None:
    class Plugged:
        def __init__(self) -> None:
            self.tools: dict[str, Any] = {}

        def start(self) -> None: ...
        def shutdown(self) -> None: ...
        def execute(self, code: str, variables: Any = None) -> Any:
            if code == "bad":
                raise CodeExecutionError("It failed", kind="Fail", traceback="It failed")
            return FinalOutput({"n": int(code)} if code != "7" else "seven")

    with context(lm=ScriptedLM([step("bad"), step("7"), step("3")])):
        prediction = RLM("doc -> n: int", interpreter=Plugged())(doc=LONG)
    assert prediction.n == 3
    assert [one["output"][:9] for one in prediction.trajectory[:2]] == ["It failed", "The resul"]


def test_verbose_prints_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with context(lm=ScriptedLM([step("SUBMIT('x')")])):
        RLM("doc -> word", verbose=True)(doc=LONG)
    assert "RLM step 1 of 20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [({"max_iters": 0}, "max_iters"), ({"tools": {"SUBMIT": len}}, "cannot be called 'SUBMIT'"), ({"max_llm_calls": -1}, "max_llm_calls")],
)
@pytest.mark.filterwarnings("ignore:The tool")
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RLM("doc -> word", **options)


def test_predictors_have_names() -> None:
    program = RLM("doc -> n: int").deepcopy()
    assert [path for path, _ in program.named_predictors()] == ["generate_action", "extract"]
