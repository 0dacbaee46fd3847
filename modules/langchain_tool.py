"""Tools of LangChain as tools of homefire.

Knows no model. LangChain checks its tools' arguments itself; here their types are read for grammars and prompts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homefire.errors import InputError, MissingExtra
from homefire.modules.foreign_tool import ForeignTool


def tool_of_langchain(tool: Any) -> ForeignTool:
    """A tool of LangChain: name, description, arguments and what it does.

    Raises:
        MissingExtra: the package `langchain-core` is not installed.
        InputError: not a tool of LangChain.
    """
    try:
        from langchain_core.tools import BaseTool
    except ImportError:
        raise MissingExtra("langchain-core", "langchain", "Tool.from_langchain") from None
    if not isinstance(tool, BaseTool):
        raise InputError(f"Tool.from_langchain got {tool!r}; expected a tool of LangChain. A plain function is Tool(function).")
    model: Any = tool.tool_call_schema
    schema: Mapping[str, Any] = model if isinstance(model, dict) else model.model_json_schema()

    async def call(**arguments: Any) -> Any:
        return await tool.ainvoke(arguments)

    return ForeignTool(call=call, name=tool.name, description=tool.description, schema=schema)
