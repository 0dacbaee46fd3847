"""Tools of MCP servers, over standard input and output or streamable HTTP, through the `mcp` package.

Knows no model and no program. A connection lives on the event loop in the background, so that plain and asynchronous programs share it.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shlex
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, overload

from homefire.errors import InputError, MissingExtra, ServerError
from homefire.modules.background import background_loop, in_loop, wait
from homefire.modules.foreign_tool import ForeignTool

if TYPE_CHECKING:
    from mcp import Client


class Named(Protocol):
    """A tool, as far as a list of tools knows it."""

    name: str


T = TypeVar("T", bound=Named)
_CLOSE_SECONDS = 10.0
_open: weakref.WeakSet[Connection] = weakref.WeakSet()


class McpTools(Sequence[T], Generic[T]):
    """The tools of one MCP server, as a list; `close` ends the connection, and a server that was started for it.

    A server that dies is reported by the call that finds out, and is started or connected to again by the next one.
    """

    def __init__(self, connection: Connection, tools: Sequence[T]) -> None:
        self._connection = connection
        self._tools = tuple(tools)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._tools[index]

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"McpTools({self._connection.address.shown!r}: {', '.join(tool.name for tool in self._tools)})"

    def close(self) -> None:
        """Ends the connection; closing twice is allowed. The tools cannot be called any more."""
        self._connection.close()

    async def aclose(self) -> None:
        """As `close`, awaited."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is, or how it is started."""

    url: str | None
    command: tuple[str, ...]
    env: Mapping[str, str] | None
    cwd: str | None
    headers: Mapping[str, str] | None

    @property
    def shown(self) -> str:
        """The address without what may be secret: no query and no options."""
        return self.url.split("?")[0] if self.url is not None else shlex.join(self.command[:1] + self._plain[:1])

    @property
    def _plain(self) -> tuple[str, ...]:
        return tuple(word for word in self.command[1:] if not word.startswith("-"))


def connect(
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str | None,
    headers: Mapping[str, str] | None,
    start_timeout: float,
) -> tuple[Connection, list[ForeignTool]]:
    """Starts or connects to a server and asks it for its tools; see `Tool.from_mcp`."""
    _check_installed()
    connection = Connection(_address(server, env, cwd, headers), start_timeout)
    loop = background_loop()
    atexit.unregister(_close_all)
    atexit.register(_close_all)  # behind the loop's own ending, so that it runs before
    listed = wait(in_loop(connection.list_tools, None, "await asyncio.to_thread(Tool.from_mcp, ...)"))
    return connection, [_foreign(connection.caller(one.name), one, loop) for one in listed]


def tool_of_session(session: Any, tool: Any) -> ForeignTool:
    """A tool behind a session that somebody else keeps open; see `Tool.from_mcp_tool`."""
    _check_installed()

    async def call(**arguments: Any) -> Any:
        return _value(tool.name, await session.call_tool(tool.name, arguments))

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise InputError(
            "Tool.from_mcp_tool was called where no event loop runs, but its session belongs to one. Call it inside of "
            "`async with Client(...) as session:`, or let homefire keep the connection: Tool.from_mcp(command_or_url)."
        ) from None
    return _foreign(call, tool, loop)


