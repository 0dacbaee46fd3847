"""RAG shows the model the passages that fit the question, and says which they were."""

from __future__ import annotations

from pathlib import Path

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError, SignatureError
from homefire.modules.rag import RAG
from homefire.modules.trace import record
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

TEXTS = ["The tower is 330 metres tall.", "Cats sleep most of the day.", "Bread needs flour and water."]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.build(
        tmp_path, [Passage(id=str(place), text=text, source=f"{place}.txt") for place, text in enumerate(TEXTS)], HashEncoder()
    )


def answer_by_prompt(request: Request) -> str:
    return '{"answer": "330"}' if "330 metres" in request.messages[-1].content else '{"answer": "unknown"}'


def test_the_model_sees_what_was_found_and_the_caller_gets_the_passages(index: Index) -> None:
    program = RAG(index, k=1)
    program.set_lm(ScriptedLM(answer_by_prompt))
    tall = program(question="How tall is the tower?")
    assert (tall.answer, [passage.source for passage in tall.passages]) == ("330", ["0.txt"])
    assert program(question="How long do cats sleep in a day?").answer == "unknown"


def test_the_best_passage_comes_first_and_k_counts_them(index: Index) -> None:
    program = RAG(index, k=2)
    program.set_lm(ScriptedLM(answer_by_prompt))
    assert [passage.id for passage in program(question="flour and water for bread, the cats").passages] == ["2", "1"]


def test_a_signature_with_one_other_input_searches_with_that(index: Index) -> None:
    program = RAG(index, "context: list[str], claim -> true: bool", k=1)
    program.set_lm(ScriptedLM(['{"true": true}']))
    prediction = program(claim="The tower is tall")
    assert prediction.true is True
    assert prediction.passages[0].id == "0"


@pytest.mark.parametrize("signature", ["question -> answer", "context: list[str] -> answer", "context: list[str], a, b -> answer"])
def test_signatures_that_cannot_work_are_refused(index: Index, signature: str) -> None:
    with pytest.raises(SignatureError, match="context: list"):
        RAG(index, signature)


def test_wrong_inputs_are_refused(index: Index) -> None:
    program = RAG(index)
    with pytest.raises(InputError, match=r"takes the inputs question .* got nothing"):
        program()
    with pytest.raises(InputError, match="finds the context itself"):
        program(question="x", context=["y"])


def test_a_copy_shares_the_index_and_traces_hold_the_context_only(index: Index) -> None:
    program = RAG(index, k=1).deepcopy()
    assert program.index is index
    program.set_lm(ScriptedLM(answer_by_prompt))
    with record() as trace:
        program(question="How tall is the tower?")
    [step] = trace.steps
    assert (step.path, step.inputs["context"], "passages" in step.prediction) == ("predict", [TEXTS[0]], False)
