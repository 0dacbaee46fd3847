"""Functions of the host as code in an interpreter calls them: arguments checked and counted, failures as plain messages.

Knows no particular interpreter. Nothing of the host goes back but plain data and the text of an error: no object, no frame, no path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from typing import Any

from homefire.errors import HomefireError, InputError
from homefire.modules.interpreter import Direct, Finished, Interpreter
from homefire.modules.sandbox_values import TooLarge, plain_input, plain_output, shown
from homefire.modules.tool import Tool


class CallFailed(RuntimeError):
    """What the code is told of a call that failed."""


class HostCalls:
    """The calls of one snippet.

    Args:
        interpreter: Whose tools may be called, and whose callbacks hear of it.
        most: Most characters of the arguments of a call, and of its result.
        most_calls: Most calls.
    """

    def __init__(self, interpreter: Interpreter, *, most: int, most_calls: int) -> None:
        self._tools = dict(interpreter.tools)
        self._observed = interpreter.observed
        self._most = most
        self._left = self._most_calls = most_calls
        self.finished = False
        """Whether a function has ended the snippet."""
        self.interrupted: BaseException | None = None
        """What must reach the caller of the interpreter and not the code: Ctrl-C, a cancelled call."""

    def __call__(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The plain result of a call.

        Raises:
            CallFailed: what the code is told.
            SystemExit: the snippet is to end.
        """
        self._left -= 1
        if self._left < 0:
            raise CallFailed(f"this code has called functions {self._most_calls} times, which is the most; call fewer")
        try:
            given: tuple[tuple[Any, ...], dict[str, Any]] = plain_output((tuple(args), dict(kwargs)), self._most)
            with self._observed("interpreter_tool_call", {"tool_name": name, "args": given[0], "kwargs": given[1]}) as call:
                call.give(value := plain_input(self._value(self._tools[name], name, *given), f"the result of {name}"))
            return value
        except Finished:
            self.finished = True
            raise SystemExit("finished") from None
        except TooLarge as error:
            raise CallFailed(f"the arguments of {name} cannot be taken: {error}") from None
        except CancelledError as error:
            self.interrupted = error
            raise SystemExit("cancelled") from None
        except HomefireError as error:
            raise CallFailed(str(error)) from None
        except Exception as error:
            raise CallFailed(f"{name} failed: {type(error).__name__}: {error}") from None
        except BaseException as error:
            self.interrupted = error
            raise SystemExit("interrupted") from None

    def named(self) -> dict[str, Callable[..., Any]]:
        """A function for each tool, to be called as the code calls it."""

        def function(name: str) -> Callable[..., Any]:
            return lambda *args, **kwargs: self(name, args, kwargs)

        return {name: function(name) for name in self._tools}

    def _value(self, tool: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(tool, Direct):
            return tool(*args, **kwargs)
        tool = tool if isinstance(tool, Tool) else Tool(tool, name=name)
        value = tool(**self._by_name(tool, args, kwargs))
        try:
            return plain_input(value, f"the result of {name}")
        except InputError:
            return shown(value)

    def _by_name(self, tool: Tool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        names = [argument.name for argument in tool.arguments]
        if len(args) > len(names):
            raise InputError(f"{tool.name} takes {len(names)} arguments ({', '.join(names) or 'none'}), but {len(args)} were given.")
        if twice := [name for name in names[: len(args)] if name in kwargs]:
            raise InputError(f"{tool.name} was given the argument {twice[0]!r} twice.")
        return {**dict(zip(names, args, strict=False)), **kwargs}
