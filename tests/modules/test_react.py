"""ReAct on a script: steps, several calls at once, failures as observations, budgets, repetition, trimming, bad input."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ContextTooLong, InputError, SignatureError
from homefire.modules.example import Example, Prediction
from homefire.modules.react import ReAct
from homefire.modules.settings import context
from homefire.modules.signature import Signature
from homefire.modules.tool import Tool
from homefire.modules.trace import record

Call = tuple[str, dict[str, Any]]
Run = Callable[..., Prediction]
ANSWER = '{"reasoning": "so", "answer": 7}'
END: Call = ("finish", {})


def search(query: str, k: int = 2) -> list[str]:
    """Finds passages."""
    return [f"{query} {number}" for number in range(k)]


async def add(a: float, b: float) -> float:
    """Adds."""
    return a + b


def broken() -> str:
    """Breaks."""
    raise ValueError("nothing works")


TOOLS = [search, add, broken]


def step(thought: str, *calls: Call) -> str:
    return json.dumps({"next_thought": thought, "next_tool_calls": [{"name": name, "args": args} for name, args in calls]})


def plain(agent: ReAct, **inputs: Any) -> Prediction:
    return agent(**inputs)


def awaited(agent: ReAct, **inputs: Any) -> Prediction:
    return asyncio.run(agent.acall(**inputs))


@pytest.fixture(params=[plain, awaited])
def run(request: pytest.FixtureRequest) -> Run:
    made: Run = request.param
    return made


def agent_of(script: Any, *, lm_context: int = 100_000, **options: Any) -> tuple[ReAct, ScriptedLM]:
    agent = ReAct("question -> answer: int", **{"tools": TOOLS, **options})
    lm = ScriptedLM(script, context=lm_context)
    agent.set_lm(lm)
    return agent, lm


def prompts(lm: ScriptedLM) -> list[str]:
    return [request.messages[-1].content for request in lm.scripted.requests]


def test_steps_end_with_typed_outputs_and_a_trajectory(run: Run) -> None:
    script = [step("look", ("search", {"query": "x"})), step("sum", ("add", {"a": 1, "b": 2.5})), step("done", END), ANSWER]
    agent, lm = agent_of(script)
    found = run(agent, question="q?")
    assert (found.answer, found.reasoning) == (7, "so")
    assert found.trajectory == {
        "thought_0": "look",
        "tool_name_0": "search",
        "tool_args_0": {"query": "x"},
        "observation_0": "[1] x 0\n[2] x 1",
        "thought_1": "sum",
        "tool_name_1": "add",
        "tool_args_1": {"a": 1.0, "b": 2.5},
        "observation_1": "3.5",
        "thought_2": "done",
        "tool_name_2": "finish",
        "tool_args_2": {},
        "observation_2": "Done.",
    }
    assert 'Thought 0: look\nCall 0: search({"query": "x"})\nObservation 0: [1] x 0\n[2] x 1' in prompts(lm)[1]
    assert "Observation 1: 3.5" in prompts(lm)[3] and "q?" in prompts(lm)[3]


def test_calls_of_one_step_run_at_once_and_keep_their_order(run: Run) -> None:
    together = threading.Barrier(2, timeout=60)

    def meet(place: int) -> int:
        """Waits for the other."""
        together.wait()
        return place

    agent, lm = agent_of([step("both", ("meet", {"place": 5}), ("meet", {"place": 4}), END), ANSWER], tools=[meet])
    found = run(agent, question="q?")
    assert [found.trajectory[name] for name in ("observation_0", "observation_0_1", "observation_0_2")] == ["5", "4", "Done."]
    assert [found.trajectory[name] for name in ("tool_name_0_1", "tool_args_0_1")] == ["meet", {"place": 4}]
    assert "Call 0.2: meet" in prompts(lm)[1]


def test_failing_and_hanging_tools_are_observations(run: Run) -> None:
    never = threading.Event()

    def hang() -> None:
        """Never ends."""
        never.wait(1000)

    script = [step("a", ("broken", {})), step("b", ("hang", {})), step("c", END), ANSWER]
    agent, _ = agent_of(script, tools=[broken, hang], tool_timeout=0.05)
    found = run(agent, question="q?")
    never.set()
    assert found.trajectory["observation_0"] == "Error: ValueError: nothing works"
    assert "hang gave no result within 0.05 seconds" in found.trajectory["observation_1"]
    assert found.answer == 7


def test_a_repeated_call_is_noticed() -> None:
    script = [step("a", ("search", {"query": "x"})), step("b", ("search", {"query": "y"})), step("c", ("search", {"query": "x"})), ANSWER]
    agent, lm = agent_of(script, max_iters=3)
    found = agent(question="q?")
    notice = "(The same call was made in step 0; try another one, or finish.)"
    assert found.trajectory["observation_2"].endswith(notice) and notice in prompts(lm)[-1]
    assert "same call" not in found.trajectory["observation_1"]


def test_the_steps_are_limited(run: Run) -> None:
    agent, lm = agent_of([step(str(n), ("search", {"query": str(n)})) for n in range(2)] + [ANSWER], max_iters=2)
    found = run(agent, question="q?")
    assert found.trajectory["notice"] == "The limit of 2 steps was reached." and "thought_2" not in found.trajectory
    assert "(The limit of 2 steps was reached.)" in prompts(lm)[-1] and found.answer == 7


def test_the_limit_of_steps_can_be_of_one_call(run: Run) -> None:
    agent, lm = agent_of([step("a", ("search", {"query": "x"})), ANSWER])
    assert run(agent, question="q?", max_iters=1).answer == 7
    assert len(lm.scripted.requests) == 2


def test_the_calls_are_limited(run: Run) -> None:
    calls = [("search", {"query": str(number)}) for number in range(3)]
    agent, _ = agent_of([step("a", calls[0]), step("b", *calls), ANSWER], max_calls=2)
    found = run(agent, question="q?")
    names = [name for name in found.trajectory if name.startswith("tool_name")]
    assert names == ["tool_name_0", "tool_name_1"]
    assert found.trajectory["notice"] == (
        "2 of the calls of step 1 were not made, for the limit is 2. The limit of 2 tool calls was reached."
    )


def test_the_tokens_of_the_steps_are_limited(run: Run) -> None:
    first = step("a", ("search", {"query": "x"}))
    second = step("b", ("search", {"query": "y"}))
    agent, lm = agent_of([first, second, ANSWER], max_tokens=len(first) + len(second))
    found = run(agent, question="q?")
    assert [request.sampling.max_tokens for request in lm.scripted.requests] == [len(first) + len(second), len(second), 512]
    assert found.trajectory["notice"] == f"The limit of {len(first) + len(second)} generated tokens was reached."


def test_a_long_trajectory_is_trimmed_with_notice_and_never_fails(run: Run) -> None:
    def read(page: int) -> str:
        """Reads a page."""
        return f"page {page} " + "x" * 2000

    def write(request: Request) -> str:
        if "next_tool_calls" not in request.messages[0].content:
            return ANSWER
        return step("on", ("read", {"page": len(lm.scripted.requests)}))

    agent, lm = agent_of(write, tools=[read], lm_context=7_000, max_iters=12)
    found = run(agent, question="q?")
    assert found.answer == 7 and found.trajectory["tool_name_11"] == "read"
    assert len(found.trajectory["observation_0"]) > 2000, "the trajectory itself stays whole"
    assert "did not all fit the context" in found.trajectory["notice"]
    last = prompts(lm)[-1]
    assert "left out" in last and "page 12 " in last, "the newest step is what stays"
    assert all(lm.scripted.count_tokens(request) + request.reserve + 256 <= 7_000 for request in lm.scripted.requests)


def test_one_observation_that_is_too_long_is_cut_off(run: Run) -> None:
    agent, lm = agent_of(
        [step("a", ("long", {})), step("b", END), ANSWER], tools=[Tool(lambda: "y" * 9000, "long", "Is long.")], lm_context=6_000
    )
    assert run(agent, question="q?").answer == 7
    assert "characters left out]" in prompts(lm)[-1] and len(prompts(lm)[-1]) < 6_000


def test_inputs_that_do_not_fit_are_an_error(run: Run) -> None:
    agent, _ = agent_of([step("a", END), ANSWER], lm_context=5_000)
    with pytest.raises(ContextTooLong):
        run(agent, question="q" * 6_000)


def test_a_step_that_cannot_be_used_ends_the_steps_with_notice() -> None:
    agent, _ = agent_of(["no object", ANSWER])
    found = agent(question="q?")
    assert found.answer == 7 and found.trajectory["notice"].startswith("Step 0 could not be used: ")


def test_the_grammar_holds_the_tools_and_their_arguments() -> None:
    agent, lm = agent_of([step("a", END), ANSWER])
    agent(question="q?")
    grammar = lm.scripted.requests[0].grammar
    assert grammar is not None
    for text in ("search", "query", "add", "broken", "finish"):
        assert text in grammar.gbnf
    assert "- search(query, k): Finds passages." in lm.scripted.requests[0].messages[0].content


def test_predictors_have_the_names_that_saved_programs_use() -> None:
    agent = ReAct("question -> answer: int", tools=TOOLS)
    assert [path for path, _ in agent.named_predictors()] == ["react", "extract.predict"]
    agent.react.demos = [
        Example(question="a", trajectory="", next_thought="b", next_tool_calls=[{"name": "search", "args": {"query": "c"}}])
    ]
    other, lm = agent_of([step("a", END), ANSWER])
    other.load_state(json.loads(json.dumps(agent.dump_state())))
    other.set_lm(lm)
    assert other(question="q?").answer == 7
    assert '"name": "search", "args": {"query": "c"}' in lm.scripted.requests[0].messages[2].content


def test_a_traced_step_is_a_demo_for_the_next_run() -> None:
    agent, lm = agent_of([step("a", ("add", {"a": 1, "b": 2})), step("b", END), ANSWER, step("c", END), ANSWER])
    with record() as trace:
        agent(question="q?")
    assert [one.path for one in trace.steps] == ["react", "react", "extract.predict"]
    first = trace.steps[0]
    copied = agent.deepcopy()
    copied.react.demos = [Example(**first.inputs, **first.prediction)]
    assert copied(question="q?").answer == 7
    assert '"args": {"a": 1.0, "b": 2.0}' in lm.scripted.requests[3].messages[2].content


def test_many_agents_at_once_stay_apart() -> None:
    def write(request: Request) -> str:
        text = request.messages[-1].content
        name = text.split("question: ")[1].split("\n")[0]
        if "next_tool_calls" not in request.messages[0].content:
            return json.dumps({"reasoning": name, "answer": int(name)})
        return step(name, END) if "Observation 0" in text else step(name, ("search", {"query": name, "k": 1}))

    agent, _ = agent_of(write)
    found = agent.batch([Example(question=str(number)).with_inputs("question") for number in range(40)])
    assert [one.answer for one in found] == list(range(40))
    assert [one.trajectory["observation_0"] for one in found] == [f"[1] {number} 0" for number in range(40)]


def finish() -> None: ...


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ReAct("q -> a", tools=[]), InputError, "ReAct got no tools. Give it some: ReAct(signature, tools=[my_function])"),
        (lambda: ReAct("q -> a", tools=[search, Tool(search)]), InputError, "Two tools are called 'search'"),
        (lambda: ReAct("q -> a", tools=[finish]), InputError, "Tool(finish, name='finish_task')"),
        (lambda: ReAct("q -> a", tools=["search"]), InputError, "'search' cannot be called"),  # type: ignore[list-item]
        (lambda: ReAct("q -> a", tools=search), InputError, "Write tools=[...] around it"),  # type: ignore[arg-type]
        (lambda: ReAct("q, trajectory -> a", tools=[search]), SignatureError, "cannot have a field 'trajectory'"),
        (lambda: ReAct("q -> a, next_thought", tools=[search]), SignatureError, "cannot have a field 'next_thought'"),
        (lambda: ReAct("q -> a", tools=[search], max_iters=0), InputError, "max_iters is 0; expected a whole number above 0"),
        (lambda: ReAct("q -> a", tools=[search], max_calls=0), InputError, "max_calls is 0"),
        (lambda: ReAct("q -> a", tools=[search], max_tokens=1.5), InputError, "max_tokens is 1.5"),  # type: ignore[arg-type]
        (lambda: ReAct("q -> a", tools=[search])("why?"), InputError, "takes its inputs by name. Write program(q=...)."),
        (lambda: ReAct("q -> a", tools=[search])(), InputError, "The input q is missing; there is none. Write agent(q=...)."),
    ],
)
def test_what_cannot_be_an_agent_is_refused_with_the_right_call(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        make()
    assert said in str(raised.value)


def test_an_input_that_is_not_in_the_signature_is_warned_of_once() -> None:
    agent, _ = agent_of([step("a", END), ANSWER])
    with pytest.warns(UserWarning, match="The input extra is not in the signature") as warned:
        agent(question="q?", extra=1)
    assert [one.filename for one in warned] == [__file__]


def test_the_settings_reach_the_tools(run: Run) -> None:
    seen: list[object] = []

    def ask() -> str:
        """Asks another model."""
        from homefire.modules.settings import current

        seen.append(current().lm)
        return "asked"

    agent, _ = agent_of([step("a", ("ask", {}), ("ask", {})), step("b", END), ANSWER], tools=[ask])
    inner = ScriptedLM([])
    with context(lm=inner):
        run(agent, question="q?")
    assert seen == [inner, inner]


def test_instructions_of_the_signature_stay_first() -> None:
    agent = ReAct(Signature("question -> answer", "Be exact."), tools=[search])
    assert agent.react.signature.instructions.startswith("Be exact.\n")
    assert agent.extract.predict.signature.instructions == "Be exact."
