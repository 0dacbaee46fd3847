"""State files: what was written once is read for ever, DSPy's too; damage and other programs are errors that say so."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.best_of_n import BestOfN
from homefire.modules.chain_of_thought import ChainOfThought
from homefire.modules.code_act import CodeAct
from homefire.modules.dspy_state import infer_prefix
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.multi_chain import MultiChainComparison
from homefire.modules.predict import Predict
from homefire.modules.program_of_thought import ProgramOfThought
from homefire.modules.react import ReAct
from homefire.modules.react_v2 import ReActV2
from homefire.modules.refine import Refine
from homefire.modules.rlm import RLM
from homefire.modules.settings import context
from tests.modules.saved_programs import Reviewer, reviewer

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def test_a_state_file_of_the_first_layout_is_read() -> None:
    program = Reviewer()
    program.load(GOLDEN / "state_layout_1.json")
    assert program.dump_state() == reviewer().dump_state()
    lm = ScriptedLM(['{"reasoning": "r", "mood": "bad", "stars": 2, "people": []}', '{"reply": "Sorry."}'])
    with context(lm=lm):
        assert program(text="Bad.").reply == "Sorry."
    system, *turns = [message.content for message in lm.scripted.requests[0].messages]
    assert "Be strict." in system and "five is best" in system
    assert turns[:2] == ["text: Ça va.", '{"reasoning": "short", "mood": "good", "stars": 4, "people": [{"fullName": "Ann", "age": 3}]}']


def test_the_state_file_of_today_is_the_golden_one(tmp_path: Path) -> None:
    reviewer().save(tmp_path / "now.json")
    now, golden = (json.loads(path.read_text("utf-8")) for path in (tmp_path / "now.json", GOLDEN / "state_layout_1.json"))
    assert set(now.pop("versions")) == set(golden.pop("versions")) == {"homefire", "python"}
    assert now == golden


def test_a_file_from_before_versions_were_written_is_read(tmp_path: Path) -> None:
    state = Predict("a -> b").dump_state()
    (tmp_path / "old.json").write_text(json.dumps({"homefire": 1, "predictors": {"": state["self"]}}))
    Predict("a -> b").load(tmp_path / "old.json")


def test_a_program_of_dspys_is_read() -> None:
    program = ChainOfThought("question, search_query -> answer: int")
    program.load(GOLDEN / "dspy_chain_of_thought.json")
    predict = program.predict
    assert predict.signature.instructions == "Count what is asked for."
    assert [field.description for field in predict.signature.fields.values()] == ["", "how it was searched", "", "a number"]
    assert predict.demos == [Example(augmented=True, question="How many?", search_query="count", reasoning="one, two", answer=2)]
    lm = predict.lm
    assert lm is not None and (lm.model, lm.sampling().temperature, lm.sampling().max_tokens) == ("openai/gpt-4o-mini", 0.3, 300)


def test_a_single_predictor_of_dspys_is_read() -> None:
    predict = Predict("question -> answer")
    predict.load(GOLDEN / "dspy_predict.json")
    assert (predict.signature.instructions, predict.demos, predict.lm) == ("Answer.", [Example(question="a", answer="b")], None)
    with pytest.raises(InputError, match="has the fields question, answer, but the program's has text, label"):
        Predict("text -> label").load(GOLDEN / "dspy_predict.json")


def search(query: str, k: int = 3) -> list[str]:
    """Finds passages."""
    return [f"Bern has {134_000} inhabitants."]


def test_a_react_of_dspys_is_read_and_goes_on() -> None:
    """Its steps name one tool and its arguments in two fields; ours are lists of typed calls."""
    agent = ReAct("question -> answer: int", tools=[search])
    agent.load(GOLDEN / "dspy_react.json")
    told = agent.react.signature.instructions
    assert "a tool in next_tool_calls.name with next_tool_calls.args" in told
    call = {"name": "search", "args": {"query": "Bern"}}
    assert [demo.next_tool_calls for demo in agent.react.demos] == [[call]]
    assert agent.extract.predict.demos[0].answer == 134_000
    steps = [{"next_thought": "Look.", "next_tool_calls": [one]} for one in (call, {"name": "finish", "args": {}})]
    lm = ScriptedLM([*map(json.dumps, steps), '{"reasoning": "r", "answer": 134000}'])
    with context(lm=lm):
        assert agent(question="How many?").answer == 134_000
    asked = lm.scripted.requests[0].messages
    assert json.loads(asked[2].content) == {"next_thought": "Look it up.", "next_tool_calls": [call]}
    again = ReAct("question -> answer: int", tools=[search])
    again.load_state(agent.dump_state())
    assert again.dump_state() == agent.dump_state()


def test_arguments_of_a_dspy_step_may_be_text_or_none() -> None:
    state = json.loads((GOLDEN / "dspy_react.json").read_text("utf-8"))
    demo = state["react"]["demos"][0]
    for said, meant in (('{"query": "Bern"}', {"query": "Bern"}), ("{", {}), (None, {}), ({}, {})):
        demo["next_tool_args"] = said
        agent = ReAct("question -> answer: int", tools=[search])
        agent.load_state({name: state[name] for name in ("react", "extract.predict")})
        assert agent.react.demos[0].next_tool_calls == [{"name": "search", "args": meant}]
    state["react"]["signature"]["fields"][3]["description"] = "which one"
    agent.load_state({name: state[name] for name in ("react", "extract.predict")})
    assert agent.react.signature.fields["next_tool_calls"].description == "name: which one"


@pytest.mark.parametrize(
    "program",
    [
        ProgramOfThought("question -> answer: int"),
        CodeAct("question -> answer: int", tools=[search]),
        ReActV2("question -> answer: int", tools=[search]),
        RLM("context, question -> answer: int"),
        MultiChainComparison("question -> answer: int"),
        BestOfN(ChainOfThought("question -> answer: int"), 2, lambda inputs, prediction: 1.0, 1.0),
        Refine(ChainOfThought("question -> answer: int"), 2, lambda inputs, prediction: 1.0, 1.0),
    ],
    ids=lambda program: type(program).__name__,
)
def test_every_program_of_dspys_is_read(program: Module) -> None:
    kind = type(program).__name__
    program.load_state(
        {path: one for path, one in json.loads((GOLDEN / "dspy_programs.json").read_text("utf-8"))[kind].items() if path != "metadata"}
    )
    for path, predictor in program.named_predictors():
        assert predictor.signature.instructions == f"What {path} of {kind} was told to do."
        assert all("$" not in field.description for field in predictor.signature.fields.values())
        values = {name: "x" for name, field in predictor.signature.input_fields.items() if field.type is str}
        answer = {name: predictor.demos[0][name] for name in predictor.signature.output_fields}
        lm = ScriptedLM([json.dumps(answer)])
        with context(lm=lm):
            assert predictor(**values).toDict() == answer
        assert json.loads(lm.scripted.requests[0].messages[2].content) == answer


def test_what_dspys_lm_has_beyond_ours_is_told(tmp_path: Path) -> None:
    state = json.loads((GOLDEN / "dspy_predict.json").read_text("utf-8"))
    state["lm"] = {"model": "openai/gpt-4o-mini", "launch_kwargs": {}, "reasoning_effort": "high", "api_base": "http://127.0.0.1:9"}
    (tmp_path / "x.json").write_text(json.dumps(state))
    with pytest.warns(UserWarning, match="reasoning_effort of the saved LM"):
        Predict("question -> answer").load(tmp_path / "x.json", allow_unsafe_lm_state=True)


def test_prefixes_are_those_of_dspy() -> None:
    named = {"question": "Question", "search_query": "Search Query", "searchQuery": "Search Query", "context1": "Context 1", "DNA": "DNA"}
    assert {name: infer_prefix(name) for name in named} == named


def changed(change: Any) -> bytes:
    state = json.loads((GOLDEN / "state_layout_1.json").read_text("utf-8"))
    change(state)
    return json.dumps(state).encode()


WHOLE = (GOLDEN / "state_layout_1.json").read_bytes()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WHOLE[: len(WHOLE) // 2], "was cut off"),
        (b"", "was cut off"),
        (b"\xff\xfe\x00", "not a program"),
        (b"[1, 2]", "holds a list"),
        (b'{"a": 1}', "no predictors with signatures"),
        (b"{}", "this one has judge"),
        (changed(lambda state: state.update(homefire=2)), "layout 2"),
        (changed(lambda state: state.pop("predictors")), "no predictors"),
        (changed(lambda state: state["predictors"].pop("steps[0]")), "this one has judge"),
        (changed(lambda state: state["predictors"]["steps[0]"].pop("demos")), "lacks 'demos'"),
        (changed(lambda state: state["predictors"]["steps[0]"].update(signature=3)), "cannot be read"),
        (changed(lambda state: state["predictors"]["steps[0]"]["signature"]["fields"].pop()), "has the fields text, mood, but"),
    ],
)
def test_what_cannot_be_read_says_why_and_changes_nothing(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "program.json"
    path.write_bytes(content)
    program = Reviewer()
    before = program.dump_state()
    with pytest.raises(InputError, match=said):
        program.load(path)
    assert program.dump_state() == before


def test_a_newer_homefires_file_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_bytes(changed(lambda state: state["versions"].update(homefire="999.0")))
    with pytest.warns(UserWarning, match=r"written by homefire 999\.0, which is newer"):
        Reviewer().load(tmp_path / "new.json")


class Runs:
    """Code that a pickle would run."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))

    def __init__(self, path: Path) -> None:
        self.path = str(path)


