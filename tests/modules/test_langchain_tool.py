"""Tools of LangChain: name, description and typed arguments come over, and they are called as LangChain does."""

from __future__ import annotations

import sys

import pytest

from homefire.errors import InputError, MissingExtra
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import calls_type
from homefire.modules.values import value_type


def test_a_tool_of_langchain() -> None:
    tools = pytest.importorskip("langchain_core.tools")

    @tools.tool
    def power(base: int, exponent: int = 2) -> int:
        """Raises a number."""
        return int(base**exponent)

    @tools.tool
    async def shout(text: str) -> str:
        """Makes it loud."""
        return text.upper()

    made, loud = Tool.from_langchain(power), Tool.from_langchain(shout)
    assert (made.name, made.desc) == ("power", "Raises a number.")
    assert made(base="3") == 9 and made(base=2, exponent=5) == 32 and loud(text="a") == "A"
    assert "the argument 'base' is missing" in made.observe({}).text
    calls = value_type(calls_type([made, loud])).load({"tool_calls": [{"name": "power", "args": {"base": 4}}]})
    assert calls.execute().tool_call_results[0].value == 16


def test_what_is_no_tool_of_langchain() -> None:
    pytest.importorskip("langchain_core.tools")
    with pytest.raises(InputError, match=r"A plain function is Tool\(function\)"):
        Tool.from_langchain(len)


def test_without_langchain_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_core.tools", None)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[langchain\]"'):
        Tool.from_langchain(len)
