"""PythonInterpreter and LocalInterpreter: values, state, functions, files, limits, threads, and what is left when one dies."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel

from homefire.errors import CodeExecutionError, CodeInterpreterError, ConfigError, InputError, MissingExtra
from homefire.modules.interpreter import Interpreter
from homefire.modules.local_interpreter import LocalInterpreter
from homefire.modules.python_interpreter import PythonInterpreter
from homefire.modules.sandbox_values import plain_input
from homefire.modules.settings import context, current
from homefire.modules.tool import Tool


def double(n: int) -> int:
    """Twice a number."""
    return 2 * n


def greet(name: str, *, loud: bool = False) -> str:
    return f"hello {name.upper() if loud else name}"


@pytest.fixture(params=[PythonInterpreter, LocalInterpreter])
def interpreter(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    with request.param({"double": double, "greet": greet}, timeout=20) as made:
        yield made


def workers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if child.name() == "monty"]


def test_the_example_of_the_front_page() -> None:
    assert PythonInterpreter({}).execute("sum(n * n for n in range(10))") == 285


def test_a_value_or_what_was_printed(interpreter: Interpreter) -> None:
    assert interpreter.execute("1 + 1") == 2
    assert interpreter.execute("print('a'); print('b')") == "a\nb\n"
    assert interpreter.execute("x = 3") == ""
    ran = interpreter.run("print('seen')\nx")
    assert (ran.value, ran.printed) == (3, "seen\n")


def test_state_stays_until_it_is_shut_down(interpreter: Interpreter) -> None:
    interpreter.execute("import math\ndef area(r):\n    return math.pi * r * r\nr = 2")
    assert interpreter.execute("round(area(r), 2)") == 12.57
    interpreter.shutdown()
    with pytest.raises(CodeExecutionError, match="name 'area' is not defined"):
        interpreter.execute("area(1)")


def test_variables_are_plain_data(interpreter: Interpreter) -> None:
    class Place(BaseModel):
        name: str

    @dataclass
    class Point:
        x: int

    given = {"place": Place(name="Rome"), "point": Point(4), "path": Path("a/b"), "rows": [{"n": 1}, {"n": 2}]}
    assert interpreter.execute("[place['name'], point['x'], path, sum(row['n'] for row in rows)]", given) == ["Rome", 4, "a/b", 3]


@pytest.mark.parametrize(("name", "value", "said"), [("a b", 1, "cannot be called 'a b'"), ("a", object(), "to_sandbox"), ("a", None, "")])
def test_variables_that_cannot_be_given(name: str, value: Any, said: str) -> None:
    with PythonInterpreter() as interpreter:
        if not said:
            assert interpreter.execute("a is None", {name: value}) is True
            return
        with pytest.raises(InputError, match=said):
            interpreter.execute("1", {name: value})


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InputError, match="contains itself"):
        plain_input(value, "the input")


def test_tables_and_arrays_become_lists() -> None:
    numpy, pandas, arrow = (pytest.importorskip(name) for name in ("numpy", "pandas", "pyarrow"))
    frame = pandas.DataFrame({"n": [1, 2], "when": pandas.to_datetime(["2024-01-01", None])})
    rows = plain_input(frame, "a table")
    assert [row["n"] for row in rows] == [1, 2]
    assert (rows[0]["when"].year, rows[1]["when"]) == (2024, None)
    assert plain_input(frame["n"], "a column") == [1, 2]
    assert plain_input({"a": numpy.float64(1.5), "b": numpy.arange(2)}, "arrays") == {"a": 1.5, "b": [0, 1]}
    assert plain_input(arrow.table({"n": [3]}), "a table") == [{"n": 3}]
    assert PythonInterpreter().execute("sum(row['n'] for row in table)", {"table": frame}) == 3


def test_functions_of_the_host(interpreter: Interpreter) -> None:
    assert interpreter.execute("double(double('3'))") == 12
    assert interpreter.execute("greet('ann', loud=True) + greet(name='bob')") == "hello ANNhello bob"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("double('x')", "n: input should be a valid integer"),
        ("double(1, 2)", "takes 1 arguments"),
        ("double(m=1)", "no argument 'm'"),
        ("double(1, n=2)", "'n' twice"),
        ("double()", "'n' is missing"),
    ],
)
def test_wrong_arguments_are_the_codes_error(interpreter: Interpreter, code: str, said: str) -> None:
    with pytest.raises(CodeExecutionError, match=said):
        interpreter.execute(code)
    assert interpreter.execute(f"try:\n    {code}\n    found = False\nexcept Exception as error:\n    found = True\nfound") is True


def test_a_tool_sees_the_settings_and_the_thread_of_the_caller() -> None:
    seen: list[Any] = []

    def look() -> str:
        seen.append((current().max_history_size, threading.current_thread()))
        return "seen"

    with context(max_history_size=7), PythonInterpreter([look]) as interpreter:
        interpreter.execute("look()")
    assert seen == [(7, threading.current_thread())]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CancelledError()])
def test_what_interrupts_the_caller_is_not_the_codes_to_catch(interpreter: Interpreter, error: BaseException) -> None:
    def stop() -> str:
        raise error

    interpreter.tools["stop"] = Tool(stop)
    with pytest.raises(type(error)):
        interpreter.execute("try:\n    stop()\nexcept BaseException:\n    pass")
    assert interpreter.execute("1 + 1") == 2


def test_a_tool_cannot_run_code_on_its_own_interpreter(interpreter: Interpreter) -> None:
    def again() -> str:
        return str(interpreter.execute("1"))

    interpreter.tools["again"] = Tool(again)
    with pytest.raises(CodeExecutionError, match="one of its own"):
        interpreter.execute("again()")
    assert interpreter.execute("1 + 1") == 2


def test_the_traceback_is_the_snippets_own(interpreter: Interpreter) -> None:
    with pytest.raises(CodeExecutionError) as caught:
        interpreter.execute("def f():\n    return 1 / 0\nprint('before')\nf()")
    assert caught.value.kind == "ZeroDivisionError"
    assert "line 2, in f" in caught.value.traceback
    assert "before" in str(caught.value)
    assert "homefire" not in str(caught.value) and "site-packages" not in str(caught.value)
    assert caught.value.__cause__ is None and not caught.value.lost


def test_code_that_cannot_be_read(interpreter: Interpreter) -> None:
    with pytest.raises(CodeExecutionError) as caught:
        interpreter.execute("def bad(:")
    assert caught.value.kind == "SyntaxError"
    assert "lib/python" not in str(caught.value)


def test_printed_text_is_cut_off_with_a_notice() -> None:
    for interpreter in (PythonInterpreter(max_output=100), LocalInterpreter(max_output=100)):
        with interpreter:
            assert interpreter.execute("print('x' * 1000)") == "x" * 100 + "\n[... 901 characters more were printed ...]"


@pytest.mark.parametrize("made", [lambda: PythonInterpreter(timeout=0.3), lambda: LocalInterpreter(timeout=1)])
def test_a_limit_takes_the_variables_with_it_and_says_so(made: Any) -> None:
    with made() as interpreter:
        interpreter.execute("x = 1")
        with pytest.raises(CodeExecutionError, match="are lost") as caught:
            interpreter.execute("while True:\n    pass")
        assert (caught.value.kind, caught.value.lost) == ("TimeoutError", True)
        with pytest.raises(CodeExecutionError, match="NameError"):
            interpreter.execute("x")


def test_a_memory_error_that_stops_nothing_amid_its_work_costs_no_variables() -> None:
    with PythonInterpreter(max_memory=32 * 2**20) as interpreter:
        interpreter.execute("x = 2")
        with pytest.raises(CodeExecutionError, match="MemoryError") as caught:
            interpreter.execute("'a' * 10**9")
        assert not caught.value.lost
        assert interpreter.execute("x") == 2


@pytest.mark.parametrize("made", [PythonInterpreter, LocalInterpreter])
def test_a_killed_process_is_replaced_and_the_loss_told(made: type[Interpreter]) -> None:
    before = {child.pid for child in psutil.Process().children()}
    with made() as interpreter:
        interpreter.execute("x = 1")
        mine = [child for child in psutil.Process().children() if child.pid not in before] or workers()
        for child in mine:
            child.send_signal(signal.SIGKILL)
            psutil.wait_procs([child], timeout=10)
        with pytest.raises(CodeExecutionError, match=r"died.*are lost") as caught:
            interpreter.execute("x")
        assert caught.value.lost
        assert interpreter.execute("2 + 2") == 4


def test_many_at_once_keep_apart() -> None:
    def count(number: int) -> int:
        with PythonInterpreter({"double": double}) as interpreter:
            interpreter.execute("n = number", {"number": number})
            for _ in range(5):
                interpreter.execute("n = n + 1")
            return int(interpreter.execute("double(n)"))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(count, range(48))) == [2 * (number + 5) for number in range(48)]


def test_one_interpreter_runs_the_snippets_of_threads_one_after_another() -> None:
    with PythonInterpreter() as interpreter, ThreadPoolExecutor(8) as pool:
        interpreter.execute("n = 0")
        list(pool.map(lambda _: interpreter.execute("n += 1"), range(50)))
        assert interpreter.execute("n") == 50


def test_a_forgotten_interpreter_gives_its_process_back() -> None:
    with PythonInterpreter() as interpreter:
        interpreter.execute("1")
    before = len(workers())
    for _ in range(20):
        PythonInterpreter().execute("1")
    assert len(workers()) <= max(before, 1)


@pytest.mark.parametrize("name", ["PythonInterpreter", "LocalInterpreter"])
@pytest.mark.parametrize("ending", ["", "os.kill(os.getpid(), 9)"])
def test_no_process_outlives_the_program(name: str, ending: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        f"import os, psutil, homefire\nkept = homefire.{name}()\nkept.execute('x = 1')\n"
        f"print([child.pid for child in psutil.Process().children()], flush=True)\n{ending}\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, env={**os.environ})
    pids = [int(pid) for pid in ran.stdout.strip("[]\n ").split(",")]
    assert pids
    _, left = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=20)
    assert left == []
    assert ran.stderr == ""


def test_a_copy_has_the_tools_and_limits_but_no_variables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with PythonInterpreter([double], files={"a.txt": tmp_path / "a.txt"}, max_output=50) as interpreter:
        interpreter.execute("x = 1")
        with copy.deepcopy(interpreter) as copied:
            assert copied.execute("open('a.txt').read() + str(double(2))") == "text4"
            with pytest.raises(CodeExecutionError, match="NameError"):
                copied.execute("x")
            with pytest.raises(CodeExecutionError, match="larger than 50 characters"):
                copied.execute("'a' * 100")
        assert interpreter.execute("x") == 1


def test_it_is_pickled_without_its_variables(interpreter: Interpreter) -> None:
    interpreter.execute("x = 1")
    with pickle.loads(pickle.dumps(interpreter)) as made:
        assert made.execute("double(4)") == 8
        with pytest.raises(CodeExecutionError, match="NameError"):
            made.execute("x")


def test_files_are_granted_by_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in.txt").write_text("inside")
    (tmp_path / "in.csv").write_text("a,b")
    granted = {"enable_read_paths": [tmp_path / "in.csv", str(tmp_path / "folder")], "enable_write_paths": [tmp_path / "out.txt"]}
    with PythonInterpreter(**granted) as interpreter:
        assert (
            interpreter.execute("open('in.csv').read() + open('/sandbox/in.csv').read() + open('folder/in.txt').read()") == "a,ba,binside"
        )
        interpreter.execute("open('/sandbox/out.txt', 'w').write('made')")
        with pytest.raises(CodeExecutionError):
            interpreter.execute("open('in.csv', 'w')")
    assert (tmp_path / "out.txt").read_text() == "made"
    with pytest.raises(InputError, match=r"enable_read_paths=\['data'\]"):
        PythonInterpreter(enable_read_paths="data")
    with pytest.raises(InputError, match=r"two paths that end in 'in.csv'"):
        PythonInterpreter(enable_read_paths=[tmp_path / "in.csv", tmp_path / "folder" / "in.csv"])


def test_files_are_granted_by_name(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    with PythonInterpreter(files={"in.csv": tmp_path / "in.csv"}, writable_files={"out.txt": tmp_path / "made.txt"}) as interpreter:
        code = "import csv, os\nrows = list(csv.reader(open('in.csv')))\nwith open('out.txt', 'w') as f:\n    f.write(rows[1][1])\n"
        assert interpreter.execute(code + "[rows, sorted(os.listdir('/')), os.path.exists('in.csv')]") == [
            [["a", "b"], ["1", "2"]],
            ["in.csv", "out.txt"],
            True,
        ]
        (tmp_path / "in.csv").unlink()
        with pytest.raises(CodeExecutionError, match=r"FileNotFoundError.*'/in.csv'") as caught:
            interpreter.execute("open('in.csv').read()")
    assert str(tmp_path) not in str(caught.value)
    assert (tmp_path / "made.txt").read_text() == "2"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"timeout": 0}, ConfigError, "timeout is 0"),
        ({"max_memory": -1}, ConfigError, "max_memory"),
        ({"files": {"../x": "x"}}, InputError, "plain name"),
        ({"tools": {"t": 3}}, InputError, "cannot be called"),
        ({"tools": [double, double]}, InputError, "Two tools are called 'double'"),
        ({"tools": {"a-b": double}}, InputError, "Code cannot call a tool 'a-b'"),
    ],
)
def test_what_cannot_be_granted(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        PythonInterpreter(**arguments)


def test_code_must_be_text(interpreter: Interpreter) -> None:
    with pytest.raises(InputError, match="expected text"):
        interpreter.execute(None)  # type: ignore[arg-type]


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_monty", None)
    with pytest.raises(MissingExtra, match=r"homefire\[sandbox\]"):
        PythonInterpreter().execute("1")


def test_processes_that_were_killed_while_they_waited_are_passed_over() -> None:
    kept = [PythonInterpreter() for _ in range(3)]
    for interpreter in kept:
        interpreter.execute("1")
    for interpreter in kept:
        interpreter.shutdown()
    waiting = workers()
    assert len(waiting) >= 3
    for child in waiting:
        child.send_signal(signal.SIGKILL)
    psutil.wait_procs(waiting, timeout=10)
    with PythonInterpreter() as interpreter:
        assert interpreter.execute("2 + 2") == 4


def test_a_python_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.modules.local_interpreter._CHILD", "homefire.no_such_module")
    interpreter = LocalInterpreter()
    with pytest.raises(CodeInterpreterError, match="no_such_module could not start"):
        interpreter.execute("1")
    monkeypatch.undo()
    assert interpreter.execute("1") == 1
    interpreter.shutdown()


def test_a_sandbox_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __enter__(self) -> None:
            raise TimeoutError("no process is free")

    class Full:
        def checkout(self, **_: object) -> Session:
            return Session()

    monkeypatch.setattr("homefire.modules.python_interpreter._pool", Full)
    with pytest.raises(CodeInterpreterError, match=r"no process is free.*At most 64 interpreters"):
        PythonInterpreter().execute("1")
