"""What agents are given: a signature, tools and numbers, each checked with an error that shows the right call.

Knows no particular agent.
"""

from __future__ import annotations

from collections.abc import Collection

from homefire.errors import InputError, SignatureError
from homefire.modules.signature import Signature
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import Tools, tools_by_name


def checked_signature(signature: type[Signature], agent: str, reserved: Collection[str]) -> type[Signature]:
    """The signature, none of whose fields has a name that the agent uses itself.

    Raises:
        SignatureError: one has.
    """
    if taken := [name for name in reserved if name in signature.fields]:
        raise SignatureError(
            f"A signature for {agent} cannot have a field {taken[0]!r}, which the agent uses itself. Give it another name, "
            f"such as {taken[0] + '_given'!r}."
        )
    return signature


def checked_tools(tools: Tools, agent: str, ending: str) -> dict[str, Tool]:
    """The tools by name.

    Raises:
        InputError: there are none, two of one name, or one called like the call that ends the agent's steps.
    """
    found = tools_by_name(tools)
    if not found:
        raise InputError(
            f"{agent} got no tools. Give it some: {agent}(signature, tools=[my_function]); without any, ChainOfThought(signature) "
            "does the same."
        )
    if ending in found:
        raise InputError(
            f"A tool cannot be called {ending!r}, which is the call that ends the agent's steps. Give it another name: "
            f"Tool({ending}, name='{ending}_task')."
        )
    return found


def at_least_one(name: str, value: int, agent: str) -> int:
    """The number.

    Raises:
        InputError: it is none above 0.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number above 0, as in {agent}(signature, tools=tools, {name}=10).")
    return value
