"""ReActV2 on a script: steps as turns, outputs by the last call, conversations that go on, limits, trimming, bad input."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import to_jsonable_python

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ContextTooLong, InputError, ParseError, SignatureError
from homefire.modules.chat_format import ChatFormat
from homefire.modules.example import Example, Prediction
from homefire.modules.history import History
from homefire.modules.react_v2 import ReActV2
from homefire.modules.settings import context
from homefire.modules.signature import Signature
from homefire.modules.tool import Tool
from homefire.optimizers.few_shot import BootstrapFewShot

Call = tuple[str, dict[str, Any]]
Run = Callable[..., Prediction]
LOOK: Call = ("search", {"query": "Bern"})


def search(query: str, k: int = 1) -> list[str]:
    """Finds passages."""
    return [f"{query} {number}" for number in range(k)]


def broken() -> str:
    """Breaks."""
    raise ValueError("nothing works")


def step(thought: str, *calls: Call) -> str:
    return json.dumps({"next_thought": thought, "tool_calls": {"tool_calls": [{"name": name, "args": args} for name, args in calls]}})


def submit(**outputs: Any) -> Call:
    return "submit", outputs


def plain(agent: ReActV2, **inputs: Any) -> Prediction:
    return agent(**inputs)


def awaited(agent: ReActV2, **inputs: Any) -> Prediction:
    return asyncio.run(agent.acall(**inputs))


@pytest.fixture(params=[plain, awaited])
def run(request: pytest.FixtureRequest) -> Run:
    made: Run = request.param
    return made


def agent_of(script: Any, *, lm_context: int = 100_000, **options: Any) -> tuple[ReActV2, ScriptedLM]:
    agent = ReActV2("question -> answer: int", **{"tools": [search, broken], **options})
    lm = ScriptedLM(script, context=lm_context)
    agent.set_lm(lm)
    return agent, lm


def turns(lm: ScriptedLM, number: int = -1) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in lm.scripted.requests[number].messages[1:]]


def test_it_calls_tools_until_it_submits(run: Run) -> None:
    agent, lm = agent_of([step("look", LOOK, ("broken", {})), step("known", submit(answer=7))])
    found = run(agent, question="q?")
    assert (found.answer, found.termination_reason) == (7, "submit")
    first, last = found.history.messages
    assert (first["question"], first["next_thought"]) == ("q?", "look")
    assert [(one.name, one.value, one.is_error) for one in first["tool_calls"].tool_call_results.tool_call_results] == [
        ("search", ["Bern 0"], False),
        ("broken", None, True),
    ]
    assert (last["answer"], "question" in last) == (7, False)
    assert turns(lm) == [
        ("user", "question: q?"),
        ("assistant", step("look", LOOK, ("broken", {}))),
        ("user", "tool_call_results: search: [1] Bern 0\nbroken: Error: ValueError: nothing works"),
    ]


def test_the_chat_only_grows_at_its_end() -> None:
    agent, lm = agent_of([step("a", LOOK), step("b", LOOK), step("c", submit(answer=1))])
    agent(question="q?")
    chats = [request.messages for request in lm.scripted.requests]
    assert chats[1][: len(chats[0])] == chats[0] and chats[2][: len(chats[1])] == chats[1]
    assert len({request.grammar for request in lm.scripted.requests}) == 1


def test_the_grammar_knows_the_outputs() -> None:
    signature = Signature("town -> mood: Literal['good', 'bad'], score: float")
    agent = ReActV2(signature, tools=[search])
    lm = ScriptedLM([step("known", submit(mood="good", score=0.5))])
    with context(lm=lm):
        found = agent(town="Bern")
    assert (found.mood, found.score) == ("good", 0.5)
    grammar = lm.scripted.requests[0].grammar
    assert grammar is not None and '\\"good\\"' in grammar.gbnf
    assert "submit(mood, score): Ends the steps." in lm.scripted.requests[0].messages[0].content


def test_a_conversation_goes_on_with_the_history_of_the_last_answer(run: Run) -> None:
    agent, lm = agent_of([step("look", LOOK), step("known", submit(answer=7)), step("again", submit(answer=8))])
    first = run(agent, question="q?")
    kept = to_jsonable_python(first.history)
    second = run(agent, question="And now?", history=first.history)
    assert second.answer == 8
    assert len(first.history) == 2 and len(second.history) == 3
    assert turns(lm)[-2:] == [
        ("assistant", step("known", submit(answer=7))),
        ("user", "question: And now?\n\ntool_call_results: submit: Taken."),
    ]
    agent.set_lm(again := ScriptedLM([step("again", submit(answer=9))]))
    assert run(agent, question="And now?", history=json.loads(json.dumps(kept))).answer == 9
    assert turns(again) == turns(lm)


def test_a_plain_history_of_questions_and_answers_does_too() -> None:
    agent, lm = agent_of([step("known", submit(answer=2))])
    agent(question="Two?", history=History(messages=[{"question": "One?", "answer": 1}]))
    assert turns(lm) == [("user", "question: One?"), ("assistant", step("", submit(answer=1))), ("user", "question: Two?")]


def test_when_the_steps_run_out_the_outputs_are_asked_for(run: Run) -> None:
    agent, lm = agent_of([step("a", LOOK), step("b", ("broken", {})), '{"answer": 3}', step("d", submit(answer=4))], max_iters=2)
    found = run(agent, question="q?")
    assert (found.answer, found.termination_reason, len(found.history)) == (3, "forced_submit", 3)
    assert turns(lm) == [
        ("user", 'question: q?\n\ntool_call_results: search({"query": "Bern"}): [1] Bern 0\nbroken(): Error: ValueError: nothing works')
    ]
    grammar = lm.scripted.requests[-1].grammar
    assert grammar is not None and "tool_calls" not in grammar.gbnf
    assert run(agent, question="And now?", history=found.history).answer == 4
    assert turns(lm)[-2] == ("assistant", step("", submit(answer=3)))


def test_outputs_are_asked_for_with_the_conversation_before(run: Run) -> None:
    agent, lm = agent_of([step("look", LOOK), step("known", submit(answer=7)), step("look", LOOK), '{"answer": 8}'])
    first = run(agent, question="q?")
    assert run(agent, question="And now?", history=first.history, max_iters=1).answer == 8
    found = 'tool_call_results: search({"query": "Bern"}): [1] Bern 0'
    assert turns(lm) == [
        ("user", f"question: q?\n\n{found}"),
        ("assistant", '{"answer": 7}'),
        ("user", f"question: And now?\n\n{found}"),
    ]


def test_a_step_that_cannot_be_read_ends_the_steps(run: Run) -> None:
    agent, _ = agent_of(["no JSON", '{"answer": 3}'])
    found = run(agent, question="q?")
    assert (found.answer, found.termination_reason) == (3, "forced_submit")
    agent.set_lm(ScriptedLM(lambda request: "no JSON"))
    with pytest.raises(ParseError, match="is not JSON"):
        run(agent, question="q?")


def test_what_does_not_fit_is_cut_off_and_then_left_out(run: Run) -> None:
    def long(size: int) -> str:
        """Says much."""
        return "x" * size

    script = [*(step(f"step {number}", ("long", {"size": 900})) for number in range(6)), step("known", submit(answer=1))]
    agent, lm = agent_of(script, tools=[long], lm_context=2_100)
    assert run(agent, question="Where?").answer == 1
    last = turns(lm)
    assert "left out for lack of room" in last[0][1] and "question: Where?" in last[0][1]
    assert "cut off" in last[-1][1]
    agent, _ = agent_of(script, tools=[long], lm_context=300)
    with pytest.raises(ContextTooLong):
        run(agent, question="Where?")


def test_other_formats_too() -> None:
    agent, lm = agent_of(lambda request: ChatFormat().answer(agent.react.signature, answers[len(lm.scripted.requests) - 1]))
    kind = agent.react.signature.output_fields["tool_calls"].type
    answers = [
        {"next_thought": one, "tool_calls": kind.model_validate({"tool_calls": [{"name": call[0], "args": call[1]}]})}
        for one, call in (("look", LOOK), ("known", submit(answer=7)))
    ]
    with context(format=ChatFormat()):
        assert agent(question="q?").answer == 7


def test_its_steps_are_demos_also_after_a_file(tmp_path: Path) -> None:
    def write(request: Any) -> str:
        return step("known", submit(answer=7)) if "tool_call_results" in request.messages[-1].content else step("look", LOOK)

    lm, agent, again = ScriptedLM(write), *(ReActV2("question -> answer: int", tools=[search]) for _ in range(2))
    trainset = [Example(question="q?", answer=7).with_inputs("question")]
    optimizer = BootstrapFewShot(
        lambda example, made, trace=None: example.answer == made.answer, max_bootstrapped_demos=1, max_labeled_demos=0
    )
    with context(lm=lm):
        optimizer.compile(agent, trainset=trainset).save(tmp_path / "agent.json")
        again.load(tmp_path / "agent.json")
        assert again(question="new").answer == 7
    assert turns(lm)[:4] == [
        ("user", "question: q?"),
        ("assistant", step("look", LOOK)),
        ("user", "tool_call_results: search: [1] Bern 0"),
        ("assistant", step("known", submit(answer=7))),
    ]


def test_many_at_once_keep_apart() -> None:
    def write(request: Any) -> str:
        number = request.messages[1].content.removeprefix("question: ")
        return step("known", submit(answer=int(number))) if len(request.messages) > 2 else step("look", ("search", {"query": number}))

    agent, _ = agent_of(write)
    found = agent.batch([{"question": str(number)} for number in range(40)])
    assert [one.answer for one in found] == list(range(40))
    assert found[7].history.messages[0]["tool_calls"].tool_call_results.tool_call_results[0].value == ["7 0"]


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: ReActV2("q -> a", tools=[]), InputError, "ReActV2 got no tools. Give it some: ReActV2(signature, tools=[my_function])"),
        (lambda: ReActV2("q -> a", tools=[Tool(broken, name="submit")]), InputError, "Tool(submit, name='submit_task')"),
        (lambda: ReActV2("q, tools -> a", tools=[search]), SignatureError, "cannot have a field 'tools'"),
        (lambda: ReActV2("q -> history", tools=[search]), SignatureError, "cannot have a field 'history'"),
        (lambda: ReActV2("q -> a", tools=[search], max_iters=0), InputError, "in ReActV2(signature, tools=tools, max_iters=10)"),
        (lambda: ReActV2("q -> a", tools=[search])("why?"), InputError, "takes its inputs by name. Write program(q=...)."),
        (lambda: ReActV2("q -> a", tools=[search])(), InputError, "The input q is missing; there is none. Write agent(q=...)."),
        (lambda: ReActV2("q -> a", tools=[search])(q="", history=5), InputError, "agent(..., history=prediction.history)"),
    ],
)
def test_what_cannot_be_an_agent_is_refused_with_the_right_call(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        make()
    assert said in str(raised.value)
