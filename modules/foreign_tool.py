"""What a tool of another system consists of, before it is a `Tool`.

Knows no such system; each of them has a file of its own that makes these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from homefire.modules.tool_schema import types_of_object


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTool:
    """A tool that is described by a JSON Schema."""

    call: Callable[..., Awaitable[Any]]
    """Takes the arguments by name."""
    name: str
    description: str
    schema: Mapping[str, Any]
    """Of an object whose properties are the arguments."""
    loop: asyncio.AbstractEventLoop | None = None
    """Where `call` has to run; None is wherever it is awaited."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The schema of each argument."""
        properties: Mapping[str, Any] = self.schema.get("properties") or {}
        return properties

    @property
    def types(self) -> dict[str, Any]:
        """The type of each argument."""
        return types_of_object({**self.schema, "properties": self.arguments})
