"""LocalInterpreter: code run by a CPython process of its own, with every installed library. It is no sandbox.

Knows no model. Code that it runs can do whatever the user can; the process only keeps a crash and an endless loop away from the program.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from homefire.engine.callbacks import BaseCallback
from homefire.errors import CodeExecutionError, CodeInterpreterError, ConfigError
from homefire.modules.host_calls import CallFailed, HostCalls
from homefire.modules.interpreter import Interpreter, Ran, Tools
from homefire.modules.sandbox_values import TooLarge, clipped, plain_output

_CHILD = "homefire.modules.local_interpreter_child"
_LOST = " Variables and functions of earlier snippets are lost; the next snippet starts afresh."


class LocalInterpreter(Interpreter):
    """Runs code in a CPython process on this machine. NOT A SANDBOX.

    Warning: the code can read and write your files, use the network and start programs, as you can. Use it only for code that you would
    run yourself, or inside a container; for everything else there is `PythonInterpreter`.

    >>> with LocalInterpreter() as python:
    ...     python.execute("import statistics")
    ...     python.execute("statistics.median([3, 1, 2])")
    ''
    2

    Values come back as JSON has them: tuples and sets as lists, tables as lists of records, other objects as text.

    Args:
        tools: Functions of this program that the code may call, by name, or as a list of functions and tools.
        timeout: Most seconds that a snippet runs, the time that tools and the start take not counted; then the process is killed.
        max_output: Most characters of printed text, beyond which it is cut off with a notice, and of a value, beyond which it is an error.
        max_calls: Most calls of tools by one snippet.
        callbacks: Hear what this interpreter does, beside those of the settings.
    """

    note = "Installed packages can be imported."

    def __init__(
        self,
        tools: Tools | None = None,
        *,
        timeout: float = 60.0,
        max_output: int = 100_000,
        max_calls: int = 1_000,
        callbacks: Sequence[BaseCallback] | None = None,
    ) -> None:
        super().__init__(tools, callbacks)
        if not timeout > 0 or max_output < 1 or max_calls < 1:
            raise ConfigError("timeout, max_output and max_calls are numbers above 0, as in LocalInterpreter(timeout=60).")
        self._timeout, self._most, self._most_calls = timeout, max_output, max_calls
        self._child: subprocess.Popen[str] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    def start(self) -> None:
        """Starts the process; running a snippet does that too."""
        with self._running:
            self._process()

    def shutdown(self) -> None:
        """Ends the process and forgets all variables."""
        with self._running:
            if self._child is not None:
                with self.observed("interpreter_shutdown", {}):
                    self._drop()

    def options(self) -> dict[str, Any]:
        """What it was made with: tools and limits."""
        limits = {"timeout": self._timeout, "max_output": self._most, "max_calls": self._most_calls}
        return {"tools": self.tools, **limits, "callbacks": self.callbacks}

    def ran(self, code: str, variables: dict[str, Any]) -> Ran:
        """What a snippet did, with plain values as its variables; no other runs at the time."""
        asked = {"code": code, "variables": variables, "tools": list(self.tools), "most": self._most}
        calls = HostCalls(self, most=self._most * 4, most_calls=self._most_calls)
        try:
            said = self._said(asked, calls)
        except BaseException:
            self._drop()
            raise
        if calls.interrupted is not None:
            raise calls.interrupted
        printed = said["printed"] + (f"\n[... {said['dropped']} characters more were printed ...]" if said["dropped"] else "")
        if "error" in said:
            shown = clipped(said["error"], 4_000)
            before = f"{clipped(printed, 2_000)}\n" if printed else ""
            raise CodeExecutionError(f"The code failed:\n{before}{shown}", kind=said["kind"], traceback=shown)
        try:
            return Ran(value=plain_output(said["value"], self._most), printed=printed)
        except TooLarge as error:
            text = f"The value of the last expression cannot be given back: {error}. Give a smaller one, or raise max_output."
            raise CodeExecutionError(text, kind="ValueError", traceback=text) from None

    def _said(self, asked: dict[str, Any], calls: HostCalls) -> dict[str, Any]:
        """Sends a snippet and answers its calls until it has ended."""
        child, message = self._process(), asked
        while True:
            said = self._exchanged(child, message)
            if "call" not in said:
                return said
            try:
                message = {"result": calls(said["call"], tuple(said["args"]), said["kwargs"])}
            except CallFailed as error:
                message = {"error": str(error)}
            except SystemExit:
                message = {"finished": True}

    def _exchanged(self, child: subprocess.Popen[str], message: dict[str, Any]) -> dict[str, Any]:
        """What the process says next; one that says nothing in time is killed."""
        assert child.stdin is not None and child.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(self._timeout, kill)
        timer.daemon = True
        timer.start()
        try:
            child.stdin.write(json.dumps(message, default=str) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        finally:
            timer.cancel()
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        if late.is_set():
            kind, text = "TimeoutError", f"TimeoutError: the code ran longer than {self._timeout:g} seconds.{_LOST}"
        else:
            kind, text = "SystemError", f"SystemError: the process of the interpreter died with code {child.wait()}.{_LOST}"
        raise CodeExecutionError(f"The code failed:\n{text}", kind=kind, traceback=text, lost=True)

    def _process(self) -> subprocess.Popen[str]:
        if self._child is None:
            command = [sys.executable, "-m", _CHILD]
            pipe = subprocess.PIPE
            with self.observed("interpreter_startup", {}):
                child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, encoding="utf-8")
                end = weakref.finalize(self, _kill, child)
                if child.stdout is None or not child.stdout.readline():
                    end()
                    raise CodeInterpreterError(f"{sys.executable} -m {_CHILD} could not start; run that in a terminal to see why.")
                self._child, self._end = child, end
        return self._child

    def _drop(self) -> None:
        if self._end is not None:
            self._end()
        self._child, self._end = None, None


def _kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    child.wait()
