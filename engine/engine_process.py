"""An engine's own process: started from any script, notebook or prompt, and watched, so that its death fails what waits for it.

Knows no vLLM: it sees multiprocessing and processes. Children are spawned, never forked, and run `engine_child` as their main module.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, spawn
from multiprocessing.process import BaseProcess
from typing import Any

from homefire.engine.parent_watch import expect_children
from homefire.errors import EngineError

_CHILD = "homefire.engine.engine_child"
_starting = threading.local()
_lock = threading.Lock()
_plain = spawn.get_preparation_data


@contextmanager
def no_main_module() -> Iterator[None]:
    """Children that this thread spawns meanwhile do not run the user's script again.

    Other threads are not touched: what they spawn gets the script as ever.
    """
    with _lock:
        spawn.get_preparation_data = _preparation_data
    expect_children()
    _starting.depth = _depth() + 1
    try:
        yield
    finally:
        _starting.depth = _depth() - 1


def _depth() -> int:
    return int(vars(_starting).get("depth", 0))


def _preparation_data(name: str) -> dict[str, Any]:
    data: dict[str, Any] = _plain(name)
    if _depth():
        data.pop("init_main_from_path", None)
        data["init_main_from_name"] = _CHILD
    return data


def watch(processes: Sequence[BaseProcess], died: Callable[[EngineError], None], model: str) -> None:
    """Calls `died` from a thread of its own as soon as one of the processes has ended."""

    def wait() -> None:
        connection.wait([process.sentinel for process in processes])
        died(death(processes, model))

    threading.Thread(target=wait, name="homefire-engine-watch", daemon=True).start()


def death(processes: Sequence[BaseProcess], model: str) -> EngineError:
    """The error that says how a process of an engine ended."""
    code = _exit_code(processes)
    if code is None:
        how = "ended"
    else:
        how = f"was killed by signal {-code} ({_signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
    hint = " The system kills with that signal when memory runs out." if code == -signal.SIGKILL else ""
    return EngineError(f"The engine's process of {model} {how}.{hint} Its requests are lost; the next call of an LM starts a new one.")


def _exit_code(processes: Sequence[BaseProcess]) -> int | None:
    """The code of the one that failed; waits a moment, because another thread may be the one that is told it."""
    for _ in range(100):
        codes = [process.exitcode for process in processes if process.exitcode is not None]
        if codes:
            return next((code for code in codes if code), 0)
        time.sleep(0.02)
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