def test_a_pickle_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    program, path = reviewer(), tmp_path / "program.pkl"
    with pytest.raises(InputError, match=r"program.save\(.*allow_pickle=True\)"):
        program.save(path)
    path.write_bytes(pickle.dumps(Runs(tmp_path / "canary")))
    with pytest.raises(InputError, match=r"program.load\(.*allow_pickle=True\)"):
        Reviewer().load(path)
    assert not (tmp_path / "canary").exists()
    program.save(path, allow_pickle=True)
    loaded = Reviewer()
    loaded.load(path, allow_pickle=True)
    assert loaded.dump_state() == program.dump_state()
    path.write_bytes(b"no pickle")
    with pytest.raises(InputError, match="cannot be unpickled"):
        loaded.load(path, allow_pickle=True)


def test_places_that_are_no_state_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"homefire.load\("):
        Reviewer().load(tmp_path)
    with pytest.raises(InputError, match=r"saved as .json, not as .txt"):
        Reviewer().save(tmp_path / "x.txt")
    with pytest.raises(InputError, match="save_program=True"):
        Reviewer().save(tmp_path / "x.json", modules_to_serialize=[])


def test_one_failing_predictor_leaves_all_as_they_were(tmp_path: Path) -> None:
    class Pair(Module):
        def __init__(self) -> None:
            self.one, self.two = Predict("a -> b"), Predict("b -> c")

    program = Pair()
    program.one.demos = [Example(a="1", b="2")]
    state = program.dump_state()
    state["two"]["signature"]["fields"][0]["name"] = "other"
    state["one"]["demos"] = []
    with pytest.raises(InputError, match="other"):
        program.load_state(state)
    assert len(program.one.demos) == 1
