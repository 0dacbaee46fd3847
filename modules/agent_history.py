"""What an agent has done, as turns of a chat: the ones that users see, and the ones that the model reads.

Knows no model and makes no call.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from homefire.modules.history import History
from homefire.modules.signature import Signature
from homefire.modules.tool_calls import ToolCall, ToolCallResult, ToolCallResults, ToolCalls
from homefire.modules.tool_text import cut

Turn = dict[str, Any]
_SHORT = (1_000, 200, 50)
"""Characters of a result that are left of it, where the model's context has no room for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a model is told: turns of a history, and what is new."""

    turns: list[Turn]
    now: Turn

    @property
    def inputs(self) -> Turn:
        """Both as inputs of a predictor."""
        return {**self.now, "history": History(messages=self.turns)}


@dataclass(slots=True)
class AgentHistory:
    """The steps of an agent so far."""

    signature: type[Signature]
    """Of the agent."""
    steps: list[Turn] = field(default_factory=list)
    """As users see them: what was new of the inputs, `next_thought`, `tool_calls` with their results, and outputs where they were given."""

    def take(self, before: History) -> None:
        """Takes over earlier turns: those of an agent, also as JSON has them, or questions with their outputs."""
        for turn in before.messages:
            inputs = {name: value for name, value in turn.items() if name in self.signature.input_fields}
            outputs = {name: value for name, value in turn.items() if name in self.signature.output_fields}
            if "tool_calls" in turn:
                self.add(inputs, str(turn.get("next_thought", "")), _calls(turn["tool_calls"]), outputs)
            else:
                self.add(inputs, "", submission(outputs) if outputs else ToolCalls(tool_calls=[]), outputs)

    def add(self, inputs: Mapping[str, Any], thought: str, calls: ToolCalls, outputs: Mapping[str, Any] | None) -> None:
        """Appends a step."""
        self.steps.append({**inputs, "next_thought": thought, "tool_calls": calls, **(outputs or {})})

    def chat(self, inputs: Turn) -> Iterator[Told]:
        """The steps as turns of the agent, before its next step; and then less and less of them.

        Long results are cut off first, the oldest steps are left out then.
        """
        for most in (None, *_SHORT):
            yield self._told(inputs, most, 0)
        for dropped in range(1, len(self.steps)):
            yield self._told(inputs, _SHORT[-1], dropped)

    def ending(self, inputs: Turn) -> Iterator[Told]:
        """The steps as questions with all that was found and the outputs, before outputs have to be given; and then less of it."""
        for most in (None, *_SHORT):
            yield self._rounds(inputs, most)
        yield Told(turns=[], now=self._rounds(inputs, _SHORT[-1]).now)

    def _told(self, inputs: Turn, most: int | None, dropped: int) -> Told:
        turns: list[Turn] = []
        found = [_notice(dropped)] if dropped else []
        asked: Turn = {}
        for number, step in enumerate(self.steps):
            asked |= {name: step[name] for name in self.signature.input_fields if name in step}
            calls: ToolCalls = step["tool_calls"]
            if number >= dropped:
                said = {"next_thought": step["next_thought"], "tool_calls": {"tool_calls": [_plain(call) for call in calls.tool_calls]}}
                turns.append({**asked, **_results(found), **(said if calls.tool_calls else {})})
                found, asked = _found(calls, most), {}
        return Told(turns=turns, now={**asked, **inputs, **_results(found)})

    def _rounds(self, inputs: Turn, most: int | None) -> Told:
        turns: list[Turn] = []
        now: Turn = {}
        found: list[ToolCallResult] = []
        for step in self.steps:
            now |= {name: step[name] for name in self.signature.input_fields if name in step}
            found += [_with_arguments(one) for one in _found(step["tool_calls"], most) if one.name != "submit"]
            outputs = {name: step[name] for name in self.signature.output_fields if name in step}
            if outputs:
                turns.append({**now, **_results(found), **outputs})
                now, found = {}, []
        return Told(turns=turns, now={**now, **inputs, **_results(found)})


def submission(outputs: Mapping[str, Any]) -> ToolCalls:
    """The call that gives the outputs."""
    return ToolCalls(tool_calls=[ToolCall(name="submit", args=dict(outputs))])


def _calls(given: Any) -> ToolCalls:
    """Calls with their results, also as JSON has them."""
    if isinstance(given, ToolCalls):
        return given
    made = ToolCalls.model_validate(given)
    results = given.get("tool_call_results")
    if results is not None:
        made._results = ToolCallResults.model_validate(results if isinstance(results, Mapping) else {"tool_call_results": results})
    return made


def _plain(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "args": call.args}


def _results(found: list[ToolCallResult]) -> Turn:
    return {"tool_call_results": ToolCallResults(tool_call_results=found)} if found else {}


def _found(calls: ToolCalls, most: int | None) -> list[ToolCallResult]:
    """The results of calls, each cut off behind so many characters."""
    results = [] if calls.tool_call_results is None else calls.tool_call_results.tool_call_results
    return [one if most is None else one.model_copy(update={"text": cut(one.text, most)}) for one in results]


def _with_arguments(one: ToolCallResult) -> ToolCallResult:
    """A result that says itself what it is of, for where the call is not shown."""
    args = json.dumps(to_jsonable_python(one.args, fallback=str), ensure_ascii=False) if one.args else ""
    return one.model_copy(update={"name": f"{one.name}({args})"})


def _notice(steps: int) -> ToolCallResult:
    said = f"{'The first step is' if steps == 1 else f'The first {steps} steps are'} left out for lack of room."
    return ToolCallResult(name="notice", text=said)
