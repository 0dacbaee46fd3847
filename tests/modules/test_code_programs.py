"""ProgramOfThought and CodeAct on the scripted engine: what is run, what is asked next, and what becomes of results and failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import CodeExecutionError, ConfigError, ContextTooLong, InputError
from homefire.modules.code_act import CodeAct
from homefire.modules.code_history import CodeHistory, CodeStep
from homefire.modules.example import Example
from homefire.modules.local_interpreter import LocalInterpreter
from homefire.modules.program_of_thought import ProgramOfThought
from homefire.modules.python_interpreter import PythonInterpreter
from homefire.modules.rlm import RLM
from homefire.modules.settings import context
from homefire.modules.trace import record


def wrote(code: str, **others: Any) -> str:
    return json.dumps({"reasoning": "so", "generated_code": code, **others})


def acted(code: str, finished: bool = False) -> str:
    return json.dumps({"generated_code": code, "finished": finished})


def prompt(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def run(program: Any, lines: Sequence[str], **inputs: Any) -> tuple[Any, list[str]]:
    """The prediction, the same from `acall`, and the prompts."""
    twin = ScriptedLM(lines)
    with context(lm=twin):
        awaited = asyncio.run(program.acall(**inputs))
    lm = ScriptedLM(lines)
    with context(lm=lm):
        prediction = program(**inputs)
    assert awaited == prediction
    assert [prompt(request) for request in twin.scripted.requests] == [prompt(request) for request in lm.scripted.requests]
    return prediction, [prompt(request) for request in lm.scripted.requests]


def test_a_result_of_the_right_type_is_the_answer() -> None:
    prediction, prompts = run(ProgramOfThought("a: int, b: int -> total: int"), [wrote("```python\na + b\n```")], a=2, b=3)
    assert prediction.total == 5
    assert prediction.trajectory == {"generated_code_0": "a + b", "code_output_0": "5"}
    assert "total: whole number" in prompts[0] and "no yield" in prompts[0]


@pytest.mark.parametrize(
    "code", ["print('on the way')\nSUBMIT(2 * n, 'so')", "SUBMIT({'double': 2 * n, 'why': 'so'})", "SUBMIT(double=4, why='so')"]
)
def test_a_program_may_submit_its_outputs(code: str) -> None:
    prediction, _ = run(ProgramOfThought("n: int -> double: int, why"), [wrote(code)], n=2)
    assert (prediction.double, prediction.why) == (4, "so")
    assert prediction.trajectory["code_output_0"].endswith("SUBMIT: {'double': 4, 'why': 'so'}")


def test_outputs_of_another_type_are_not_submitted() -> None:
    prediction, prompts = run(ProgramOfThought("n: int -> double: int"), [wrote("SUBMIT('four')"), wrote("SUBMIT(2 * n)")], n=2)
    assert prediction.double == 4
    assert "The result cannot be taken: double:" in prompts[1]


@pytest.mark.parametrize(
    ("signature", "code", "outputs"),
    [
        ("q -> n: float", "print(1.5)", {"n": 1.5}),
        ("q -> n: float", "3", {"n": 3.0}),
        ("q -> text", "'a b'", {"text": "a b"}),
        ("q -> text", "12", {"text": "12"}),
        ("q -> words: list[str]", "('a', 'b')", {"words": ["a", "b"]}),
        ("q -> n: int", "{'n': 4}", {"n": 4}),
        ("q -> n: int, mood: Literal['good', 'bad']", "{'n': 4, 'mood': 'bad', 'more': 1}", {"n": 4, "mood": "bad"}),
        ("q -> day: date", "import datetime\ndatetime.date(2024, 2, 29)", {"day": __import__("datetime").date(2024, 2, 29)}),
    ],
)
def test_results_are_taken_by_type(signature: str, code: str, outputs: dict[str, Any]) -> None:
    prediction, _ = run(ProgramOfThought(signature), [wrote(code)], q="?")
    assert {name: prediction[name] for name in outputs} == outputs


@pytest.mark.parametrize(
    ("signature", "code"),
    [("q -> n: int", "'many'"), ("q -> n: int, m: int", "{'n': 1}"), ("q -> n: int", "[1] * 5"), ("q -> n: int", "float('nan')")],
)
def test_other_results_are_read_by_the_model(signature: str, code: str) -> None:
    answer = '{"reasoning": "read", "n": 7, "m": 8}' if "m:" in signature else '{"reasoning": "read", "n": 7}'
    prediction, prompts = run(ProgramOfThought(signature), [wrote(code), answer], q="?")
    assert prediction.n == 7
    assert f"final_generated_code: {code}" in prompts[1]


def test_a_failure_is_shown_to_the_model_which_mends_it() -> None:
    prediction, prompts = run(ProgramOfThought("a: int -> b: int"), [wrote("a / 0"), wrote("x = a"), wrote("a + 1")], a=1)
    assert prediction.b == 2
    assert "previous_code: a / 0" in prompts[1] and "ZeroDivisionError" in prompts[1]
    assert "no value and printed nothing" in prompts[2]
    assert sorted(prediction.trajectory) == [f"{kind}_{n}" for kind in ("code_output", "generated_code") for n in range(3)]


def test_without_any_result_there_is_still_a_typed_answer() -> None:
    prediction, prompts = run(ProgramOfThought("a: int -> b: int", max_iters=2), [wrote("1 / 0")] * 2 + ['{"reasoning": "", "b": 9}'], a=1)
    assert prediction.b == 9
    assert "ZeroDivisionError" in prompts[2] and len(prompts) == 3


def test_variables_of_one_call_are_not_there_in_the_next() -> None:
    program = ProgramOfThought("a: int -> b: int", max_iters=1)
    first, _ = run(program, [wrote("kept = a\nkept")], a=1)
    second, _ = run(program, [wrote("kept"), '{"reasoning": "", "b": 0}'], a=1)
    assert first.b == 1
    assert "NameError" in second.trajectory["code_output_0"]


def test_a_given_interpreter_keeps_variables_and_stays_open() -> None:
    with LocalInterpreter() as interpreter:
        program = ProgramOfThought("a: int -> b: int", interpreter=interpreter)
        _, prompts = run(program, [wrote("import statistics\nkept = a\nkept")], a=1)
        prediction, _ = run(program, [wrote("kept + a")], a=10)
        assert prediction.b == 11
        assert "no yield" not in prompts[0]
        assert interpreter.execute("kept") == 1


class Plugged:
    """An interpreter as a user writes one: nothing but the protocol."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.ran: list[Any] = []
        self.open = 1

    def start(self) -> None: ...

    def execute(self, code: str, variables: Any = None) -> Any:
        self.ran.append((code, dict(variables or {}), sorted(self.tools)))
        if "fail" in code:
            raise CodeExecutionError("It failed", kind="Fail", traceback="It failed")
        return 5

    def shutdown(self) -> None:
        self.open = 0


