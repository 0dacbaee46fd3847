"""Evaluate: what is done is kept through Ctrl-C, kills and failures; metrics and programs that are wrong say so."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import EngineError, EvaluationError, InputError
from homefire.modules.example import Example, Prediction
from homefire.modules.predict import Predict
from homefire.optimizers.evaluate import Evaluate, EvaluationFailed, EvaluationInterrupted
from homefire.optimizers.evaluation_result import EvaluationResult
from homefire.optimizers.metrics import field_match, score_of


def examples(count: int) -> list[Example]:
    return [Example(n=n, double=2 * n).with_inputs("n") for n in range(count)]


def doubled(n: int) -> Prediction:
    return Prediction(double=2 * n if n != 3 else 7)


def quiet(count: int = 6, metric: Any = None, **options: Any) -> Evaluate:
    return Evaluate(examples(count), metric or field_match("double"), display_progress=False, **options)


def test_a_function_is_a_program() -> None:
    result = quiet()(doubled)
    assert (result.score, result.program, result.metric) == (83.33, "doubled", "field_match")


def test_ctrl_c_keeps_what_is_done() -> None:
    interrupted = threading.Event()

    def slow(n: int) -> Prediction:
        if n == 4:
            interrupted.wait(0.5)  # until the main thread waits, too
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(1)
        return doubled(n)

    with pytest.raises(EvaluationInterrupted, match=r"Interrupted after \d+ of 500 examples.*resume='file.jsonl'") as caught:
        quiet(500, num_threads=1)(slow)
    rows = caught.value.result.rows
    assert 4 <= len(rows) < 500
    assert [row.example.n for row in rows] == list(range(len(rows)))
    assert isinstance(caught.value, KeyboardInterrupt) and not isinstance(caught.value, Exception)


def test_an_interruption_before_the_first_row_has_a_result() -> None:
    def never(n: int) -> Prediction:
        threading.Event().wait(0.5)
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(0.5)
        raise asyncio.CancelledError

    with pytest.raises(EvaluationInterrupted) as caught:
        quiet(1)(never)
    assert caught.value.result.rows == () and math.isnan(caught.value.result.mean)


SCRIPT = """
import os, pathlib, signal, sys
from homefire import Evaluate, Example, Prediction

asked = pathlib.Path("asked.txt")

def program(n):
    with asked.open("a", encoding="utf-8") as file:
        file.write(f"{n} ")
    if n == 5 and sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return Prediction(double=2 * n)

def metric(example, prediction, trace=None):
    return example.double == prediction.double

