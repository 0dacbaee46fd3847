"""Tools: functions that a model may call, with typed arguments, a timeout and a text of what came out.

Knows no model, no prompt format and no server. Whoever runs a tool for a model uses `observe`, which turns failures into text.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from homefire.engine.callbacks import BaseCallback, observed
from homefire.errors import CallTimeout, ConfigError, HomefireError, InputError
from homefire.modules.background import in_loop, in_thread, wait, wait_async
from homefire.modules.foreign_tool import ForeignTool
from homefire.modules.prompt_text import input_text
from homefire.modules.tool_arguments import Argument, arguments_of, arguments_type, declared_arguments, innermost, json_schema
from homefire.modules.tool_text import cut, plain, problem, shown

if TYPE_CHECKING:
    from homefire.modules.mcp_tools import McpTools

MAX_OUTPUT_CHARACTERS = 10_000
"""Most characters of a result that a model is shown, unless a tool says otherwise."""
_NAME = re.compile(r"[A-Za-z0-9_][\w.\-/:]*")
_ERROR_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What became of one call of a tool."""

    text: str
    """The result, or what went wrong, as a model reads it."""
    value: Any = None
    """What the tool returned."""
    error: Exception | None = None
    """Why there is no value."""


class Tool:
    '''A function that a model may call.

    >>> def add(a: int, b: int = 1) -> int:
    ...     """Adds two numbers."""
    ...     return a + b
    >>> tool = Tool(add)
    >>> tool(a="2"), str(tool)
    (3, 'add(a: whole number, b: whole number = 1): Adds two numbers.')

    Args:
        func: Anything that can be called, asynchronous or not: a function, a method, an object with `__call__`, a `functools.partial`,
            whose bound arguments are not the model's to choose.
        name: What the model calls it; the function's name where None.
        desc: What it does; the function's docstring where None.
        args: JSON Schemas of the arguments, for functions that take `**kwargs`. A schema with a `default` is of an optional argument.
        arg_types: Types of arguments, over those of the function; `NotRequired[...]` is an optional argument.
        arg_desc: What arguments are, in words.
        timeout: Most seconds of a call; None is without end.
        max_output_chars: Most characters of the result that a model is shown.
        callbacks: Hear the calls of this tool, beside those of the settings.

    Raises:
        InputError: not callable, a name that no model should write, or arguments that the function does not have.
    '''

    def __init__(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        desc: str | None = None,
        args: Mapping[str, Any] | None = None,
        arg_types: Mapping[str, Any] | None = None,
        arg_desc: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        max_output_chars: int = MAX_OUTPUT_CHARACTERS,
        callbacks: Sequence[BaseCallback] = (),
    ) -> None:
        if not callable(func):
            raise InputError(f"A tool is a function, but {func!r} cannot be called. Write Tool(my_function), without brackets behind it.")
        if timeout is not None and not timeout > 0:
            raise ConfigError(f"timeout is {timeout!r}; expected seconds above 0, as in Tool(func, timeout=30), or None.")
        if max_output_chars < 1:
            raise ConfigError(f"max_output_chars is {max_output_chars!r}; expected a whole number above 0.")
        self.func = func
        self.name = _name(func, name)
        self.desc = _description(func) if desc is None else desc
        self.timeout = timeout
        self.max_output_chars = max_output_chars
        self.callbacks = tuple(callbacks)
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where an asynchronous function has to run; None is wherever it is awaited."""
        if args is None:
            found = arguments_of(func, self.name, arg_types or {}, arg_desc or {})
        else:
            found = declared_arguments(func, self.name, args, arg_types or {}, arg_desc or {})
        self.arguments: tuple[Argument, ...] = found.arguments
        self.has_kwargs = found.open
        self._signature = found.signature
        self._adapter: TypeAdapter[Any] | None = None
        self.is_async = _is_async(func)

    @property
    def args(self) -> dict[str, Any]:
        """The JSON Schema of each argument."""
        return {argument.name: json_schema(argument) for argument in self.arguments}

    @property
    def arg_types(self) -> dict[str, Any]:
        """The type of each argument."""
        return {argument.name: argument.type for argument in self.arguments}

    @property
    def arg_desc(self) -> dict[str, str]:
        """What arguments are in words, of those that are described."""
        return {argument.name: argument.description for argument in self.arguments if argument.description}

    def __call__(self, **arguments: Any) -> Any:
        """What the function returns for these arguments, which are made to fit their types; an asynchronous one is waited for.

        Raises:
            InputError: the arguments do not fit.
            CallTimeout: it took longer than its timeout; a thread cannot be killed, so what it does may go on.
            Exception: what the function raises.
        """
        return self._call(arguments, self.timeout)

    async def acall(self, **arguments: Any) -> Any:
        """As calling the tool, awaited; a function that is not asynchronous runs on a thread of its own."""
        return await self._acall(arguments, self.timeout)

    def observe(self, arguments: Mapping[str, Any], *, timeout: float | None = None) -> Observation:
        """Calls the tool for a model: what it raises is an observation too.

        Args:
            arguments: By name.
            timeout: Most seconds where the tool has no timeout of its own.
        """
        try:
            return self._seen(self._call(arguments, self.timeout or timeout))
        except CancelledError:
            raise
        except Exception as error:
            return self._failed(error)

    async def aobserve(self, arguments: Mapping[str, Any], *, timeout: float | None = None) -> Observation:
        """As `observe`, awaited."""
        try:
            return self._seen(await self._acall(arguments, self.timeout or timeout))
        except CancelledError:
            raise
        except Exception as error:
            return self._failed(error)

    @classmethod
    def from_mcp_tool(cls, session: Any, tool: Any, *, timeout: float | None = None) -> Tool:
        """A tool of an MCP server behind a session of the `mcp` package that is open already; see `from_mcp` to open one.

        Args:
            session: A `ClientSession` or `Client`; called on the event loop on which this method is called.
            tool: One of what its `list_tools()` gave.
            timeout: Most seconds of a call.
        """
        from homefire.modules.mcp_tools import tool_of_session

        return cls._of(tool_of_session(session, tool), timeout)

    @classmethod
    def from_mcp(
        cls,
        server: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 60.0,
        start_timeout: float = 60.0,
    ) -> McpTools[Tool]:
        """The tools of an MCP server, which is started or connected to; for plain and asynchronous programs.

        >>> with Tool.from_mcp("python my_server.py") as tools:  # doctest: +SKIP
        ...     ReAct("question -> answer", tools=tools)(question="...")

        Args:
            server: A command, as text or as a list of words, to speak with over its standard input and output; or an address
                `http://...` of a streamable HTTP server.
            env: More environment variables of the command.
            cwd: Folder in which the command runs.
            headers: More headers of every HTTP request.
            timeout: Most seconds of a call.
            start_timeout: Most seconds until the server has said what tools it has.

        Returns:
            A sequence of tools, to be closed by `close`, by leaving its `with` block, or when the program ends.

        Raises:
            MissingExtra: the package `mcp` is not installed.
            ServerError: the server did not start, or does not speak MCP.
        """
        from homefire.modules.mcp_tools import McpTools, connect

        connection, found = connect(server, env=env, cwd=cwd, headers=headers, start_timeout=start_timeout)
        return McpTools(connection, [cls._of(one, timeout) for one in found])

    @classmethod
    def from_langchain(cls, tool: Any) -> Tool:
        """A tool of LangChain.

        Raises:
            MissingExtra: the package `langchain-core` is not installed.
            InputError: not a tool of LangChain.
        """
        from homefire.modules.langchain_tool import tool_of_langchain

        return cls._of(tool_of_langchain(tool), None)

    @classmethod
    def _of(cls, foreign: ForeignTool, timeout: float | None) -> Tool:
        made = cls(foreign.call, foreign.name, foreign.description, foreign.arguments, foreign.types, timeout=timeout)
        made.loop = foreign.loop
        return made

    def line(self, *, types: bool = True) -> str:
        """Name, arguments and description on one line, as a model reads it."""
        words_of = [shown(argument) if types else argument.name for argument in self.arguments]
        said = [f"{name} is {text}" for name, text in self.arg_desc.items()]
        words = " ".join(self.desc.split())
        rest = " ".join(part for part in (words, f"({'; '.join(said)})" if said else "") if part)
        return f"{self.name}({', '.join(words_of)})" + (f": {rest}" if rest else "")

    def text(self, value: Any) -> str:
        """A result as a model reads it, cut off with a notice where it is too long."""
        try:
            written = "(nothing)" if value is None else input_text("result", plain(value)).strip()
        except HomefireError:
            written = str(value)
        return cut(written or "(empty)", self.max_output_chars)

    def __str__(self) -> str:
        return self.line()

    def __repr__(self) -> str:
        return f"Tool({self.line()!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_adapter": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Tool:
        return self

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())

    def _call(self, arguments: Mapping[str, Any], seconds: float | None) -> Any:
        with observed("tool", self, arguments, self.callbacks) as call:
            args, kwargs = self._fitted(arguments)
            if self.is_async:
                future = in_loop(lambda: self._awaited(args, kwargs), self.loop, f"await {self.name}.acall(...)")
            elif seconds is not None:
                future = in_thread(lambda: self._run(args, kwargs), f"homefire-tool-{self.name}")
            else:
                call.give(value := self._run(args, kwargs))
                return value
            call.give(value := wait(future, seconds, self._late))
            return value

    async def _acall(self, arguments: Mapping[str, Any], seconds: float | None) -> Any:
        with observed("tool", self, arguments, self.callbacks) as call:
            args, kwargs = self._fitted(arguments)
            waiting: Awaitable[Any]
            if not self.is_async:
                waiting = asyncio.wrap_future(in_thread(lambda: self._run(args, kwargs), f"homefire-tool-{self.name}"))
            elif self.loop is None or self.loop is asyncio.get_running_loop():
                waiting = self._awaited(args, kwargs)
            else:
                waiting = asyncio.wrap_future(in_loop(lambda: self._awaited(args, kwargs), self.loop, ""))
            call.give(value := await wait_async(waiting, seconds, self._late))
            return value

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return self.func(*args, **kwargs)
        except SystemExit as error:
            raise RuntimeError(f"{self.name} wanted to end the program with {error.code!r}") from None

    async def _awaited(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return await self.func(*args, **kwargs)
        except SystemExit as error:
            raise RuntimeError(f"{self.name} wanted to end the program with {error.code!r}") from None

    def _late(self, seconds: float) -> NoReturn:
        raise CallTimeout(
            f"The tool {self.name} gave no result within {seconds:g} seconds and was given up. Allow more time, as in "
            f"Tool({self.name}, timeout={2 * seconds:g}), or ask it for less."
        )

    def _fitted(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with their types, in the places where the function takes them."""
        known = {argument.name: argument for argument in self.arguments}
        unknown = [name for name in arguments if name not in known]
        if unknown and not self.has_kwargs:
            self._refuse(f"there is no argument {unknown[0]!r}")
        if missing := [name for name, argument in known.items() if argument.required and name not in arguments]:
            self._refuse(f"the argument {missing[0]!r} is missing")
        given = {name: value for name, value in arguments.items() if name in known}
        if self._adapter is None:
            self._adapter = TypeAdapter(arguments_type(self.name, self.arguments, writable=False))
        try:
            fitted = {**self._adapter.validate_python(given), **{name: arguments[name] for name in unknown}}
        except ValidationError as error:
            self._refuse("; ".join(map(problem, error.errors(include_url=False)[:3])))
        if self._signature is None:
            return (), fitted
        return self._signature.call(fitted)

    def _refuse(self, said: str) -> NoReturn:
        raise InputError(f"{self.name} cannot be called so: {said}. It takes {self.name}({', '.join(map(shown, self.arguments))}).")

    def _seen(self, value: Any) -> Observation:
        return Observation(text=self.text(value), value=value)

    def _failed(self, error: Exception) -> Observation:
        said = str(error) if isinstance(error, HomefireError) else f"{type(error).__name__}: {error}"
        return Observation(text=cut(f"Error: {said}", _ERROR_CHARACTERS), error=error)


def as_tool(tool: Tool | Callable[..., Any]) -> Tool:
    """The tool itself, or one of a function."""
    return tool if isinstance(tool, Tool) else Tool(tool)


def _name(func: Callable[..., Any], given: str | None) -> str:
    name = given if given is not None else _own_name(func)
    if not _NAME.fullmatch(name):
        raise InputError(f"A tool cannot be called {name!r}. Give it a name of letters, digits and underscores: Tool(func, name='search').")
    return name


def _own_name(func: Any) -> str:
    named = innermost(func)
    return str(named.__name__ if inspect.isroutine(named) or inspect.isclass(named) else type(named).__name__)


def _description(func: Any) -> str:
    described = innermost(func)
    if inspect.isroutine(described) or inspect.isclass(described):
        return inspect.getdoc(described) or ""
    return inspect.getdoc(type(described).__call__) or inspect.getdoc(type(described)) or ""


def _is_async(func: Any) -> bool:
    called = innermost(func)
    if inspect.isroutine(called) or inspect.isclass(called):
        return inspect.iscoroutinefunction(called)
    return inspect.iscoroutinefunction(type(called).__call__)
