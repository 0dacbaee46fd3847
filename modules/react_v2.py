"""ReActV2: an agent whose steps are turns of a chat, and whose last call gives the outputs (after Yao et al., arXiv 2210.03629).

Knows no engine. The chat only grows at its end, so an engine that caches prompts computes each step once; and no call is needed to take
the outputs from what was found. `ReAct` shows all steps as one text instead, which a small model keeps track of better.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homefire.errors import ContextTooLong, InputError, ParseError
from homefire.modules.agent_arguments import at_least_one, checked_signature, checked_tools
from homefire.modules.agent_history import AgentHistory, Told, submission
from homefire.modules.example import Prediction
from homefire.modules.given_inputs import named_inputs
from homefire.modules.history import History
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import OMITTED, Field, Signature, make_signature
from homefire.modules.tool import Observation, Tool
from homefire.modules.tool_calls import ToolCall, ToolCallResults, Tools, aobserve_all, calls_type, observe_all

SUBMIT = "submit"
"""Name of the call that gives the outputs."""
RESERVED = ("history", "tools", "tool_call_results", "next_thought", "tool_calls", "termination_reason", "max_iters")
"""Names that the fields of a signature cannot have."""
Calls = list[tuple[Tool, ToolCall]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """Inputs and options of a step."""

    given: Mapping[str, Any]


_Steps = Generator[_Asked | Calls, Any, Prediction]
"""Is sent the Prediction of a step and the observations of calls; ContextTooLong and ParseError are thrown into it."""


class ReActV2(Module):
    '''Answers a signature by calling tools, step by step, until it submits the outputs.

    >>> def search(query: str) -> list[str]:
    ...     """Finds passages."""
    ...     return ["Homefire runs models locally."]
    >>> agent = ReActV2("question -> answer", tools=[search])
    >>> list(agent.tools)
    ['search', 'submit']

    The prediction has the outputs, `history`, a `History` of all steps, and `termination_reason`: `submit`, or `forced_submit` where the
    steps ran out, or one could not be read, and the outputs were asked for from what had been found. A turn of the history has what is
    new of the inputs, `next_thought` and `tool_calls`, whose `tool_call_results` are what became of them; the last one has the outputs
    too. To go on talking, give it to the next call: `agent(question="And now?", history=prediction.history)`.

    Args:
        signature: What goes in and what is to come out.
        tools: Functions or `Tool`s.
        max_iters: Most steps before the outputs have to be given; `agent(..., max_iters=5)` is for one call.
        calls_per_step: Most calls in one step; they run at the same time.
        tool_timeout: Most seconds of a call whose tool has no timeout of its own; None is without end.

    Raises:
        InputError: no tools, two of one name, one called `submit`, or a number below 1.
        SignatureError: a field has a name that is taken, or a type that no model can write.
    '''

    def __init__(
        self,
        signature: str | type[Signature],
        tools: Tools,
        max_iters: int = 20,
        *,
        calls_per_step: int = 4,
        tool_timeout: float | None = 120.0,
    ) -> None:
        self.signature = checked_signature(Signature(signature), "ReActV2", RESERVED)
        given = checked_tools(tools, "ReActV2", SUBMIT)
        self.tools = {**given, SUBMIT: _submit(self.signature)}
        self.max_iters = at_least_one("max_iters", max_iters, "ReActV2")
        self.calls_per_step = at_least_one("calls_per_step", calls_per_step, "ReActV2")
        self.tool_timeout = tool_timeout
        self.react = Predict(_step_signature(self.signature, self.tools, self.calls_per_step))

    def forward(self, *, max_iters: int | None = None, history: Any = None, **inputs: Any) -> Prediction:
        """Answers for these inputs.

        Raises:
            InputError: an input is missing, or the history is none.
            ContextTooLong: the inputs alone do not fit the model's context.
        """
        run = self._begun(inputs, history, max_iters)
        step = next(run)
        while True:
            answer: Any
            try:
                answer = self.react(**step.given) if isinstance(step, _Asked) else observe_all(step, self.tool_timeout)
            except (ContextTooLong, ParseError) as error:
                answer = error
            try:
                step = run.throw(answer) if isinstance(answer, Exception) else run.send(answer)
            except StopIteration as ended:
                return _prediction(ended)

    async def aforward(self, *, max_iters: int | None = None, history: Any = None, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        run = self._begun(inputs, history, max_iters)
        step = next(run)
        while True:
            answer: Any
            try:
                answer = await (self.react.acall(**step.given) if isinstance(step, _Asked) else aobserve_all(step, self.tool_timeout))
            except (ContextTooLong, ParseError) as error:
                answer = error
            try:
                step = run.throw(answer) if isinstance(answer, Exception) else run.send(answer)
            except StopIteration as ended:
                return _prediction(ended)

    def _input_names(self) -> Sequence[str]:
        return list(self.signature.input_fields)

    def _begun(self, inputs: Mapping[str, Any], history: Any, max_iters: int | None) -> _Steps:
        steps = self.max_iters if max_iters is None else at_least_one("max_iters", max_iters, "ReActV2")
        before = AgentHistory(self.signature)
        before.take(_history(history))
        return self._steps(before, named_inputs(self.signature, inputs, "agent"), steps)

    def _steps(self, history: AgentHistory, inputs: dict[str, Any], most: int) -> _Steps:
        for _ in range(most):
            try:
                step: Prediction = yield from _asked(history.chat(inputs), {})
            except ParseError:
                break
            found = [(self.tools[call.name], call) for call in step.tool_calls.tool_calls]
            seen: list[Observation] = yield [one for one in found if one[1].name != SUBMIT]
            outputs = next((tool(**call.args) for tool, call in found if call.name == SUBMIT), None)
            step.tool_calls.keep(_in_order(found, seen))
            history.add(inputs, step.next_thought, step.tool_calls, outputs)
            inputs = {}
            if outputs is not None:
                return _answered(history, outputs, SUBMIT)
        ending = {"signature": _ending_signature(self.signature), "demos": []}
        answer: Prediction = yield from _asked(history.ending(inputs), ending)
        outputs = {name: answer[name] for name in self.signature.output_fields}
        history.add(inputs, "", submission(outputs), outputs)
        return _answered(history, outputs, f"forced_{SUBMIT}")


def _asked(ways: Iterator[Told], options: Mapping[str, Any]) -> Generator[_Asked, Any, Prediction]:
    """A step, which is told less where the prompt does not fit."""
    told = next(ways)
    while True:
        try:
            step: Prediction = yield _Asked({**told.inputs, **options})
            return step
        except ContextTooLong:
            less = next(ways, None)
            if less is None:
                raise
            told = less


def _answered(history: AgentHistory, outputs: Mapping[str, Any], reason: str) -> Prediction:
    return Prediction(outputs, history=History(messages=history.steps), termination_reason=reason)


def _step_signature(signature: type[Signature], tools: Mapping[str, Tool], calls_per_step: int) -> type[Signature]:
    """What the model is asked in each step."""
    lines = [
        signature.instructions,
        "",
        f"You work in steps. In each one write a thought, then call tools; you are told what they return. Call {SUBMIT} with "
        f"{', '.join(signature.output_fields)} once you know. The tools:",
        *(f"- {tool.line(types=False)}" for tool in tools.values()),
    ]
    fields = [
        *(replace(field, default=OMITTED) for field in signature.input_fields.values()),
        Field("history", History, "input", default=OMITTED),
        Field("tool_call_results", ToolCallResults, "input", default=OMITTED),
        Field("next_thought", str, "output", "one or two sentences"),
        Field("tool_calls", calls_type(list(tools.values()), calls_per_step), "output"),
    ]
    return make_signature(fields, "\n".join(lines), name=signature.__name__)


def _ending_signature(signature: type[Signature]) -> type[Signature]:
    """What the model is asked when the steps have run out: the outputs, from all that was found."""
    fields = [
        *(replace(field, default=OMITTED) for field in signature.input_fields.values()),
        Field("history", History, "input", default=OMITTED),
        Field("tool_call_results", ToolCallResults, "input", default=OMITTED),
        *signature.output_fields.values(),
    ]
    return make_signature(fields, signature.instructions, name=signature.__name__)


def _submit(signature: type[Signature]) -> Tool:
    """The tool that takes the outputs."""

    def submit(**outputs: Any) -> dict[str, Any]:
        return outputs

    fields = signature.output_fields
    types = {name: field.type for name, field in fields.items()}
    said = {name: field.description for name, field in fields.items() if field.description}
    return Tool(submit, SUBMIT, "Ends the steps.", {name: {} for name in fields}, types, said)


def _history(given: Any) -> History:
    if given is None or isinstance(given, History):
        return given or History()
    try:
        return History.model_validate(given)
    except ValueError:
        raise InputError(f"history is {given!r:.80}; expected one, as in agent(..., history=prediction.history).") from None


def _in_order(calls: Calls, seen: list[Observation]) -> list[Observation]:
    """An observation for every call; that of the outputs says that they were taken."""
    left = iter(seen)
    return [Observation(text="Taken.", value=call.args) if call.name == SUBMIT else next(left) for _, call in calls]


def _prediction(ended: StopIteration) -> Prediction:
    prediction: Prediction = ended.value
    return prediction