devset = [Example(n=n, double=2 * n).with_inputs("n") for n in range(8)]
result = Evaluate(devset, metric, num_threads=1, display_progress=False, resume="rows.jsonl")(program)
print(result.score, len(result.rows), result.rows[1].prediction.double)
"""


def test_after_a_kill_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT, encoding="utf-8")

    def run(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "run.py", how], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("killed").returncode == -signal.SIGKILL
    journal = tmp_path / "rows.jsonl"
    assert len(journal.read_text(encoding="utf-8").splitlines()) == 1 + 5
    with journal.open("a", encoding="utf-8") as file:
        file.write('{"place": 5, "exam')  # a line that the kill cut off
    done = run("whole")
    assert done.stdout.split() == ["100.0", "8", "2"], done.stderr
    assert (tmp_path / "asked.txt").read_text(encoding="utf-8").split() == list("012345567")
    assert "5 of 8 examples are done already" in done.stderr
    assert [json.loads(line)["place"] for line in journal.read_text(encoding="utf-8").splitlines()[1:]] == list(range(8))


def test_rows_that_failed_are_tried_again(tmp_path: Path) -> None:
    broken = [True]

    def program(n: int) -> Prediction:
        if n == 2 and broken[0]:
            raise ValueError("not now")
        return doubled(n)

    evaluate = quiet(3, resume=tmp_path / "rows.jsonl")
    assert evaluate(program).rows[2].error == "ValueError: not now"
    broken[0] = False
    again = evaluate(program)
    assert again.rows[2].error is None and again.score == 100


def test_a_journal_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    quiet(3, resume=path)(doubled)
    with pytest.raises(InputError, match="the examples changed since"):
        quiet(4, resume=path)(doubled)
    with pytest.raises(InputError, match="the metric changed since"):
        quiet(3, metric=lambda example, prediction: 1.0, resume=path)(doubled)
    with pytest.raises(InputError, match="the program changed since"):
        quiet(3, resume=path)(lambda n: Prediction(double=n))
    path.write_text("text,label\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no journal of an evaluation"):
        quiet(3, resume=path)(doubled)
    assert path.read_text(encoding="utf-8") == "text,label\n1,2\n"


def test_a_journal_knows_a_predictors_instructions(tmp_path: Path) -> None:
    def program(instructions: str) -> Predict:
        predict = Predict("n: int -> double: int")
        predict.signature = predict.signature.with_instructions(instructions)
        predict.lm = ScriptedLM(lambda request: json.dumps({"double": 2 * int(request.messages[-1].content.split()[-1])}))
        return predict

    evaluate = quiet(2, resume=tmp_path / "rows.jsonl")
    assert evaluate(program("Double it.")).score == 100
    assert evaluate(program("Double it.")).score == 100
    with pytest.raises(InputError, match="the program changed since"):
        evaluate(program("Multiply by two."))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("good", "returned 'good'; expected True or False"),
        (None, "returned None, perhaps for want of a `return`; expected"),
        (math.nan, "returned nan, which is no score"),
        (math.inf, "returned inf, which is no score"),
        ([1.0], "returned [1.0]; expected"),
        (Prediction(feedback="fine"), "returned a Prediction without a field 'score' (feedback)"),
    ],
)
def test_what_is_no_score_is_a_row_that_shows_the_corrected_metric(returned: Any, said: str) -> None:
    def judge(example: Example, prediction: Prediction, trace: Any = None) -> Any:
        return True if example.n == 1 else returned

    result = quiet(3, metric=judge)(doubled)
    assert [row.error is None for row in result.rows] == [False, True, False]
    error = result.rows[0].error or ""
    assert said in error and "The metric judge" in error
    assert "def judge(example, prediction, trace=None): return example.answer == prediction.answer" in error
    assert result.rows[0].prediction == Prediction(double=0) and result.failures[0].score == 0


def test_an_asynchronous_metric_says_so() -> None:
    async def judge(example: Example, prediction: Prediction) -> bool:
        return True

    with pytest.raises(EvaluationFailed, match=r"The metric judge is asynchronous. Write it with `def`"):
        quiet(metric=judge)(doubled)


def test_numbers_of_other_libraries_are_scores() -> None:
    import numpy as np

    one, answer = examples(1)[0], Prediction(double=0)
    assert [score_of(lambda *_, value=value: value, one, answer) for value in (np.bool_(True), np.float32(0.5), np.int64(1))] == [1, 0.5, 1]


def test_a_metric_that_fails_on_all_is_an_error_with_the_answers() -> None:
    def judge(example: Example, prediction: Prediction) -> bool:
        return bool(prediction.nothing)

    with pytest.raises(
        EvaluationError, match=r"failed on all 3 examples.*has no field 'nothing'.*def judge\(example, prediction"
    ) as caught:
        quiet(3, metric=judge)(doubled)
    assert isinstance(caught.value, EvaluationFailed)
    assert [row.prediction for row in caught.value.result.rows] == [doubled(n) for n in range(3)]
    assert "def judge" not in (caught.value.result.rows[0].error or "")
    assert "in judge" in caught.value.result.rows[0].traceback
    with pytest.raises(EvaluationFailed, match="All of the first 10 examples failed, so the metric itself is broken"):
        quiet(100, metric=judge, num_threads=1)(doubled)


def test_too_many_errors_keep_the_rows() -> None:
    def program(n: int) -> Prediction:
        return Prediction(double=2 * n // (n % 2))

    with pytest.raises(EvaluationFailed, match="2 examples failed, the most that max_errors allows") as caught:
        quiet(100, num_threads=1, max_errors=2)(program)
    assert [row.error is None for row in caught.value.result.rows][:3] == [False, True, False]


def test_bad_programs_and_metrics_are_told_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"make one of it: Predict\(...\)"):
        quiet()(Predict)
    with pytest.raises(InputError, match="The program is 'text -> label'"):
        quiet()("text -> label")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"The metric is 'accuracy'; expected a function such as def metric\(example"):
        quiet(metric="accuracy")(doubled)
    with pytest.raises(TypeError, match="takes no argument 'threads'"):
        quiet()(doubled, threads=3)  # type: ignore[call-arg]
    result = quiet(2)(lambda n: "text")  # type: ignore[arg-type,return-value]
    assert "the program returned 'text'; expected a Prediction" in (result.rows[0].error or "")


def test_tracebacks_are_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def program(n: int) -> Prediction:
        return Prediction(double=[0, 2][n])

    quiet(3)(program)
    assert "IndexError" not in capsys.readouterr().err
    quiet(3, provide_traceback=True)(program)
    shown = capsys.readouterr().err
    assert "Example 2 failed." in shown and "IndexError" in shown and "in program" in shown


def test_files_and_table_are_made_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate = quiet(5, save_as_csv=tmp_path / "a.csv", save_as_json=tmp_path / "a.json", display_table=2)
    result = evaluate(doubled, save_as_html=tmp_path / "a.html")
    shown = capsys.readouterr().out
    assert "80.0%" in shown and "3 more rows" in shown
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[0].startswith("n,double,predicted_double,score,error")
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    loaded = EvaluationResult.load(tmp_path / "a.json")
    assert loaded.score == result.score == 80
    evaluate(doubled, display_table=False)
    assert capsys.readouterr().out == ""


def test_it_can_be_awaited() -> None:
    at_once, most, lock = [0], [0], asyncio.Lock()

    class Program(Predict):
        async def aforward(self, **inputs: Any) -> Prediction:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            async with lock:
                await asyncio.sleep(0)
            at_once[0] -= 1
            if inputs["n"] == 5:
                raise ValueError("five")
            return doubled(inputs["n"])

    result = asyncio.run(quiet(20, num_threads=4).acall(Program("n: int -> double: int")))
    assert [row.score for row in result.rows] == [0.0 if n in (3, 5) else 1.0 for n in range(20)]
    assert result.rows[5].error == "ValueError: five"
    assert most[0] == 4
    assert asyncio.run(quiet(6).acall(doubled)).score == 83.33


def test_an_awaited_system_failure_stops_the_others() -> None:
    started: list[int] = []

    class Program(Predict):
        async def aforward(self, **inputs: Any) -> Prediction:
            started.append(inputs["n"])
            if inputs["n"] == 1:
                raise EngineError("no memory")
            await asyncio.sleep(60)
            return doubled(0)

    with pytest.raises(EngineError, match="no memory"):
        asyncio.run(quiet(50, num_threads=2).acall(Program("n: int -> double: int")))
    assert started == [0, 1]


def test_awaited_steps_are_recorded() -> None:
    predict = Predict("n: int -> double: int")
    predict.lm = ScriptedLM(lambda request: json.dumps({"double": 2 * int(request.messages[-1].content.split()[-1])}))
    result = asyncio.run(quiet(3).acall(predict))
    assert result.score == 100
    assert [len(row.steps) for row in result.rows] == [1, 1, 1]
    assert result.rows[0].completion_tokens > 0