class Connection:
    """One connection, opened when it is needed and again when it was lost; everything in it happens on the loop in the background."""

    def __init__(self, address: Address, start_timeout: float) -> None:
        self.address = address
        self._start_timeout = start_timeout
        self._live: _Live | None = None
        self._lock: asyncio.Lock | None = None
        self._closed = False
        self._process = os.getpid()
        _open.add(self)

    async def list_tools(self) -> list[Any]:
        """All tools of the server, as the `mcp` package describes them."""
        client, found, cursor = await self._client(), [], None
        while True:
            try:
                page = await asyncio.wait_for(client.list_tools(cursor=cursor), self._start_timeout)
            except Exception as error:
                await self._drop()
                raise ServerError(f"The MCP server {self.address.shown} did not say what tools it has: {_said(error)}.") from None
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What a tool returns.

        Raises:
            ServerError: the connection was lost, or the tool said that it failed.
        """
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        client = await self._client()
        try:
            return _value(name, await client.call_tool(name, dict(arguments)))
        except MCPError as error:
            if error.code != CONNECTION_CLOSED:
                raise ServerError(f"The MCP server refused the call of {name}: {error.message}") from None
        except (OSError, RuntimeError):
            pass
        await self._drop()
        raise ServerError(
            f"The MCP server {self.address.shown} ended before {name} returned; whether the call did anything is not known. The next call "
            "starts or connects to it again."
        )

    def caller(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Calls a tool with arguments by name."""

        async def call(**arguments: Any) -> Any:
            return await self.call(name, arguments)

        return call

    def close(self) -> None:
        """Ends the connection, and the server where it was started for it."""
        self._closed = True
        _open.discard(self)
        if self._live is not None and self._process == os.getpid() and background_loop().is_running():
            with suppress(TimeoutError, CancelledError):
                in_loop(self._drop, None, "await tools.aclose()").result(_CLOSE_SECONDS)

    async def _client(self) -> Client:
        if self._closed:
            raise InputError(f"The connection to the MCP server {self.address.shown} is closed. Open another: Tool.from_mcp(...).")
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            if self._live is None or self._live.task.done():
                self._live = await self._opened()
            return self._live.client

    async def _opened(self) -> _Live:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        ending = asyncio.Event()
        task = asyncio.create_task(self._keep_open(ready, ending), name="homefire-mcp")
        try:
            client = await asyncio.wait_for(asyncio.shield(ready), self._start_timeout)
        except BaseException as error:
            ready.cancel()
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)
            if not isinstance(error, Exception):
                raise
            said = f"it did not answer within {self._start_timeout:g} seconds" if isinstance(error, TimeoutError) else _said(error)
            raise ServerError(
                f"The MCP server {self.address.shown} could not be reached or does not speak MCP: {said}. Expected a command that speaks "
                "MCP over its standard input and output, as in Tool.from_mcp('python server.py'), or the address of a streamable "
                "HTTP server."
            ) from None
        return _Live(client=client, ending=ending, task=task)

    async def _keep_open(self, ready: asyncio.Future[Client], ending: asyncio.Event) -> None:
        """Opens and closes the connection in one task, as its libraries want it."""
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(await _entered(self.address, stack))
                if not ready.done():
                    ready.set_result(client)
                await ending.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error if isinstance(error, Exception) else ConnectionError(type(error).__name__))
            if isinstance(error, asyncio.CancelledError):
                raise

    async def _drop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.ending.set()
            await asyncio.wait([live.task], timeout=_CLOSE_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """A connection that is open."""

    client: Client
    ending: asyncio.Event
    task: asyncio.Task[None]


async def _entered(address: Address, stack: AsyncExitStack) -> Client:
    from mcp import Client, StdioServerParameters

    if address.url is None:
        command, *args = address.command
        env = None if address.env is None else dict(address.env)
        return Client(StdioServerParameters(command=command, args=args, env=env, cwd=address.cwd))
    if not address.headers:
        return Client(address.url)
    from httpx2 import AsyncClient, Timeout
    from mcp.client.streamable_http import streamable_http_client

    http = await stack.enter_async_context(AsyncClient(headers=dict(address.headers), timeout=Timeout(30.0, read=None)))
    return Client(streamable_http_client(address.url, http_client=http))


def _foreign(call: Callable[..., Awaitable[Any]], described: Any, loop: asyncio.AbstractEventLoop) -> ForeignTool:
    return ForeignTool(call=call, name=described.name, description=described.description or "", schema=described.input_schema, loop=loop)


def _value(name: str, result: Any) -> Any:
    """What a result says: one text as it is, several as a list, data where there is no text.

    Raises:
        ServerError: the tool says that it failed.
    """
    texts = [part.text if part.type == "text" else f"({part.type} left out)" for part in result.content]
    if result.is_error:
        raise ServerError(f"The tool {name} failed: {' '.join(texts) or 'it does not say why'}")
    if not texts:
        return result.structured_content
    return texts[0] if len(texts) == 1 else texts


def _address(server: str | Sequence[str], env: Mapping[str, str] | None, cwd: str | None, headers: Mapping[str, str] | None) -> Address:
    if isinstance(server, str) and server.startswith(("http://", "https://")):
        if env is not None or cwd is not None:
            raise InputError("env and cwd are for a server that is started by a command; for an address give headers={...}.")
        return Address(url=server, command=(), env=None, cwd=None, headers=headers)
    command = tuple(shlex.split(server) if isinstance(server, str) else server)
    if not command:
        raise InputError("Tool.from_mcp got an empty command. Write Tool.from_mcp('python server.py') or Tool.from_mcp('http://...').")
    if headers is not None:
        raise InputError("headers are for a server with an address; for a command give env={...}.")
    return Address(url=None, command=command, env=env, cwd=cwd, headers=None)


def _check_installed() -> None:
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise MissingExtra("mcp", "mcp", "A tool of an MCP server") from None


def _said(error: BaseException) -> str:
    """The first failure in a group of them, in words."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _close_all() -> None:
    for connection in list(_open):
        connection.close()
