"""Tools: what functions become, which arguments they take, and what becomes of calls that fail or hang."""

from __future__ import annotations

import asyncio
import functools
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from homefire.engine.callbacks import BaseCallback
from homefire.errors import CallTimeout, ConfigError, InputError
from homefire.modules.example import Prediction
from homefire.modules.settings import context
from homefire.modules.tool import Tool


class Point(BaseModel):
    x: int
    y: int = 0


@dataclass
class Size:
    width: float


def draw(point: Point, size: Size, colour: Literal["red", "blue"] = "red", *, label: str | None = None) -> str:
    """Draws a point."""
    return f"{type(point).__name__} {point.x},{point.y} {type(size).__name__} {size.width} {colour} {label}"


async def later(number: int) -> int:
    """Doubles a number."""
    await asyncio.sleep(0)
    return number * 2


def test_a_function_says_what_the_tool_is() -> None:
    tool = Tool(draw)
    assert (tool.name, tool.desc) == ("draw", "Draws a point.")
    assert tool.arg_types["colour"] == Literal["red", "blue"]
    assert tool.args["colour"] == {"enum": ["red", "blue"], "type": "string", "default": "red"}
    assert tool.args["point"]["required"] == ["x"]
    assert str(tool).startswith('draw(point: {"x": whole number, "y": whole number}, size: {"width": number}, colour: one of "red", "blue"')


