"""Tools of a real MCP server, over standard input and output and over HTTP: called, failing, hanging, dying and closed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from homefire.errors import CallTimeout, InputError, MissingExtra, ServerError
from homefire.modules.mcp_tools import McpTools
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import ToolCalls, calls_type
from homefire.modules.values import value_type

pytest.importorskip("mcp")
SERVER = Path(__file__).with_name("mcp_server.py")
COMMAND = [sys.executable, str(SERVER), "stdio"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, str(SERVER), "http", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def local() -> Iterator[McpTools[Tool]]:
    with Tool.from_mcp(COMMAND) as tools:
        yield tools


def named(tools: McpTools[Tool], name: str) -> Tool:
    return next(tool for tool in tools if tool.name == name)


def check_calls(tools: McpTools[Tool]) -> None:
    add, paint = named(tools, "add"), named(tools, "paint")
    assert (add.desc, add.arg_types["a"]) == ("Adds two numbers.", int)
    assert add(a="2") == "12" and add(a=1, b=2) == "3"
    assert asyncio.run(add.acall(a=5, b=5)) == "10"
    assert paint(point={"x": "1"}, colour="red") == "1,0 is red"
    assert "colour: input should be 'red' or 'blue'" in paint.observe({"point": {"x": 1}, "colour": "green"}).text
    failed = named(tools, "fail").observe({"reason": "no reason"})
    assert isinstance(failed.error, ServerError) and failed.text.startswith("Error: The tool fail failed")


def test_over_standard_input_and_output(local: McpTools[Tool]) -> None:
    assert [tool.name for tool in local] == ["add", "paint", "fail", "sleep", "process", "die"]
    check_calls(local)


def test_over_http(address: str) -> None:
    with Tool.from_mcp(address, headers={"X-Test": "1"}) as tools:
        check_calls(tools)
    with pytest.raises(InputError, match=r"is closed\. Open another"):
        named(tools, "add")(a=1)


def test_the_calls_of_a_server_are_typed_and_run_at_once(local: McpTools[Tool]) -> None:
    kind = value_type(calls_type(list(local)))
    calls = kind.load({"tool_calls": [{"name": "add", "args": {"a": number}} for number in range(5)]})
    assert isinstance(calls, ToolCalls)
    assert [one.value for one in calls.execute().tool_call_results] == ["10", "11", "12", "13", "14"]
    assert [one.value for one in asyncio.run(calls.aexecute()).tool_call_results] == ["10", "11", "12", "13", "14"]


def test_a_call_that_takes_too_long_is_given_up_and_others_go_on(local: McpTools[Tool]) -> None:
    sleep = named(local, "sleep")
    assert isinstance(sleep.observe({"seconds": 0}).value, str)
    hasty = Tool(sleep.func, name="sleep", args=sleep.args, timeout=0.2)
    hasty.loop = sleep.loop
    assert isinstance(hasty.observe({"seconds": 60}).error, CallTimeout)
    assert named(local, "add")(a=1) == "11"


def test_a_server_that_dies_is_reported_and_started_again() -> None:
    with Tool.from_mcp(COMMAND) as tools:
        first = int(named(tools, "process")())
        ended = named(tools, "die").observe({})
        assert isinstance(ended.error, ServerError) and "ended before die returned" in ended.text
        second = int(named(tools, "process")())
        assert second != first
        os.kill(second, signal.SIGKILL)
        assert isinstance(named(tools, "add").observe({"a": 1}).error, ServerError)
        third = int(named(tools, "process")())
        assert third not in (first, second) and psutil.pid_exists(third)
    gone = not psutil.pid_exists(third) or psutil.Process(third).status() == psutil.STATUS_ZOMBIE
    assert gone, "closing left the server running"


def test_a_program_that_forgets_to_close_leaves_no_server(tmp_path: Path) -> None:
    lines = [
        "from homefire.modules.tool import Tool",
        f"tools = Tool.from_mcp({COMMAND!r})",
        "print(next(tool for tool in tools if tool.name == 'process')())",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(lines)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert not psutil.pid_exists(int(done.stdout))


@pytest.mark.parametrize("server", [[sys.executable, "-c", "pass"], ["no-such-command-anywhere"], "http://127.0.0.1:9/mcp"])
def test_what_is_no_server_is_told(server: str | list[str]) -> None:
    with pytest.raises(ServerError, match=r"could not be reached or does not speak MCP.*Tool\.from_mcp\('python server\.py'\)"):
        Tool.from_mcp(server)


def test_a_server_that_says_nothing_is_given_up() -> None:
    with pytest.raises(ServerError, match=r"did not answer within 0\.3 seconds"):
        Tool.from_mcp([sys.executable, "-c", "import sys; sys.stdin.read()"], start_timeout=0.3)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"headers are for a server with an address"):
        Tool.from_mcp(COMMAND, headers={"a": "b"})
    with pytest.raises(InputError, match=r"env and cwd are for a server that is started"):
        Tool.from_mcp("http://127.0.0.1:9/mcp", env={"a": "b"})
    with pytest.raises(InputError, match=r"empty command"):
        Tool.from_mcp("")


def test_a_session_of_the_users_own(address: str) -> None:
    from mcp import Client

    async def program() -> tuple[str, str, str]:
        async with Client(address) as session:
            tools = [Tool.from_mcp_tool(session, tool) for tool in (await session.list_tools()).tools]
            add = next(tool for tool in tools if tool.name == "add")
            from_thread = await asyncio.to_thread(lambda: add(a=1))
            with pytest.raises(InputError, match=r"await add\.acall"):
                add(a=1)
            return await add.acall(a=2), from_thread, add.name

    assert asyncio.run(program()) == ("12", "11", "add")


def test_a_session_needs_its_event_loop() -> None:
    described = type("Described", (), {"name": "add", "description": "", "input_schema": {"properties": {}}})()
    with pytest.raises(InputError, match=r"Tool\.from_mcp\(command_or_url\)"):
        Tool.from_mcp_tool(None, described)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[mcp\]"'):
        Tool.from_mcp(COMMAND)