def test_an_interpreter_can_be_plugged_in() -> None:
    made: list[Plugged] = []

    def factory() -> Plugged:
        made.append(Plugged())
        return made[-1]

    program = ProgramOfThought("a: int -> b: int", interpreter_factory=factory)
    prediction, _ = run(program, [wrote("fail"), wrote("work")], a=1)
    assert prediction.b == 5
    assert [one.open for one in made] == [0, 0]
    assert made[0].ran == [("fail", {"a": 1}, ["SUBMIT"]), ("work", {"a": 1}, ["SUBMIT"])]


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


def test_code_act_goes_on_until_it_is_finished() -> None:
    lines = [acted("seen = weather(place)\nseen"), acted("print(seen.upper())", finished=True), '{"reasoning": "", "wet": true}']
    prediction, prompts = run(CodeAct("place -> wet: bool", tools=[weather]), lines, place="Bergen")
    assert prediction.wet is True
    assert "- weather(city: text): The weather of a city." in prompts[0]
    assert "rain in Bergen" in prompts[1] and "RAIN IN BERGEN" in prompts[2]
    assert prediction.trajectory["code_output_1"] == "RAIN IN BERGEN"


def test_code_act_is_not_finished_by_code_that_fails_and_ends_with_its_steps() -> None:
    lines = [acted("weather(1, 2)", finished=True), acted("1"), '{"reasoning": "", "n": 3}']
    prediction, _ = run(CodeAct("q -> n: int", [weather], max_iters=2), lines, q="?")
    assert (prediction.n, len(prediction.trajectory)) == (3, 4)
    assert "takes 1 arguments" in prediction.trajectory["code_output_0"]


