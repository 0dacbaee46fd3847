"""PythonInterpreter: code that a model wrote, run in a sandbox of its own process (the package `pydantic-monty`).

Knows no model. The sandbox is no CPython: it has no file, no socket, no process and no object of the host to reach, whatever the code
tries; what it is given are plain values, functions by name, and files by name.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from homefire.engine.callbacks import BaseCallback
from homefire.errors import CodeExecutionError, CodeInterpreterError, ConfigError, MissingExtra
from homefire.modules.host_calls import HostCalls
from homefire.modules.interpreter import Interpreter, Ran, Tools
from homefire.modules.printed_text import PrintedText
from homefire.modules.sandbox_files import GrantedFiles, by_last_name, checked_grants
from homefire.modules.sandbox_values import TooLarge, clipped, plain_output

if TYPE_CHECKING:
    from pydantic_monty import Monty, MontyRuntimeError, MontySession, MontySyntaxError, MountDir

MODULES = "math, re, json, random, time, datetime, decimal, collections, itertools, functools, dataclasses, typing, bisect, copy, csv"
"""Modules of the standard library that code is told of."""
MAX_INTERPRETERS = 64
"""Interpreters with variables at once in one process; more wait until one is shut down."""
_WAIT_SECONDS = 120.0
_GRACE_SECONDS = 3.0
"""Time in which a snippet beyond its limit may still end by itself, before its process is killed."""
_MOST_SUSPENSIONS = 20_000
"""Times that the code of one interpreter may turn to the host for anything; each costs the host some microseconds."""
_LOST = " Variables and functions of earlier snippets are lost; the next snippet starts afresh."


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What one snippet may take."""

    seconds: float
    memory: int
    recursion: int
    output: int
    calls: int


