"""An agent on the real small model: whatever it thinks, every call names a tool and has its types, and the outputs have theirs."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from homefire.engine.lm import LM
from homefire.modules.example import Example, Prediction
from homefire.modules.predict import Predict
from homefire.modules.react import ReAct
from homefire.modules.react_v2 import ReActV2
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import ToolCalls, with_tools
from homefire.modules.xml_format import XmlFormat

QUESTIONS = ["What is 17 divided by 2?", "How many days has a week?", "Is it warm in Oslo?"]
CITIES = ("Paris", "Oslo", "Rome")
City = Literal["Paris", "Oslo", "Rome"]


class Range(BaseModel):
    low: int
    high: int


class Calls:
    """Keeps what the tools were called with."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[tuple[str, dict[str, Any]]] = []

    def note(self, tool: str, **arguments: Any) -> None:
        with self.lock:
            self.made.append((tool, arguments))


def tools_of(calls: Calls) -> list[Tool]:
    def search(query: str, k: Annotated[int, Field(ge=1, le=3)] = 2) -> list[str]:
        """Finds passages about a query."""
        calls.note("search", query=query, k=k)
        return [f"Passage {number} about {query[:40]}" for number in range(k)]

    async def weather(city: City, days: Range) -> dict[str, Any]:
        """Says how warm it is in a city."""
        calls.note("weather", city=city, days=days)
        return {"city": city, "celsius": 12.5}

    def divide(number: float, by: int) -> float:
        """Divides a number."""
        calls.note("divide", number=number, by=by)
        return number / by

    return [Tool(search), Tool(weather), Tool(divide)]


def is_valid(tool: str, given: dict[str, Any]) -> bool:
    match tool:
        case "search":
            return isinstance(given["query"], str) and type(given["k"]) is int and 1 <= given["k"] <= 3
        case "weather":
            return given["city"] in CITIES and isinstance(given["days"], Range)
        case "divide":
            return type(given["number"]) is float and type(given["by"]) is int
    return False


class Ask(Signature):
    """Answer the question."""

    question: str = InputField()
    answer: str = OutputField()
    sure: bool = OutputField()
    rating: int = OutputField(ge=1, le=5)


def check(prediction: Prediction, most_steps: int) -> None:
    assert isinstance(prediction.answer, str) and isinstance(prediction.sure, bool)
    assert type(prediction.rating) is int and 1 <= prediction.rating <= 5
    steps = [name for name in prediction.trajectory if name.startswith("thought_")]
    assert 1 <= len(steps) <= most_steps
    names = [value for key, value in prediction.trajectory.items() if key.startswith("tool_name_")]
    assert names and set(names) <= {"search", "weather", "divide", "finish"}
    seen = [value for key, value in prediction.trajectory.items() if key.startswith("observation_")]
    assert not any("cannot be called so" in one for one in seen)


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> LM:
    return LM(str(smollm2), max_tokens=40, cache=False)


def test_an_agent_ends_with_typed_outputs_and_valid_calls(lm: LM) -> None:
    calls = Calls()
    agent = ReAct(Ask, tools=tools_of(calls), max_iters=2, calls_per_step=2)
    with context(lm=lm):
        predictions = agent.batch([Example(question=question).with_inputs("question") for question in QUESTIONS])
        predictions.append(asyncio.run(agent.acall(question=QUESTIONS[0], max_iters=1)))
    assert len(predictions) == len(QUESTIONS) + 1
    for prediction in predictions:
        check(prediction, 2)
    assert calls.made, "no tool was called at all"
    assert [one for one in calls.made if not is_valid(*one)] == []


def test_an_agent_that_submits_ends_with_typed_outputs_too(lm: LM) -> None:
    calls = Calls()
    agent = ReActV2(Ask, tools=tools_of(calls), max_iters=2, calls_per_step=2)
    with context(lm=lm):
        predictions = agent.batch([Example(question=question).with_inputs("question") for question in QUESTIONS])
        predictions.append(agent(question="Are you sure?", history=predictions[0].history, max_iters=1))
    for prediction in predictions:
        assert isinstance(prediction.answer, str) and isinstance(prediction.sure, bool)
        assert type(prediction.rating) is int and 1 <= prediction.rating <= 5
        assert prediction.termination_reason in ("submit", "forced_submit")
        made = [call for turn in prediction.history.messages for call in turn["tool_calls"].tool_calls]
        assert made and {call.name for call in made} <= {"search", "weather", "divide", "submit"}
    assert len(predictions[-1].history) > len(predictions[0].history)
    assert [one for one in calls.made if not is_valid(*one)] == []


def test_tool_calls_are_an_output_type_in_another_format(lm: LM) -> None:
    class Plan(Signature):
        """Call the tools that help to answer the question."""

        question: str = InputField()
        tools: list[Tool] = InputField()
        outputs: ToolCalls = OutputField()

    calls = Calls()
    given: dict[str, Any] = {"question": QUESTIONS[2], "tools": tools_of(calls)}
    with context(lm=lm, format=XmlFormat()):
        planned = Predict(with_tools(Plan, given))(**given).outputs
    assert isinstance(planned, ToolCalls)
    results = planned.execute()
    assert [one.name for one in results.tool_call_results] == [one.name for one in planned.tool_calls]
    assert [one for one in calls.made if not is_valid(*one)] == []
