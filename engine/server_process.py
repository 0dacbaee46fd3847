"""A running server process and what it said: started in a session of its own, ended with everything it started.

Knows no settings: it is given vLLM's arguments and an environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

import psutil

from homefire.engine.server_child import SCRATCH

_GRACE_SECONDS = 15.0
_LONGEST_FOLDER = 50
_LOG_LINES = 400
_SHOWN_LINES = 12
_CAUSE = re.compile(r"(?:^|\s)((?:[\w.]+\.)?(?!RuntimeError: Engine core init)[A-Z]\w*(?:Error|Exception)): (.+)")
_ADDRESS_TAKEN = "address already in use"
_NO_MEMORY = ("out of memory", "available memory", "no available memory", "cannot allocate memory", "kv cache memory", "kv cache is needed")


class ServerProcess:
    """vLLM's server as a child.

    Args:
        arguments: vLLM's engine and server arguments, by the names they have in Python; None leaves one out.
        environment: The child's whole environment.
    """

    def __init__(self, arguments: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._scratch = tempfile.mkdtemp(prefix="homefire-", dir=_short_folder())
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "homefire.engine.server_child", *flags(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, SCRATCH: self._scratch},
            start_new_session=True,
        )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), name="server log", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the server; its session has the same number."""
        return self._child.pid

    def is_alive(self) -> bool:
        """Whether the server's process runs, whatever it does."""
        return self._child.poll() is None

    def wait(self) -> None:
        """Returns when it has ended."""
        self._child.wait()

    def ending(self) -> str:
        """How it ended and why, with what to do, for an error message; to be asked once it has."""
        code = self._child.wait()
        self._kill_session()
        self._reader.join(timeout=5)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"The server's process {how}{explained(list(self._log), code)}"

    def end(self) -> None:
        """Ends it and everything it started, and waits for that; may be called again."""
        if self._child.poll() is None:
            self._child.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(_GRACE_SECONDS)
        self._kill_session()
        self._child.wait()
        with suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        self._reader.join(timeout=5)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _kill_session(self) -> None:
        """Kills the server; its engine goes with it, and what cleans up shared memory does so and ends by itself."""
        with suppress(ProcessLookupError):
            self._child.kill()
        self._child.wait()
        deadline = time.monotonic() + _GRACE_SECONDS
        while (left := _living(self._child.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            with suppress(psutil.Error):
                process.kill()

    def _read(self, stream: IO[bytes]) -> None:
        loud = os.environ.get("HOMEFIRE_VERBOSE") == "1"
        with stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip()
                self._log.append(text)
                if loud:
                    print(text, file=sys.stderr, flush=True)


def _short_folder() -> str:
    """A temporary folder whose name leaves room for that of a socket, which may have 107 characters in all."""
    return min(tempfile.gettempdir(), "/tmp", key=lambda folder: len(os.fsencode(folder)) > _LONGEST_FOLDER)


def _living(session: int) -> list[psutil.Process]:
    """Processes of a session that have not ended."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments by their names in Python, as vLLM's command line takes them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, dict):
            words += [f"--{flag}", json.dumps(value)]
        elif isinstance(value, list):
            words += [f"--{flag}", *map(str, value)]
        elif value is not None:
            words.append(f"--{flag}={value}")
    return words


def explained(log: list[str], code: int) -> str:
    """The cause that a log names, what to do about it, and the log around it; to be put behind 'The process ended'."""
    places = [index for index, line in enumerate(log) if _CAUSE.search(line)]
    shown = log[max(0, places[0] + 1 - _SHOWN_LINES) : places[0] + 1] if places else log[-_SHOWN_LINES:]
    cause = f": {match[0].strip().rstrip('.')}." if places and (match := _CAUSE.search(log[places[0]])) else "."
    said = "\n".join(log).lower()
    if _ADDRESS_TAKEN in said:
        advice = " Another program took the port meanwhile: use another one with --port."
    elif code == -signal.SIGKILL or any(words in said for words in _NO_MEMORY):
        advice = " Memory may have run out: `homefire doctor` shows what there is; a smaller context, kv_cache_gib or model takes less."
    else:
        advice = " `homefire doctor` shows what is missing here; HOMEFIRE_VERBOSE=1 shows the whole log."
    return f"{cause}{advice} From its log:\n" + ("\n".join(shown) or "(nothing)")