class PythonInterpreter(Interpreter):
    """Runs Python that need not be trusted: no files, no network, no processes, bounded time, memory and output.

    >>> PythonInterpreter({}).execute("sum(n * n for n in range(10))")
    285
    >>> def double(n: int) -> int:
    ...     return 2 * n
    >>> with PythonInterpreter([double], timeout=2) as python:
    ...     python.execute("x = double(n)", {"n": 21})
    ...     python.execute("x")
    ''
    42

    The language is a large part of Python: functions, classes, comprehensions, `match`, `async`, f-strings. It has no inheritance of
    classes, no `yield`, no `del`, no `with` but over files, and of the standard library only `MODULES` and a few more. Code that needs
    numpy or others is for `LocalInterpreter`, which is no sandbox, or for an interpreter of your own, see `CodeInterpreter`.

    A snippet that breaks its time or memory limit takes the variables with it, and the error says so; the interpreter goes on.

    Args:
        tools: Functions that the code may call, by name, or as a list of functions and tools. Arguments are checked as of any `Tool`.
        files: Files and folders that the code may read, by the name that it knows them by: `{"data.csv": path}`.
        writable_files: Those that it may write too.
        enable_read_paths: Files and folders that the code may read by the last part of their path; files also below `/sandbox`.
        enable_write_paths: Those that it may write too.
        timeout: Most seconds that a snippet runs, the time that tools take not counted. Sleeping takes no time.
        max_memory: Most bytes that it holds.
        max_recursion: Most calls within calls.
        max_output: Most characters of printed text, beyond which it is cut off with a notice, and of a value, beyond which it is an error.
        max_calls: Most calls of tools, and most operations on files, by one snippet.
        callbacks: Hear what this interpreter does, beside those of the settings.

    Raises:
        ConfigError: a limit that is not above 0.
        InputError: what is given as a tool or a file cannot be one.
    """

    note = f"Modules: only {MODULES}. There is no yield, no del and no subclass."

    def __init__(
        self,
        tools: Tools | None = None,
        *,
        files: Mapping[str, str | Path] | None = None,
        writable_files: Mapping[str, str | Path] | None = None,
        enable_read_paths: Sequence[str | Path] | None = None,
        enable_write_paths: Sequence[str | Path] | None = None,
        timeout: float = 10.0,
        max_memory: int = 256 * 2**20,
        max_recursion: int = 500,
        max_output: int = 100_000,
        max_calls: int = 1_000,
        callbacks: Sequence[BaseCallback] | None = None,
    ) -> None:
        super().__init__(tools, callbacks)
        limits = {"timeout": timeout, "max_memory": max_memory, "max_recursion": max_recursion}
        limits |= {"max_output": max_output, "max_calls": max_calls}
        if wrong := [name for name, value in limits.items() if not value > 0]:
            raise ConfigError(f"{wrong[0]} is {limits[wrong[0]]!r}; expected a number above 0, as in PythonInterpreter(timeout=10).")
        self._limits = SandboxLimits(seconds=timeout, memory=max_memory, recursion=max_recursion, output=max_output, calls=max_calls)
        self._readable = checked_grants({**(files or {}), **by_last_name(enable_read_paths or (), "enable_read_paths")}, "files")
        writable = {**(writable_files or {}), **by_last_name(enable_write_paths or (), "enable_write_paths")}
        self._writable = checked_grants(writable, "writable_files")
        self._session: MontySession | None = None
        self._mounts: list[MountDir] = []
        self._folder: str | None = None
        """Where the code is when the next snippet begins; None is where the last one left it."""
        self._end: weakref.finalize[..., Any] | None = None

    def start(self) -> None:
        """Takes a process for the variables; running a snippet does that too.

        Raises:
            MissingExtra: the package is not installed.
            CodeInterpreterError: no process could be had.
        """
        with self._running:
            self._open()

    def shutdown(self) -> None:
        """Forgets all variables and gives the process back; the next snippet starts afresh."""
        with self._running:
            if self._session is not None:
                with self.observed("interpreter_shutdown", {}):
                    self._drop()

    def options(self) -> dict[str, Any]:
        """What it was made with: tools, grants and limits."""
        limits = self._limits
        return {
            "tools": self.tools,
            "files": self._readable,
            "writable_files": self._writable,
            "timeout": limits.seconds,
            "max_memory": limits.memory,
            "max_recursion": limits.recursion,
            "max_output": limits.output,
            "max_calls": limits.calls,
            "callbacks": self.callbacks,
        }

    def ran(self, code: str, variables: dict[str, Any]) -> Ran:
        """What a snippet did, with plain values as its variables; no other runs at the time."""
        calls = HostCalls(self, most=self._limits.output * 4, most_calls=self._limits.calls)
        printed = PrintedText(self._limits.output)
        value = self._fed(code, variables, calls, printed)
        if calls.interrupted is not None:
            raise calls.interrupted
        try:
            return Ran(value=plain_output(value, self._limits.output), printed=printed.text)
        except TooLarge as error:
            said = f"The value of the last expression cannot be given back: {error}. Give a smaller one, or raise max_output."
            raise CodeExecutionError(said, kind="ValueError", traceback=said) from None

    def _fed(self, code: str, variables: dict[str, Any], calls: HostCalls, printed: PrintedText) -> Any:
        """Runs a snippet in the session and tells its failures apart."""
        session = self._open()
        import pydantic_monty as monty

        failure: CodeInterpreterError
        host: dict[str, Any] = {"external_lookup": calls.named(), "mount": self._mounts or None, "os": self._files(), "cwd": self._folder}
        self._folder = None
        try:
            return session.feed_run(code, inputs=variables, print_callback=printed.take, **host)
        except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
            if calls.finished or calls.interrupted is not None:
                self._drop_if_dead(session)
                return None
            failure = self._failure(error, session, printed)
        except monty.MontyCrashedError as error:
            self._drop()
            kind = "TimeoutError" if error.timed_out else "SystemError"
            how = f"the code ran longer than {self._limits.seconds:g} seconds" if error.timed_out else "the process of the sandbox died"
            said = f"{kind}: {how}.{_LOST}"
            failure = CodeExecutionError(f"The code failed:\n{said}", kind=kind, traceback=said, lost=True)
        except monty.MontyError as error:
            failure = CodeInterpreterError(f"The sandbox could not take the variables: {error}.")
        except TypeError as error:
            said = f"TypeError: the value of the last expression cannot be given back: {error}"
            failure = CodeExecutionError(said, kind="TypeError", traceback=said)
        except Exception as error:
            self._drop()
            failure = CodeInterpreterError(f"The sandbox failed: {type(error).__name__}: {error}.{_LOST}")
        except BaseException:
            self._drop()
            raise
        raise failure

    def _failure(self, error: MontySyntaxError | MontyRuntimeError, session: MontySession, printed: PrintedText) -> CodeExecutionError:
        kind = error.display("type-msg").split(":")[0].strip()
        stopped = kind in ("TimeoutError", "MemoryError") and not error.traceback()
        used_up = kind == "RuntimeError" and "suspension limit" in str(error)
        lost = self._drop_if_dead(session, stopped=stopped or used_up)
        limits = self._limits
        if stopped and kind == "TimeoutError":
            said = f"TimeoutError: the code ran longer than {limits.seconds:g} seconds."
        elif stopped:
            said = f"MemoryError: the code needed more than {limits.memory / 2**20:g} MiB."
        else:
            said = clipped(error.display(), 4_000)
        said += _LOST if lost else ""
        before = f"{clipped(printed.text, 2_000)}\n" if printed.text else ""
        return CodeExecutionError(f"The code failed:\n{before}{said}", kind=kind, traceback=said, lost=lost)

    def _files(self) -> Any:
        """What answers operations on files."""
        from pydantic_monty import NOT_HANDLED

        readable = {name: path for name, path in self._readable.items() if not path.is_dir()}
        writable = {name: path for name, path in self._writable.items() if not path.is_dir()}
        folders = [*(self._readable.keys() - readable), *(self._writable.keys() - writable)]
        files = GrantedFiles(readable, writable, folders, most_bytes=self._limits.memory, most_calls=self._limits.calls)

        def answer(*, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], is_async: bool) -> Any:
            found = files.answer(name, args)
            return NOT_HANDLED if found is None else found

        return answer

    def _open(self) -> MontySession:
        if self._session is None:
            with self.observed("interpreter_startup", {}):
                session = self._checked_out()
                self._mounts, self._folder = self._folders(), "/"
                self._session = session
                self._end = weakref.finalize(self, _leave, session, self._mounts)
        return self._session

    def _checked_out(self) -> MontySession:
        """A session in a process that lives: one that was killed while it waited in the pool is passed over."""
        pool, limits = _pool(), self._limits
        import pydantic_monty as monty

        for _ in range(MAX_INTERPRETERS + 1):
            session = pool.checkout(
                limits={
                    "max_feed_duration_secs": limits.seconds,
                    "max_memory": limits.memory,
                    "max_recursion_depth": limits.recursion,
                    "max_suspensions": _MOST_SUSPENSIONS,
                },
                os_policy={"sleep": "zero"},
            )
            try:
                session.__enter__()
                session.feed_run("None")
                return session
            except monty.MontyCrashedError:
                _leave(session, [])
            except Exception as error:
                raise CodeInterpreterError(
                    f"The sandbox could not start: {error}. At most {MAX_INTERPRETERS} interpreters hold variables at once; use each in "
                    "a `with` block, which gives its process back."
                ) from None
        raise CodeInterpreterError("The sandbox could not start: its processes die at once. Look for what kills processes named `monty`.")

    def _folders(self) -> list[MountDir]:
        from pydantic_monty import MountDir

        def mounted(name: str, path: Path, mode: Literal["read-only", "read-write"]) -> MountDir:
            return MountDir(host_path=path, virtual_path=f"/{name}", mode=mode, write_bytes_limit=self._limits.memory)

        return [
            *(mounted(name, path, "read-only") for name, path in self._readable.items() if path.is_dir()),
            *(mounted(name, path, "read-write") for name, path in self._writable.items() if path.is_dir()),
        ]

    def _drop_if_dead(self, session: MontySession, *, stopped: bool = False) -> bool:
        """Gives up a session whose process is gone or was stopped amid its work; whether that was so."""
        if stopped or session.worker_pid is None:
            self._drop()
            return True
        return False

    def _drop(self) -> None:
        if self._end is not None:
            self._end()
        self._session, self._end, self._mounts = None, None, []


def _leave(session: MontySession, mounts: list[MountDir]) -> None:
    """Gives a process back; one that is gone already is no matter."""
    with contextlib.suppress(Exception):
        session.__exit__(None, None, None)
    for mount in mounts:
        mount.close()


_lock = threading.Lock()
_pools: dict[int, Monty] = {}
"""The pool of this process; a forked child makes one of its own."""


def _pool() -> Monty:
    try:
        from pydantic_monty import Monty
    except ImportError:
        raise MissingExtra("pydantic-monty", "sandbox", "Running code in the sandbox") from None
    with _lock:
        found = _pools.get(os.getpid())
        if found is None:
            found = _pools[os.getpid()] = Monty(
                min_processes=0,
                max_processes=MAX_INTERPRETERS,
                checkout_timeout=_WAIT_SECONDS,
                feed_duration_limit_grace=_GRACE_SECONDS,
            )
            found.__enter__()
            atexit.register(_close_pool, os.getpid())
        return found


def _close_pool(process: int) -> None:
    """Ends the processes of the pool when the program ends."""
    with _lock:
        found = _pools.pop(process, None)
    if found is not None and process == os.getpid():
        found.__exit__(None, None, None)
