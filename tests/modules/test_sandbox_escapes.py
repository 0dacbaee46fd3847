"""No code leaves the sandbox: no file, variable, process, connection or object of the host, and no more time and memory than given.

Every attempt is judged by what it did to canaries, not by how it failed; the same judgement sees the attempts succeed on CPython.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from homefire.errors import CodeExecutionError
from homefire.modules.interpreter import Interpreter
from homefire.modules.local_interpreter import LocalInterpreter
from homefire.modules.python_interpreter import PythonInterpreter
from homefire.modules.sandbox_values import shown
from tests.modules.sandbox_attempts import CLEVER, DIRECT, EXHAUSTING

CANARY = "canary-7f3e9a"
VARIABLE = "HOMEFIRE_TEST_CANARY"
HOST_MEMORY = 400 * 2**20


class Thing:
    """A value that a tool should not have returned."""

    def __init__(self) -> None:
        self.secret = CANARY

    def leak(self) -> str:
        return self.secret


def lookup(key: str) -> str:
    """A harmless tool with a secret in its function."""
    secret = CANARY
    return "known" if key == secret else "unknown"


def thing() -> Any:
    return Thing()


def failing() -> str:
    hidden = CANARY
    try:
        raise LookupError(hidden)
    except LookupError:
        raise ValueError("the tool failed") from None


@dataclass
class Surroundings:
    """What code must not reach."""

    folder: Path
    listener: socket.socket

    @property
    def secret(self) -> Path:
        return self.folder / "secret.txt"

    @property
    def target(self) -> Path:
        return self.folder / "target"

    def variables(self) -> dict[str, Any]:
        named = {"SECRET": str(self.secret), "TARGET": str(self.target), "FOLDER": str(self.folder), "VARIABLE": VARIABLE}
        return {**named, "PORT": self.listener.getsockname()[1]}

    def harm(self, outcome: str) -> list[str]:
        """What the attempt achieved."""
        found = ["the canary was read"] if CANARY in outcome else []
        found += ["a host's file is named"] if str(Path(__file__).parent.parent) in outcome or "site-packages" in outcome else []
        found += ["the secret changed"] if not self.secret.is_file() or self.secret.read_text() != CANARY else []
        found += [f"there is {name}" for name in os.listdir(self.folder) if name != "secret.txt"]
        found += ["the environment changed"] if os.environ.get(VARIABLE) != CANARY else []
        try:
            self.listener.accept()[0].close()
            found.append("there was a connection")
        except BlockingIOError:
            pass
        return found


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Surroundings]:
    monkeypatch.setenv(VARIABLE, CANARY)
    folder = tmp_path / "around"
    folder.mkdir()
    (folder / "secret.txt").write_text(CANARY)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield Surroundings(folder, listener)


def outcome(interpreter: Interpreter, code: str, variables: dict[str, Any]) -> tuple[str, str]:
    """All that code could show, and the kind of its error."""
    try:
        ran = interpreter.run(code, variables)
    except CodeExecutionError as error:
        return f"{error} {error.traceback}", error.kind
    return f"{ran.printed} {shown(ran.value)}", ""


def sandbox(timeout: float = 60) -> PythonInterpreter:
    return PythonInterpreter({"lookup": lookup, "thing": thing, "failing": failing}, timeout=timeout, max_memory=64 * 2**20, max_calls=200)


def strangers() -> list[str]:
    """Children of this process that are no workers of a sandbox."""
    return [child.name() for child in psutil.Process().children(recursive=True) if child.name() != "monty"]


@pytest.mark.parametrize("name", [*DIRECT, *CLEVER])
def test_nothing_of_the_host_is_reached(name: str, around: Surroundings) -> None:
    before = strangers()
    with sandbox() as interpreter:
        said, _ = outcome(interpreter, {**DIRECT, **CLEVER}[name], around.variables())
        assert around.harm(said) == []
        assert strangers() == before
        assert interpreter.execute("6 * 7") == 42


@pytest.mark.parametrize("name", EXHAUSTING)
def test_nothing_is_exhausted(name: str, around: Surroundings) -> None:
    code, kinds = EXHAUSTING[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with sandbox(0.5 if "TimeoutError" in kinds else 60) as interpreter:
        said, kind = outcome(interpreter, code, around.variables())
        assert kind in kinds, said
        assert len(said) < 20_000
        assert interpreter.execute("6 * 7") == 42
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < HOST_MEMORY


def test_the_same_judgement_sees_attempts_succeed_on_cpython(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that let everything through would fail most of these tests."""
    monkeypatch.setenv(VARIABLE, CANARY)
    harmless = []
    with LocalInterpreter(timeout=30) as interpreter:
        for number, (name, code) in enumerate(DIRECT.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / "secret.txt").write_text(CANARY)
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setblocking(False)
                around = Surroundings(folder, listener)
                said, _ = outcome(interpreter, code, around.variables())
                harmless += [] if around.harm(said) else [name]
    assert len(harmless) < len(DIRECT) / 10, harmless


def test_there_are_enough_attempts() -> None:
    assert len(DIRECT) + len(CLEVER) + len(EXHAUSTING) >= 60


def test_nothing_of_one_interpreter_is_left_in_the_process_of_the_next() -> None:
    for number in range(5):
        with PythonInterpreter() as interpreter:
            with pytest.raises(CodeExecutionError, match="NameError"):
                interpreter.execute("left_behind")
            interpreter.execute(f"left_behind = {CANARY!r} + '{number}'")


def test_a_granted_name_is_no_way_to_its_neighbours(around: Surroundings) -> None:
    granted = around.folder.parent / "granted"
    granted.mkdir()
    (granted / "data.txt").write_text("data")
    (granted / "way").symlink_to(around.secret)
    attempts = ["../around/secret.txt", "data/../../around/secret.txt", "data/way", "/data/way", "data.txt/../../around/secret.txt", "way"]
    with PythonInterpreter(files={"data": granted, "data.txt": granted / "data.txt"}) as interpreter:
        assert interpreter.execute("open('data.txt').read() + open('data/data.txt').read()") == "datadata"
        for path in attempts:
            said, kind = outcome(interpreter, f"open({path!r}).read()", {})
            assert kind and CANARY not in said, path
        for code in ("open('data.txt', 'w').write('x')", "open('data/new.txt', 'w').write('x')", "open('data.txt', 'a')"):
            assert outcome(interpreter, code, {})[1], code
    assert sorted(path.name for path in granted.iterdir()) == ["data.txt", "way"]
    assert (granted / "data.txt").read_text() == "data"
    assert str(granted) not in said


def test_a_writable_file_takes_so_much_and_no_more(tmp_path: Path) -> None:
    with PythonInterpreter(writable_files={"out.txt": tmp_path / "out.txt"}, max_memory=2**20) as interpreter:
        code = "for _ in range(500):\n    with open('out.txt', 'a') as file:\n        file.write('a' * 10_000)"
        assert outcome(interpreter, code, {})[1] == "OSError"
    assert (tmp_path / "out.txt").stat().st_size <= 2**20
