"""A small MCP server for tests: python mcp_server.py stdio, or python mcp_server.py http PORT."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Literal

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

server = MCPServer("tests")


class Point(BaseModel):
    x: int
    y: int = 0


@server.tool()
def add(a: int, b: int = 10) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def paint(point: Point, colour: Literal["red", "blue"]) -> str:
    """Paints a point."""
    return f"{point.x},{point.y} is {colour}"


@server.tool()
def fail(reason: str) -> str:
    """Fails."""
    raise ValueError(reason)


@server.tool()
async def sleep(seconds: float) -> str:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return "awake"


@server.tool()
def process() -> int:
    """The number of the process."""
    return os.getpid()


@server.tool()
def die() -> str:
    """Ends the server."""
    os._exit(3)


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[2]))
