"""ReAct: an agent that thinks, calls tools and reads what they say, until it can answer (Yao et al., arXiv 2210.03629).

Knows no engine. Each step is one typed call of a predictor, whose grammar lets a model name only the tools there are, with arguments of
their types; so no step is lost to a call that cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import GenericAlias
from typing import Annotated, Any

from annotated_types import Len

from homefire.errors import ParseError
from homefire.modules.agent_arguments import at_least_one, checked_signature, checked_tools
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.example import Prediction
from homefire.modules.given_inputs import named_inputs
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.react_run import FINISH, AgentRun
from homefire.modules.signature import Field, InputField, Signature, make_signature
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import Tools, aobserve_all, call_of, observe_all

RESERVED = ("trajectory", "next_thought", "next_tool_calls", "max_iters")
"""Names that the fields of a signature cannot have."""


class ReAct(Module):
    '''Answers a signature by calling tools, step by step.

    Each step the model writes a thought and one or several calls, which run at the same time; what they return, or why they failed, it
    reads in the next step. When it calls `finish`, or a budget is used up, the outputs are taken from what has been found.

    >>> def search(query: str) -> list[str]:
    ...     """Finds passages."""
    ...     return ["Homefire runs models locally."]
    >>> agent = ReAct("question -> answer", tools=[search])
    >>> list(agent.tools)
    ['search']

    The prediction has a field `trajectory`, a dictionary: `thought_0`, `tool_name_0`, `tool_args_0`, `observation_0`, `thought_1`, ... A
    step's second call is `tool_name_0_1`, `tool_args_0_1`, `observation_0_1`, the third ends in `_2`. A key `notice` is there where
    something has to be said: a budget that was used up, steps that did not fit the context.

    Args:
        signature: What goes in and what is to come out.
        tools: Functions or `Tool`s.
        max_iters: Most steps; `agent(..., max_iters=5)` is for one call.
        max_calls: Most calls of tools, over all steps.
        max_tokens: Most tokens that the steps may generate; the answer behind them is not counted.
        calls_per_step: Most calls in one step.
        tool_timeout: Most seconds of a call whose tool has no timeout of its own. With None there is no end, and the only call of a
            step runs on the thread of the agent, for tools that can be used from one thread only.

    Raises:
        InputError: no tools, two of one name, one called `finish`, or a budget below 1.
        SignatureError: a field has a name that is taken, or a tool an argument whose type no model can write.
    '''

    def __init__(
        self,
        signature: str | type[Signature],
        tools: Tools,
        max_iters: int = 20,
        *,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        calls_per_step: int = 4,
        tool_timeout: float | None = 120.0,
    ) -> None:
        self.signature = checked_signature(Signature(signature), "ReAct", RESERVED)
        self.tools = checked_tools(tools, "ReAct", FINISH)
        self.max_iters = at_least_one("max_iters", max_iters, "ReAct")
        self.max_calls = None if max_calls is None else at_least_one("max_calls", max_calls, "ReAct")
        self.max_tokens = None if max_tokens is None else at_least_one("max_tokens", max_tokens, "ReAct")
        self.tool_timeout = tool_timeout
        self.react = Predict(_step_signature(self.signature, self.tools, at_least_one("calls_per_step", calls_per_step, "ReAct")))
        found = InputField(desc="thoughts, calls of tools and what they returned")
        self.extract = ChainOfThought(self.signature.append("trajectory", found, str))

    def forward(self, *, max_iters: int | None = None, **inputs: Any) -> Prediction:
        """Answers for these inputs.

        Raises:
            InputError: an input is missing.
            ContextTooLong: the inputs alone do not fit the model's context.
        """
        run = self._begun(inputs, max_iters)
        while (config := run.next_config(self.react)) is not None:
            text = run.fitted(self.react)
            try:
                step = self.react(**run.inputs, trajectory=text, config=config)
            except ParseError as error:
                run.unreadable(error)
                break
            calls = run.begin(step)
            run.end(step, calls, observe_all(calls, self.tool_timeout))
        return run.answered(self.extract(**run.inputs, trajectory=run.fitted(self.extract.predict)))

    async def aforward(self, *, max_iters: int | None = None, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        run = self._begun(inputs, max_iters)
        while (config := run.next_config(self.react)) is not None:
            text = run.fitted(self.react)
            try:
                step = await self.react.acall(**run.inputs, trajectory=text, config=config)
            except ParseError as error:
                run.unreadable(error)
                break
            calls = run.begin(step)
            run.end(step, calls, await aobserve_all(calls, self.tool_timeout))
        return run.answered(await self.extract.acall(**run.inputs, trajectory=run.fitted(self.extract.predict)))

    def _input_names(self) -> Sequence[str]:
        return list(self.signature.input_fields)

    def _begun(self, inputs: Mapping[str, Any], max_iters: int | None) -> AgentRun:
        steps = self.max_iters if max_iters is None else at_least_one("max_iters", max_iters, "ReAct")
        given = named_inputs(self.signature, inputs, "agent")
        return AgentRun(inputs=given, tools=self.tools, max_iters=steps, max_calls=self.max_calls, max_tokens=self.max_tokens)


def _step_signature(signature: type[Signature], tools: Mapping[str, Tool], calls_per_step: int) -> type[Signature]:
    """What the model is asked in each step."""
    lines = [
        signature.instructions,
        "",
        f"You work in steps. In each one write a thought, then call tools; trajectory shows what earlier calls returned. "
        f"Call {FINISH} once you know {', '.join(signature.output_fields)}. The tools:",
        *(f"- {tool.line(types=False)}" for tool in (*tools.values(), _FINISH)),
    ]
    call = call_of([*tools.values(), _FINISH])
    calls: Any = Annotated[GenericAlias(list, (call,)), Len(1, calls_per_step)]
    fields = [
        *signature.input_fields.values(),
        Field("trajectory", str, "input"),
        Field("next_thought", str, "output", "one or two sentences"),
        Field("next_tool_calls", calls, "output"),
    ]
    return make_signature(fields, "\n".join(lines), name=signature.__name__)


def _done() -> str:
    return "Done."


_FINISH = Tool(_done, FINISH, "Ends the steps.")
