"""The main module of a LocalInterpreter's process: reads snippets as lines of JSON, runs them, writes what came out.

Knows nothing of homefire. It ends with whoever holds the other end of its standard input, also amid a snippet.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, TextIO

SNIPPET = "<snippet>"


class _Finished(BaseException):
    """A function of the host has ended the snippet."""


class _Bounded(io.StringIO):
    """Text that stops growing at its limit."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.dropped = 0

    def write(self, text: str) -> int:
        piece = text[: max(0, self.most - self.tell())]
        self.dropped += len(text) - len(piece)
        super().write(piece)
        return len(text)


class _Host:
    """The other end: lines in, lines out."""

    def __init__(self, incoming: TextIO, outgoing: TextIO) -> None:
        self._outgoing = outgoing
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def _read(self, incoming: TextIO) -> None:
        for line in incoming:
            self._lines.put(line)
        os._exit(0)

    def receive(self) -> dict[str, Any]:
        received: dict[str, Any] = json.loads(self._lines.get())
        return received

    def send(self, message: dict[str, Any]) -> None:
        self._outgoing.write(json.dumps(message, default=plain) + "\n")
        self._outgoing.flush()

    def function(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.send({"call": name, "args": args, "kwargs": kwargs})
            answer = self.receive()
            if answer.get("finished"):
                raise _Finished
            if "error" in answer:
                raise RuntimeError(answer["error"])
            return answer["result"]

        return call


def plain(value: Any) -> Any:
    """What JSON has no form for: sets and arrays as lists, tables as lists of records, everything else as text."""
    match value:
        case set() | frozenset():
            return list(value)
        case bytes():
            return value.decode("utf-8", "replace")
    for method, arguments in (("to_dict", ("records",)), ("tolist", ()), ("isoformat", ())):
        try:
            return getattr(value, method)(*arguments)
        except Exception:
            continue
    return repr(value)


def run(code: str, names: dict[str, Any]) -> Any:
    """Runs a snippet and returns the value of its last expression."""
    tree = ast.parse(code, SNIPPET)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, SNIPPET, "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), SNIPPET, "eval"), names)
    return None


def own_traceback(error: BaseException) -> str:
    """The traceback from the snippet on."""
    frames = list(traceback.extract_tb(error.__traceback__))
    while frames and frames[0].filename != SNIPPET:
        frames.pop(0)
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*lines, *traceback.format_exception_only(error)]).strip()


def serve(host: _Host) -> None:
    """Runs one snippet after another."""
    names: dict[str, Any] = {"__name__": "__main__"}
    while True:
        asked = host.receive()
        names.update({name: host.function(name) for name in asked["tools"]})
        names.update(asked["variables"])
        printed = _Bounded(asked["most"])
        said: dict[str, Any] = {"value": None}
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                said["value"] = run(asked["code"], names)
            except _Finished:
                pass
            except BaseException as error:
                said = {"error": own_traceback(error), "kind": type(error).__name__}
        said["printed"], said["dropped"] = printed.getvalue(), printed.dropped
        try:
            host.send(said)
        except (ValueError, TypeError, RecursionError) as error:
            host.send({"error": f"{type(error).__name__}: {error}", "kind": type(error).__name__, "printed": "", "dropped": 0})


def main() -> None:
    """Keeps the two pipes to itself, so that code which reads or writes the standard streams does not disturb them."""
    incoming, outgoing = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    with open(os.devnull, encoding="utf-8") as empty:
        sys.stdin = empty
        host = _Host(incoming, outgoing)
        host.send({"ready": True})
        serve(host)


if __name__ == "__main__":
    main()
