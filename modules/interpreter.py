"""The protocol of code interpreters: snippets of Python run one after another, with variables and functions of the host.

Knows no sandbox and no model; `PythonInterpreter` is the safe one, `LocalInterpreter` the one with every library.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from homefire.engine.callbacks import BaseCallback, Kind, Observation, observed
from homefire.engine.lm_options import checked_callbacks
from homefire.errors import CodeInterpreterError, InputError
from homefire.modules.sandbox_values import plain_input
from homefire.modules.tool import Tool

Tools = Mapping[str, Callable[..., Any]] | Sequence[Callable[..., Any]]
"""Functions by the name that the code calls them by; or functions and tools that have names."""


class CodeInterpreter(Protocol):
    """What ProgramOfThought, CodeAct and RLM run code on; write one to plug in a sandbox of your own.

    An interpreter over Deno and Pyodide, where packages such as numpy are wanted, keeps one Deno process, sends it each snippet as a line
    of JSON and answers the calls of functions that come back:

    >>> class DenoInterpreter:
    ...     def __init__(self):
    ...         self.tools = {}
    ...     def start(self):
    ...         self.deno = subprocess.Popen(["deno", "run", "runner.js"], stdin=PIPE, stdout=PIPE, text=True)
    ...     def execute(self, code, variables=None):
    ...         self._send({"code": code, "variables": variables or {}, "tools": list(self.tools)})
    ...         while "call" in (said := self._receive()):
    ...             self._send({"result": self.tools[said["call"]](**said["arguments"])})
    ...         if "error" in said:
    ...             raise CodeExecutionError(said["error"], kind=said["kind"], traceback=said["error"])
    ...         return said["value"] if said["value"] is not None else said["printed"]
    ...     def shutdown(self):
    ...         self.deno.kill()
    """

    tools: dict[str, Callable[..., Any]]
    """Functions that the code may call, by name; programs add theirs for the time of a run."""

    def start(self) -> None:
        """Makes it ready; `execute` does that too."""
        ...

    def execute(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The value of the last expression, otherwise what was printed. Variables and functions stay for the next snippet.

        Raises:
            CodeExecutionError: the snippet failed.
            CodeInterpreterError: the interpreter failed.
        """
        ...

    def shutdown(self) -> None:
        """Ends it and forgets all variables; the next call starts afresh."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a snippet did."""

    value: Any = None
    """Value of its last expression."""
    printed: str = ""

    @property
    def shown(self) -> Any:
        """The value, otherwise what was printed."""
        return self.printed if self.value is None else self.value


@dataclass(frozen=True, slots=True)
class FinalOutput:
    """What an interpreter may return in place of a value where the code has submitted its result."""

    output: Any


class Finished(Exception):
    """Raised by a function of the host to end the snippet that called it; that is no failure."""


@dataclass(frozen=True, slots=True)
class Direct:
    """A function of the host that checks its arguments itself, so that no `Tool` is made of it."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


class Interpreter(ABC):
    """Base of interpreters that tell the value of a snippet from what it printed; one snippet runs at a time."""

    note = ""
    """What a model has to know of the Python that it writes."""

    def __init__(self, tools: Tools | None, callbacks: Sequence[BaseCallback] | None) -> None:
        self.tools: dict[str, Callable[..., Any]] = named_tools(tools or {})
        self.callbacks = checked_callbacks(callbacks or ())
        self._running = threading.RLock()
        self._busy = False

    @abstractmethod
    def ran(self, code: str, variables: dict[str, Any]) -> Ran:
        """What a snippet did, with plain values as its variables; no other runs at the time."""

    @abstractmethod
    def start(self) -> None:
        """Makes it ready; running a snippet does that too."""

    @abstractmethod
    def shutdown(self) -> None:
        """Ends it and forgets all variables; the next snippet starts afresh."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What it was made with: tools, grants and limits."""

    def copy(self) -> Self:
        """A fresh interpreter with the same tools, grants and limits, and no variables."""
        return type(self)(**self.options())

    def run(self, code: str, variables: Mapping[str, Any] | None = None) -> Ran:
        """As `execute`, with value and printed text apart."""
        if not isinstance(code, str):
            raise InputError(f"The code is {code!r}; expected text, as in execute('1 + 1').")
        given = {name: plain_input(value, f"the variable {name!r}") for name, value in (variables or {}).items()}
        if wrong := [name for name in given if not name.isidentifier()]:
            raise InputError(f"A variable cannot be called {wrong[0]!r}. Use letters, digits and underscores.")
        with self.observed("interpreter_execute", {"code": code, "variables": given}) as call, self.alone():
            ran = self.ran(str(code), given)
            call.give(ran.shown)
        return ran

    def observed(self, kind: Kind, inputs: Mapping[str, Any]) -> Observation:
        """Wraps a part of the interpreter's work so that callbacks hear of it."""
        return observed(kind, self, inputs, self.callbacks)

    def execute(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The value of the last expression, otherwise what was printed. Variables and functions stay for the next snippet.

        Args:
            code: Python.
            variables: Values to set before it runs.

        Raises:
            CodeExecutionError: the snippet failed; what it printed is in the message.
            CodeInterpreterError: the interpreter failed.
            InputError: a variable cannot be given to it.
        """
        return self.run(code, variables).shown

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The time of one snippet; those of other threads wait.

        Raises:
            CodeInterpreterError: a function that the running snippet has called asks for it.
        """
        with self._running:
            if self._busy:
                raise CodeInterpreterError("A tool cannot run code on the interpreter that has called it. Give the tool one of its own.")
            self._busy = True
            try:
                yield
            finally:
                self._busy = False

    def __call__(self, code: str, variables: Mapping[str, Any] | None = None) -> Any:
        return self.execute(code, variables)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shutdown()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _remade, (type(self), self.options())


def _remade(kind: type[Interpreter], options: dict[str, Any]) -> Interpreter:
    return kind(**options)


def named_tools(tools: Tools) -> dict[str, Callable[..., Any]]:
    """Tools by the name that code calls them by.

    Raises:
        InputError: no functions, a name twice, or one that Python does not take.
    """
    if isinstance(tools, Mapping):
        found = {name: _checked(tool, name) for name, tool in tools.items()}
    else:
        made = [tool if isinstance(tool, Tool) else Tool(tool) for tool in tools]
        if twice := {tool.name for tool in made if [other.name for other in made].count(tool.name) > 1}:
            raise InputError(f"Two tools are called {min(twice)!r}. Give one another name: Tool(func, name='...').")
        found = {tool.name: tool for tool in made}
    if wrong := [name for name in found if not name.isidentifier()]:
        raise InputError(
            f"Code cannot call a tool {wrong[0]!r}. Give it a name of letters, digits and underscores: Tool(func, name='...')."
        )
    return found


def _checked(tool: Any, name: str) -> Callable[..., Any]:
    if isinstance(tool, Tool | Direct):
        return tool
    if not callable(tool):
        raise InputError(f"The tool {name!r} is {tool!r}, which cannot be called. Write tools={{{name!r}: a_function}}.")
    return Tool(tool, name=name)


def run_on(interpreter: CodeInterpreter, code: str, variables: Mapping[str, Any] | None) -> Ran:
    """Runs a snippet on any interpreter."""
    if isinstance(interpreter, Interpreter):
        return interpreter.run(code, variables)
    given = dict(variables or {})
    with observed("interpreter_execute", interpreter, {"code": code, "variables": given}) as call:
        call.give(value := interpreter.execute(code, given))
    return Ran(value=value)
