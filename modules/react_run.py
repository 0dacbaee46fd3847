"""One answer of an agent on its way: the steps so far, the trajectory that users see, and what is left of the budgets.

Knows no model and makes no call; ReAct asks it what comes next and tells it what happened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_jsonable_python

from homefire.errors import ParseError
from homefire.modules.example import Prediction
from homefire.modules.module import Predictor
from homefire.modules.react_context import Step, fitting_text
from homefire.modules.tool import Observation, Tool
from homefire.modules.tool_calls import ToolCall

FINISH = "finish"
"""Name of the call that ends the steps."""
_DONE = Observation(text="Done.")


@dataclass(slots=True, kw_only=True)
class AgentRun:
    """What an agent has done for one call."""

    inputs: Mapping[str, Any]
    tools: Mapping[str, Tool]
    max_iters: int
    max_calls: int | None
    max_tokens: int | None
    steps: list[Step] = field(default_factory=list)
    trajectory: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    """What the model is told behind the steps."""
    finished: bool = False
    calls: int = 0
    """Calls of tools so far."""
    tokens: int = 0
    """Tokens that the steps have generated."""
    first_made: dict[str, int] = field(default_factory=dict)
    """In which step each call was first made."""

    def next_config(self, predictor: Predictor) -> dict[str, Any] | None:
        """Sampling of the next step; None when there is none, which is said unless the model has finished."""
        if self.finished:
            return None
        if len(self.steps) >= self.max_iters:
            self._end(f"The limit of {self.max_iters} steps was reached")
            return None
        if self.max_calls is not None and self.calls >= self.max_calls:
            self._end(f"The limit of {self.max_calls} tool calls was reached")
            return None
        if self.max_tokens is None:
            return {}
        if self.tokens >= self.max_tokens:
            self._end(f"The limit of {self.max_tokens} generated tokens was reached")
            return None
        own = predictor.config.get("max_tokens") or predictor.language_model().sampling().max_tokens
        return {"max_tokens": min(own, self.max_tokens - self.tokens)}

    def fitted(self, predictor: Predictor) -> str:
        """The steps as text that fits the model's context."""
        text, left_out = fitting_text(predictor, self.inputs, self.steps, self.notices)
        if left_out:
            self._say("The steps did not all fit the context; older observations were shortened or left out")
        return text

    def begin(self, step: Prediction) -> list[tuple[Tool, ToolCall]]:
        """The calls of a step that are to be made, as many as the budget allows."""
        self.tokens += step.info.completion_tokens
        wanted = [call for call in step.next_tool_calls if call.name != FINISH]
        self.finished = len(wanted) < len(step.next_tool_calls)
        if self.max_calls is not None and len(wanted) > self.max_calls - self.calls:
            left = self.max_calls - self.calls
            self._say(f"{len(wanted) - left} of the calls of step {len(self.steps)} were not made, for the limit is {self.max_calls}")
            wanted = wanted[:left]
        self.calls += len(wanted)
        return [(self.tools[call.name], call) for call in wanted]

    def end(self, step: Prediction, calls: Sequence[tuple[Tool, ToolCall]], seen: Sequence[Observation]) -> None:
        """Keeps a step and what its calls returned."""
        index = len(self.steps)
        made = [(tool.name, to_jsonable_python(call.args, fallback=str), one) for (tool, call), one in zip(calls, seen, strict=True)]
        made += [(FINISH, {}, _DONE)] if self.finished else []
        self.trajectory[f"thought_{index}"] = step.next_thought
        written, texts = [], []
        for place, (name, args, one) in enumerate(made):
            suffix = f"{index}" if place == 0 else f"{index}_{place}"
            written.append(f"{name}({json.dumps(args, ensure_ascii=False)})" if args else f"{name}()")
            texts.append(self._noticed(index, written[-1], one.text))
            self.trajectory |= {f"tool_name_{suffix}": name, f"tool_args_{suffix}": args, f"observation_{suffix}": texts[-1]}
        self.steps.append(Step(index=index, thought=step.next_thought, calls=tuple(written), observations=tuple(texts)))

    def unreadable(self, error: ParseError) -> None:
        """Ends the steps after an answer that is none, which only models without grammars or with unusual constraints give."""
        self.finished = True
        self._say(f"Step {len(self.steps)} could not be used: {str(error)[:300]}")

    def answered(self, prediction: Prediction) -> Prediction:
        """The answer with its trajectory."""
        return prediction.copy(trajectory=self.trajectory)

    def _noticed(self, index: int, call: str, observation: str) -> str:
        """The observation, with a word about a call that was made before."""
        first = self.first_made.setdefault(call, index)
        if first == index or call == f"{FINISH}()":
            return observation
        return f"{observation} (The same call was made in step {first}; try another one, or {FINISH}.)"

    def _end(self, notice: str) -> None:
        self.finished = True
        self.notices.append(f"{notice}.")
        self._say(notice)

    def _say(self, notice: str) -> None:
        """Puts a notice into the trajectory, once."""
        said = self.trajectory.get("notice", "")
        if notice not in said:
            self.trajectory["notice"] = f"{said} {notice}.".strip()