def test_inputs_are_given_again_when_variables_are_lost() -> None:
    lines = [acted("while True: pass"), acted("a", finished=True), '{"reasoning": "", "n": 3}']
    program = CodeAct("a: int -> n: int", interpreter_factory=lambda: PythonInterpreter(timeout=0.2))
    prediction, _ = run(program, lines, a=41)
    assert prediction.trajectory["code_output_1"] == "41"


def test_a_history_that_does_not_fit_is_shortened_with_notice() -> None:
    def script(request: Request) -> str:
        if request.prefill or request.generated:
            return "false}"
        if "finished" in prompt(request):
            return acted("print('long ' * 300)")
        return '{"reasoning": "", "n": 3}'

    lm = ScriptedLM(script, context=3_500)
    with context(lm=lm):
        prediction = CodeAct("q -> n: int", max_iters=8)(q="?")
    assert prediction.n == 3
    assert len(prediction.trajectory["code_output_7"]) > 1_400
    assert "characters left out" in prompt(lm.scripted.requests[-1])
    with context(lm=ScriptedLM(script, context=3_500)), pytest.raises(ContextTooLong):
        CodeAct("q -> n: int")(q="?" * 4_000)


def test_a_history_gets_shorter_until_one_step_is_left() -> None:
    history = CodeHistory(5_000, [CodeStep(f"step {number}", "x" * 3_000) for number in range(6)])
    lengths = [len(history.text)]
    while history.shorten():
        lengths.append(len(history.text))
    assert lengths == sorted(lengths, reverse=True) and lengths[-1] < 400
    assert "[5 earlier steps left out]" in history.text and "step 5" in history.text


def test_predictors_have_names_and_states_that_load() -> None:
    program = ProgramOfThought("q -> n: int")
    assert [path for path, _ in program.named_predictors()] == [
        "code_generate.predict",
        "code_regenerate.predict",
        "generate_output.predict",
    ]
    act = CodeAct("q -> n: int", [weather])
    assert [path for path, _ in act.named_predictors()] == ["codeact", "extractor.predict"]
    act.codeact.demos = [Example(q="a", trajectory="", generated_code="1", finished=True)]
    other = CodeAct("q -> n: int", [weather]).deepcopy()
    other.load_state(act.dump_state())
    assert other.codeact.demos[0].generated_code == "1"


def test_every_step_is_traced_under_its_path() -> None:
    with context(lm=ScriptedLM([wrote("1 / 0"), wrote("3")])), record() as trace:
        ProgramOfThought("q -> n: int")(q="?")
    assert [step.path for step in trace.steps] == ["code_generate.predict", "code_regenerate.predict"]


def test_a_batch_runs_in_parallel() -> None:
    lm = ScriptedLM(lambda request: wrote("a * 2"))
    with context(lm=lm):
        program = ProgramOfThought("a: int -> b: int")
        assert [made.b for made in program.batch([Example(a=n).with_inputs("a") for n in range(20)])] == [2 * n for n in range(20)]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: ProgramOfThought("q -> n", max_iters=0), ConfigError, "max_iters is 0"),
        (lambda: CodeAct("q -> n", max_iters=0), ConfigError, "max_iters is 0"),
        (lambda: CodeAct("q -> n", interpreter=Plugged(), interpreter_factory=Plugged), ConfigError, "both given"),
        (lambda: CodeAct("q -> n", [weather, weather]), InputError, "Two tools"),
        (lambda: ProgramOfThought("q -> n")(), InputError, "The input q is missing"),
        (lambda: ProgramOfThought("q -> n")(1), InputError, r"takes its inputs by name. Write program\(q=\.\.\.\)"),
        (lambda: RLM("q -> n")(1), InputError, r"takes its inputs by name. Write program\(q=\.\.\.\)"),
        (lambda: ProgramOfThought("q -> n")(q=object()), InputError, "the input 'q' is object"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], said: str) -> None:
    with context(lm=ScriptedLM([])), pytest.raises(error, match=said):
        call()


def test_an_input_that_is_not_in_the_signature_is_left_out_with_a_warning() -> None:
    with context(lm=ScriptedLM([wrote("q + 1")])), pytest.warns(UserWarning, match=r"Write program\(q=\.\.\.\)") as warned:
        assert ProgramOfThought("q: int -> n: int")(q=1, r=2).n == 2
    assert [one.filename for one in warned] == [__file__]
