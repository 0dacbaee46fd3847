"""Callbacks of interpreters: their start, snippets, calls of the host's functions, and end."""

from __future__ import annotations

from typing import Any

import pytest

from homefire.engine.callbacks import BaseCallback
from homefire.errors import CodeExecutionError, ConfigError
from homefire.modules.interpreter import CodeInterpreter, run_on
from homefire.modules.local_interpreter import LocalInterpreter
from homefire.modules.python_interpreter import PythonInterpreter
from homefire.modules.settings import context


def double(n: int) -> int:
    """Twice a number."""
    return 2 * n


class Ears(BaseCallback):
    """Hears what interpreters do."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_interpreter_startup_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.heard.append(f"{type(instance).__name__} starts")

    def on_interpreter_startup_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append("started")

    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.heard.append(dict(inputs))

    def on_interpreter_execute_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append(outputs if exception is None else type(exception))

    def on_interpreter_tool_call_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.heard.append(inputs["tool_name"])

    def on_interpreter_tool_call_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append(outputs)

    def on_interpreter_shutdown_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.heard.append("ends")

    def on_interpreter_shutdown_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.heard.append("ended")


@pytest.mark.parametrize("kind", [PythonInterpreter, LocalInterpreter])
@pytest.mark.parametrize("ambient", [False, True])
def test_callbacks_hear_what_an_interpreter_does(kind: Any, ambient: bool) -> None:
    ears = Ears()
    with context(callbacks=[ears] if ambient else []), kind([double], callbacks=() if ambient else [ears]) as interpreter:
        interpreter.execute("print(double(n=a))", {"a": 2})
        with pytest.raises(CodeExecutionError):
            interpreter.execute("1 / 0")
        interpreter.shutdown()
        interpreter.shutdown()
    assert ears.heard == [
        *(f"{kind.__name__} starts", "started"),
        *({"code": "print(double(n=a))", "variables": {"a": 2}}, "double", 4, "4\n"),
        *({"code": "1 / 0", "variables": {}}, CodeExecutionError),
        *("ends", "ended"),
    ]


def test_a_wrong_callback_shows_what_is_one() -> None:
    with pytest.raises(ConfigError, match=r"derived from homefire\.BaseCallback"):
        PythonInterpreter(callbacks=[print])  # type: ignore[list-item]


class Plugged:
    """An interpreter of a user's own, which knows no callbacks."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}

    def start(self) -> None: ...

    def execute(self, code: str, variables: Any = None) -> Any:
        return code.upper()

    def shutdown(self) -> None: ...


def test_the_snippets_of_any_interpreter_are_heard() -> None:
    ears, interpreter = Ears(), Plugged()
    plugged: CodeInterpreter = interpreter
    with context(callbacks=[ears]):
        assert run_on(plugged, "a", {"x": 1}).value == "A"
    assert ears.heard == [{"code": "a", "variables": {"x": 1}}, "A"]
