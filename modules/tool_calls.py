"""Calls of tools as an output type: which tools to call with which arguments, what came out, and the types of calls of given tools.

Knows no model. The type that `calls_type` makes of tools has a grammar, so that a model can only name those tools, with their arguments.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from types import GenericAlias
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SerializerFunctionWrapHandler, create_model, model_serializer
from pydantic_core import to_jsonable_python

from homefire.errors import InputError
from homefire.modules.custom_type import Type
from homefire.modules.parallel import run_in_threads
from homefire.modules.shape_reader import shapes_of
from homefire.modules.signature import Signature
from homefire.modules.tool import Observation, Tool, as_tool
from homefire.modules.tool_arguments import arguments_type
from homefire.modules.tool_schema import AnyJson

Tools = Sequence[Tool | Callable[..., Any]] | Mapping[str, Tool | Callable[..., Any]]
"""Tools or functions, in a list or by name."""
MOST_AT_ONCE = 16
"""Threads that run the calls of one answer."""


class ToolCall(BaseModel):
    """One call that a model wants."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tool: ClassVar[Tool | None] = None
    """The tool that is called, where the call was made for given tools."""

    name: str
    args: dict[str, AnyJson] = Field(default_factory=dict)

    def execute(self, functions: Tools | None = None, *, timeout: float | None = None) -> Any:
        """What the tool returns.

        Args:
            functions: Tools among which it is found; None for a call that was made for given tools.
            timeout: Most seconds where the tool has no timeout of its own.

        Raises:
            InputError: no such tool, or arguments that do not fit.
            Exception: what the tool raises.
        """
        seen = self.found(functions).observe(self.args, timeout=timeout)
        if seen.error is not None:
            raise seen.error
        return seen.value

    def found(self, tools: Tools | None) -> Tool:
        """The tool that is called.

        Raises:
            InputError: it is not among the tools.
        """
        if tools is None:
            if self.tool is None:
                raise InputError(f"It is not known what {self.name!r} is. Say which tools there are: calls.execute([...]).")
            return self.tool
        known = tools_by_name(tools)
        if self.name not in known:
            raise InputError(f"There is no tool {self.name!r}; there are: {', '.join(known) or 'none'}.")
        return known[self.name]


_Call: TypeAlias = ToolCall


