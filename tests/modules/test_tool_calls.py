"""ToolCalls: the grammar of calls of given tools, executing them, and their results as an input."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import Any

import pytest

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError, ParseError, SignatureError
from homefire.modules.json_format import JsonFormat
from homefire.modules.predict import Predict
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.tool import Tool
from homefire.modules.tool_calls import ToolCallResults, ToolCalls, calls_type, tools_by_name, with_tools
from homefire.modules.values import value_type


def weekday(day: datetime.date, short: bool = False) -> str:
    """Says which day of the week it is."""
    return day.strftime("%a" if short else "%A")


async def fail(reason: str) -> None:
    """Fails."""
    raise ValueError(reason)


class Plan(Signature):
    """Call tools."""

    question: str = InputField()
    tools: list[Tool] = InputField()
    outputs: ToolCalls = OutputField()


TOOLS = [Tool(weekday), Tool(fail)]


def test_the_calls_of_given_tools_have_their_types() -> None:
    kind = value_type(calls_type(TOOLS))
    calls = kind.load({"tool_calls": [{"name": "weekday", "args": {"day": "2024-02-29"}}, {"name": "fail", "args": {"reason": "x"}}]})
    assert isinstance(calls, ToolCalls)
    assert calls.tool_calls[0].args == {"day": datetime.date(2024, 2, 29)}
    assert kind.dump(calls) == {
        "tool_calls": [{"name": "weekday", "args": {"day": "2024-02-29"}}, {"name": "fail", "args": {"reason": "x"}}]
    }
    for wrong in (
        {"name": "weekday", "args": {"reason": "x"}},
        {"name": "other", "args": {}},
        {"name": "weekday", "args": {"day": "soon"}},
    ):
        with pytest.raises(ParseError):
            kind.load({"tool_calls": [wrong]})


def test_a_signature_gets_the_types_of_the_tools_among_its_inputs() -> None:
    inputs = {"question": "When?", "tools": TOOLS}
    bound = with_tools(Plan, inputs)
    assert bound is with_tools(Plan, inputs) and bound is not Plan
    assert "weekday" in JsonFormat().grammar(bound).gbnf and "weekday" not in JsonFormat().grammar(Plan).gbnf
    assert with_tools(Plan, {"question": "When?", "tools": []}) is Plan
    plain: Any = Signature("question -> answer")
    assert with_tools(plain, {"question": TOOLS}) is plain
    predict = Predict(bound)
    predict.lm = ScriptedLM(['{"outputs": {"tool_calls": [{"name": "weekday", "args": {"day": "2024-02-29", "short": true}}]}}'])
    results = predict(**inputs).outputs.execute()
    assert results.tool_call_results[0].value == "Thu" and not results.tool_call_results[0].is_error


def test_the_prompt_of_tools_says_what_they_are() -> None:
    user = JsonFormat().render(Plan, [], {"question": "When?", "tools": TOOLS})[-1].content
    assert "weekday(day: date (YYYY-MM-DD), short: true or false = False): Says which day of the week it is." in user


def test_calls_are_made_at_once_and_results_keep_their_order() -> None:
    together = threading.Barrier(3, timeout=60)

    def meet(place: int) -> int:
        together.wait()
        return place

    calls = ToolCalls.from_dict_list([{"name": "meet", "args": {"place": place}} for place in (3, 1, 2)])
    assert [one.value for one in calls.execute([meet]).tool_call_results] == [3, 1, 2]
    assert [one.value for one in asyncio.run(calls.aexecute({"meet": meet})).tool_call_results] == [3, 1, 2]


def test_calls_are_made_as_dspys_users_write_them() -> None:
    args = {"day": "2024-02-29", "short": True}
    calls = ToolCalls(tool_calls=[ToolCalls.ToolCall(name="weekday", args=args)])
    assert calls == ToolCalls.from_dict_list(tool_calls_dicts=[{"name": "weekday", "args": args}])
    assert calls.tool_calls[0].execute(functions={"weekday": weekday}) == calls.tool_calls[0].execute([weekday]) == "Thu"
    assert calls.execute(functions=[weekday]).tool_call_results[0].value == "Thu"


def test_a_call_that_fails_is_a_result() -> None:
    calls = ToolCalls.from_dict_list([{"name": "fail", "args": {"reason": "late"}}, {"name": "weekday", "args": {"day": "2024-03-01"}}])
    failed, whole = calls.execute(TOOLS).tool_call_results
    assert failed.is_error and failed.text == "Error: ValueError: late" and whole.value == "Friday"
    with pytest.raises(ValueError, match="late"):
        calls.tool_calls[0].execute(TOOLS)
    assert calls.tool_calls[1].execute(TOOLS) == "Friday"


def test_results_are_an_input_that_a_model_can_read() -> None:
    results = ToolCalls.from_dict_list([{"name": "weekday", "args": {"day": "2024-03-01"}}]).execute(TOOLS)
    signature: Any = Signature("results: ToolCallResults -> answer", custom_types={"ToolCallResults": ToolCallResults})
    assert "weekday: Friday" in JsonFormat().render(signature, [], {"results": results})[-1].content


def test_a_tool_that_is_not_there() -> None:
    calls = ToolCalls.from_dict_list([{"name": "other", "args": {}}])
    with pytest.raises(InputError, match=r"no tool 'other'; there are: weekday, fail"):
        calls.execute(TOOLS)
    with pytest.raises(InputError, match=r"calls\.execute\(\[\.\.\.\]\)"):
        calls.execute()


def test_tools_need_names_of_their_own_and_a_list_around_them() -> None:
    with pytest.raises(InputError, match=r"Two tools are called 'weekday'.*name='weekday_2'"):
        tools_by_name([weekday, Tool(weekday)])
    with pytest.raises(InputError, match=r"Write tools=\[\.\.\.\] around it"):
        tools_by_name(weekday)  # type: ignore[arg-type]


def test_an_argument_that_no_model_can_write_is_refused_for_grammars_only() -> None:
    def read(stream: threading.Event) -> None: ...

    tool = Tool(read)
    with pytest.raises(SignatureError, match=r"The tool read\.stream has the type"):
        calls_type([tool])


def test_predict_binds_the_tools_that_it_is_given() -> None:
    lm = ScriptedLM(['{"outputs": {"tool_calls": [{"name": "weekday", "args": {"day": "2024-02-29", "short": true}}]}}'])
    program = Predict(Plan)
    program.lm = lm
    calls = program(question="When?", tools=TOOLS).outputs
    assert calls.execute().tool_call_results[0].value == "Thu"
    grammar = lm.scripted.requests[0].grammar
    assert grammar is not None and "weekday" in grammar.gbnf and "fail" in grammar.gbnf