def test_arguments_are_made_to_fit_their_types() -> None:
    said = Tool(draw)(point={"x": "3"}, size={"width": "1.5"}, label="a")
    assert said == "Point 3,0 Size 1.5 red a"
    assert Tool(draw)(point=Point(x=1), size=Size(2.0)) == "Point 1,0 Size 2.0 red None"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"point": {"x": "three"}, "size": {"width": 1}}, "point.x: input should be a valid integer"),
        ({"size": {"width": 1}}, "the argument 'point' is missing"),
        ({"point": {"x": 1}, "size": {"width": 1}, "colr": "red"}, "there is no argument 'colr'"),
        ({"point": {"x": 1}, "size": {"width": 1}, "colour": "green"}, "colour: input should be 'red' or 'blue', got 'green'"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_the_right_call(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        Tool(draw)(**given)
    assert said in str(raised.value) and "It takes draw(point: " in str(raised.value)
    assert Tool(draw).observe(given).text == f"Error: {raised.value}"


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, by: int = 1) -> int:
        """Counts on."""
        self.count += by
        return self.count

    def reset(self, to: int) -> None:
        """Begins again."""
        self.count = to


def test_methods_and_objects_that_can_be_called() -> None:
    counter = Counter()
    tool, reset = Tool(counter), Tool(counter.reset)
    assert (tool.name, tool.desc, reset.name, reset.desc) == ("Counter", "Counts on.", "reset", "Begins again.")
    assert tool(by="2") == 2 and reset(to=7) is None and tool() == 8


def test_a_bound_argument_is_not_the_models() -> None:
    def fetch(key: str, place: str, limit: int = 5) -> str:
        """Fetches."""
        return f"{key} {place} {limit}"

    tool = Tool(functools.partial(fetch, key="secret"))
    assert tool.name == "fetch" and list(tool.args) == ["place", "limit"] and "secret" not in str(tool)
    assert tool(place="here") == "secret here 5"
    with pytest.raises(InputError, match="no argument 'key'"):
        tool(place="here", key="other")


def test_positional_arguments_come_to_their_places() -> None:
    def power(base: int, /, exponent: int = 2, *rest: int, sign: int = 1) -> int:
        return sign * base**exponent

    assert Tool(power)(base="3", sign=-1) == -9


def test_asynchronous_functions_in_plain_and_asynchronous_code() -> None:
    tool = Tool(later)

    async def inside() -> tuple[int, int]:
        return await tool.acall(number=2), tool(number="3")

    assert tool(number=1) == 2
    assert asyncio.run(inside()) == (4, 6)


def test_plain_functions_do_not_stop_the_event_loop() -> None:
    release = threading.Event()
    tool = Tool(lambda: release.wait(30), "wait")

    async def both() -> bool:
        waiting = asyncio.create_task(tool.acall())
        await asyncio.sleep(0)
        release.set()
        return bool(await waiting)

    assert asyncio.run(both())


def test_a_hanging_tool_is_an_observation() -> None:
    never = threading.Event()

    async def hang() -> None:
        await asyncio.sleep(1000)

    for func in (lambda: never.wait(1000), hang):
        tool = Tool(func, "hang", timeout=0.05)
        seen = tool.observe({})
        assert isinstance(seen.error, CallTimeout) and "gave no result within 0.05 seconds" in seen.text
        with pytest.raises(CallTimeout, match=r"timeout=0\.1"):
            tool()
        assert isinstance(asyncio.run(tool.aobserve({})).error, CallTimeout)
    never.set()


def test_a_timeout_that_a_tool_raises_is_its_own() -> None:
    def slow() -> None:
        raise TimeoutError("the disk")

    assert Tool(slow, timeout=30).observe({}).text == "Error: TimeoutError: the disk"
    assert asyncio.run(Tool(slow, timeout=30).aobserve({})).text == "Error: TimeoutError: the disk"


def test_a_tool_sees_the_settings_of_its_caller() -> None:
    seen: list[str] = []

    class Noting(BaseCallback):
        def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            seen.append(f"{instance.name} {dict(inputs)}")

        def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            seen.append(f"{outputs} {type(exception).__name__}")

    inner = Tool(lambda: 1 / 0, "inner")
    outer = Tool(lambda: inner.observe({}).text, "outer", timeout=30)
    with context(callbacks=[Noting()]):
        outer()
    assert seen == ["outer {}", "inner {}", "None ZeroDivisionError", "Error: ZeroDivisionError: division by zero NoneType"]


def test_results_are_told_as_text_within_limits() -> None:
    def text_of(value: Any, **options: Any) -> str:
        return Tool(lambda: value, "value", **options).observe({}).text

    assert text_of("plain") == "plain"
    assert text_of(["a", "b"]) == "[1] a\n[2] b"
    assert text_of({"a": [1, None]}) == '{"a": [1, null]}'
    assert text_of(None) == "(nothing)" and text_of("") == "(empty)"
    assert text_of(Point(x=1)) == '{"x": 1, "y": 0}'
    assert text_of(Prediction(answer="yes")) == '{"answer": "yes"}'
    assert text_of("x" * 30, max_output_chars=10) == "x" * 10 + " [cut off: 30 characters in all, the first 10 are shown]"


def test_a_long_error_is_cut_off_too() -> None:
    def fail() -> None:
        raise ValueError("y" * 5000)

    assert len(Tool(fail).observe({}).text) < 1200


def test_schemas_instead_of_annotations() -> None:
    tool = Tool(
        lambda **given: given,
        name="find",
        desc="Finds.",
        args={"query": {"type": "string", "description": "what to find"}, "k": {"type": "integer", "default": 3}},
        arg_desc={"k": "how many"},
    )
    assert tool.arg_types == {"query": str, "k": int} and tool.arg_desc == {"query": "what to find", "k": "how many"}
    assert tool(query="a", k="4") == {"query": "a", "k": 4} and tool(query="a") == {"query": "a"}
    assert str(tool) == "find(query: text, k: whole number = 3): Finds. (query is what to find; k is how many)"


def test_types_that_are_given_go_before_those_of_the_function() -> None:
    def find(query: str, k: int = 1) -> str:
        return f"{query} {k}"

    tool = Tool(find, arg_types={"k": Annotated[int, Field(le=3)], "query": NotRequired[str]}, arg_desc={"query": "words"})
    assert tool.arg_desc == {"query": "words"}
    with pytest.raises(InputError, match="less than or equal to 3"):
        tool(query="a", k=4)


def test_descriptions_in_annotations() -> None:
    def find(query: Annotated[str, Field(description="words")], k: Annotated[int, "how many"] = 1) -> None: ...

    assert Tool(find).arg_desc == {"query": "words", "k": "how many"}


def test_a_parameter_without_a_type_is_warned_of_with_the_right_definition() -> None:
    def find(query, k=3):  # type: ignore[no-untyped-def]
        return query, k

    with pytest.warns(UserWarning, match=r"The tool find has no type for query.*def find\(query: str, k=3\)"):
        tool = Tool(find)
    assert tool(query={"any": [1]}, k="2") == ({"any": [1]}, 2)


def test_types_that_are_local_to_the_caller_are_found() -> None:
    class Local(BaseModel):
        name: str

    def greet(who: Local) -> str:
        return who.name

    assert Tool(greet)(who={"name": "Ada"}) == "Ada"


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: Tool(draw(Point(x=1), Size(1))), InputError, "cannot be called. Write Tool(my_function)"),  # type: ignore[arg-type]
        (lambda: Tool(lambda: 1), InputError, "cannot be called '<lambda>'"),
        (lambda: Tool(draw, name="two words"), InputError, "Tool(func, name='search')"),
        (lambda: Tool(draw, timeout=0), ConfigError, "timeout is 0"),
        (lambda: Tool(draw, max_output_chars=0), ConfigError, "max_output_chars is 0"),
        (lambda: Tool(draw, arg_desc={"colr": "x"}), InputError, "arg_desc names 'colr', but draw takes point, size, colour, label"),
        (lambda: Tool(draw, arg_types={"colr": str}), InputError, "arg_types names 'colr'"),
    ],
)
def test_what_is_no_tool_is_refused_with_the_right_call(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        make()
    assert said in str(raised.value)


def test_a_tool_is_a_value_for_pydantic_and_shared_by_copies() -> None:
    import copy

    tool = Tool(draw)
    assert TypeAdapter(list[Tool]).validate_python([tool]) == [tool]
    assert copy.deepcopy({"tools": [tool]})["tools"][0] is tool


def test_a_tool_can_be_pickled_with_its_function() -> None:
    import pickle

    tool = Tool(draw)
    tool(point={"x": 1}, size={"width": 1})
    assert pickle.loads(pickle.dumps(tool))(point={"x": "3"}, size={"width": 2}) == "Point 3,0 Size 2.0 red None"


def test_a_tool_does_not_end_the_program() -> None:
    def leave() -> None:
        raise SystemExit(3)

    async def leave_later() -> None:
        raise SystemExit(3)

    for tool in (Tool(leave), Tool(leave, timeout=30), Tool(leave_later, name="leave")):
        assert tool.observe({}).text == "Error: RuntimeError: leave wanted to end the program with 3"
        assert asyncio.run(tool.aobserve({})).text == "Error: RuntimeError: leave wanted to end the program with 3"
    assert Tool(later)(number=1) == 2