class ToolCallResult(BaseModel):
    """What became of one call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    args: dict[str, Any] = Field(default_factory=dict)
    value: Any = None
    text: str = ""
    """The result, or what went wrong, as a model reads it."""
    is_error: bool = False


class ToolCallResults(Type):
    """What became of the calls of an answer, in their order. As an input of a signature it is shown to the model."""

    tool_call_results: list[ToolCallResult] = Field(default_factory=list)

    def format(self) -> str:
        """Each call with its result, on a line of its own."""
        return "\n".join(f"{one.name}: {one.text or one.value}" for one in self.tool_call_results)


class ToolCalls(BaseModel):
    """Which tools to call, as the type of an output: `outputs: ToolCalls`, beside an input `tools: list[Tool]`.

    >>> calls = ToolCalls.from_dict_list([{"name": "upper", "args": {"text": "abc"}}])
    >>> def upper(text: str) -> str: return text.upper()
    >>> calls.execute([upper]).tool_call_results[0].value
    'ABC'
    """

    ToolCall: ClassVar[type[_Call]] = ToolCall

    tool_calls: list[_Call]
    _results: ToolCallResults | None = PrivateAttr(None)

    @property
    def tool_call_results(self) -> ToolCallResults | None:
        """What became of the calls, once they were made."""
        return self._results

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = handler(self)
        if self._results is not None:
            written["tool_call_results"] = to_jsonable_python(self._results.tool_call_results, fallback=str)
        return written

    @classmethod
    def from_dict_list(cls, tool_calls_dicts: Sequence[Mapping[str, Any]]) -> Self:
        """Calls of dictionaries with the keys `name` and `args`."""
        return cls.model_validate({"tool_calls": [dict(call) for call in tool_calls_dicts]})

    def execute(self, functions: Tools | None = None, *, timeout: float | None = None) -> ToolCallResults:
        """Makes all calls at once; one that fails is a result that says so.

        Args:
            functions: Tools among which they are found; None for calls that were made for given tools.
            timeout: Most seconds of a call whose tool has no timeout of its own.

        Raises:
            InputError: a call names none of the tools.
        """
        found = [(call.found(functions), call) for call in self.tool_calls]
        return self.keep(observe_all(found, timeout))

    async def aexecute(self, functions: Tools | None = None, *, timeout: float | None = None) -> ToolCallResults:
        """As `execute`, awaited."""
        found = [(call.found(functions), call) for call in self.tool_calls]
        return self.keep(await aobserve_all(found, timeout))

    def keep(self, seen: Iterable[Observation]) -> ToolCallResults:
        """Keeps what became of the calls, in their order."""
        self._results = ToolCallResults(
            tool_call_results=[
                ToolCallResult(name=call.name, args=call.args, value=one.value, text=one.text, is_error=one.error is not None)
                for call, one in zip(self.tool_calls, seen, strict=True)
            ]
        )
        return self._results


def observe_all(calls: Sequence[tuple[Tool, ToolCall]], timeout: float | None) -> list[Observation]:
    """Makes all calls at once, on threads; the observations come in the order of the calls."""
    if len(calls) == 1:
        return [calls[0][0].observe(calls[0][1].args, timeout=timeout)]
    return run_in_threads([partial(tool.observe, call.args, timeout=timeout) for tool, call in calls], MOST_AT_ONCE)


async def aobserve_all(calls: Sequence[tuple[Tool, ToolCall]], timeout: float | None) -> list[Observation]:
    """As `observe_all`, awaited."""
    return list(await asyncio.gather(*(tool.aobserve(call.args, timeout=timeout) for tool, call in calls)))


def tools_by_name(tools: Tools) -> dict[str, Tool]:
    """The tools under their names.

    Raises:
        InputError: two have one name, or one is no function.
    """
    if isinstance(tools, Mapping):
        return {name: tool if isinstance(tool, Tool) else Tool(tool, name=name) for name, tool in tools.items()}
    if isinstance(tools, Tool) or callable(tools) or not isinstance(tools, Iterable):
        raise InputError(f"tools is {tools!r}; expected a list. Write tools=[...] around it.")
    found: dict[str, Tool] = {}
    for tool in map(as_tool, tools):
        if tool.name in found:
            raise InputError(f"Two tools are called {tool.name!r}. Give one of them another name: Tool({tool.name}, name='{tool.name}_2').")
        found[tool.name] = tool
    return found


def call_type(tool: Tool) -> type[ToolCall]:
    """The type of the calls of one tool.

    Raises:
        SignatureError: an argument has a type that a model cannot write.
    """
    for argument in tool.arguments:
        shapes_of(arguments_type(tool.name, [argument], writable=True), f"The tool {tool.name}")
    args = arguments_type(tool.name, tool.arguments, writable=True)
    fields: dict[str, Any] = {"name": (Literal[tool.name], ...), "args": (args, ...)}
    made = create_model(f"Call_{tool.name}", __base__=ToolCall, **fields)
    made.tool = tool
    return made


def call_of(tools: Sequence[Tool]) -> Any:
    """The type of a call of any of these tools; which one is told by the name.

    Raises:
        SignatureError: as of `call_type`.
    """
    types: list[Any] = [call_type(tool) for tool in tools]
    return Annotated[reduce(or_, types), Field(discriminator="name")] if len(types) > 1 else types[0]


def calls_type(tools: Sequence[Tool], most: int | None = None) -> type[ToolCalls]:
    """`ToolCalls` that can only be of these tools.

    Args:
        tools: The tools.
        most: Calls that there can be at most, of which at least one; None is any number.

    Raises:
        SignatureError: as of `call_type`.
    """
    calls: Any = GenericAlias(list, (call_of(tools),))
    fields: dict[str, Any] = {"tool_calls": (calls if most is None else Annotated[calls, Len(1, most)], ...)}
    return create_model("ToolCalls", __base__=ToolCalls, **fields)


def with_tools(signature: type[Signature], inputs: Mapping[str, Any]) -> type[Signature]:
    """The signature whose outputs of the type `ToolCalls` are calls of the tools among the inputs; one without such outputs as it is."""
    outputs = _outputs.get(signature)
    if outputs is None:
        outputs = _outputs[signature] = tuple(name for name, field in signature.output_fields.items() if field.type is ToolCalls)
    if not outputs:
        return signature
    tools = [tool for name, value in inputs.items() if name in signature.input_fields for tool in _tools_in(value)]
    if not tools:
        return signature
    known = _bound.setdefault(signature, {})
    key = tuple(map(id, tools))
    if key not in known:
        while len(known) >= _MOST_BOUND:
            known.pop(next(iter(known)))
        kind = calls_type(list(tools_by_name(tools).values()))
        changed = signature
        for name in outputs:
            changed = changed.with_updated_fields(name, kind)
        known[key] = changed
    return known[key]


def _tools_in(value: Any) -> Iterator[Tool]:
    match value:
        case Tool():
            yield value
        case list() | tuple():
            yield from (one for one in value if isinstance(one, Tool))


_MOST_BOUND = 64
_outputs: weakref.WeakKeyDictionary[type[Signature], tuple[str, ...]] = weakref.WeakKeyDictionary()
_bound: weakref.WeakKeyDictionary[type[Signature], dict[tuple[int, ...], type[Signature]]] = weakref.WeakKeyDictionary()
