"""RAG shows the model the passages that fit the question, says which they were, and which of them the answer cites."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from homefire.engine.callbacks import BaseCallback
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError, ParseError, SignatureError
from homefire.modules.example import Example
from homefire.modules.rag import RAG
from homefire.modules.saved_program import load
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
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


def citing(*numbers: int) -> str:
    return json.dumps({"answer": "330", "citations": list(numbers)})


def found(query: str, k: int) -> list[str]:
    """A retriever that finds as many passages as the query says."""
    return [f"passage {place}" for place in range(1, int(query) + 1)]


def test_an_answer_cites_the_passages_that_it_names(index: Index) -> None:
    program = RAG(index, k=3)
    program.set_lm(lm := ScriptedLM([citing(2, 1, 2)]))
    prediction = program(question="tower, cats")
    assert prediction.citations == [prediction.passages[1], prediction.passages[0]], "each once, in the order of the answer"
    (request,) = lm.scripted.requests
    assert "[2] " in request.messages[-1].content, "the numbers are those in the prompt"
    assert "numbers of the passages in the context" in request.messages[0].content


def test_the_grammar_knows_only_the_passages_that_were_found(index: Index) -> None:
    program = RAG(index, k=3)
    program.set_lm(lm := ScriptedLM([citing(1)] * 3))
    for k in (3, 2, 3):
        program(question="tower", search={"k": k})
    grammars = [request.grammar for request in lm.scripted.requests]
    assert grammars[0] is grammars[2], "made once for a number of passages"
    schemas = [json.loads(grammar.json_schema or "")["properties"]["citations"] for grammar in grammars if grammar]
    assert [(schema["items"]["enum"], schema["maxItems"]) for schema in schemas] == [([1, 2, 3], 3), ([1, 2], 2), ([1, 2, 3], 3)]


@pytest.mark.parametrize("numbers", [[4], [0], [-1], ["1"], [1.5]])
def test_a_server_without_grammars_cannot_cite_what_was_not_found(numbers: list[Any], index: Index) -> None:
    program = RAG(index, k=3)
    program.set_lm(ScriptedLM([json.dumps({"answer": "x", "citations": numbers})] * 10))
    with pytest.raises(ParseError):
        program(question="tower")


def test_nothing_found_is_an_empty_context_and_no_citation() -> None:
    program = RAG(found, k=3)
    program.set_lm(lm := ScriptedLM([json.dumps({"answer": "unknown"})]))
    prediction = program(question="0")
    assert (prediction.answer, prediction.passages, prediction.citations) == ("unknown", [], [])
    assert "context: (none)" in lm.scripted.requests[0].messages[-1].content
    assert "citations" not in lm.scripted.requests[0].messages[0].content


def test_without_citations_the_signature_stays_the_users(index: Index) -> None:
    program = RAG(index, "context: list[str], question -> answer, citations: str", citations=False)
    program.set_lm(ScriptedLM([json.dumps({"answer": "x", "citations": "see there"})]))
    assert program(question="tower").citations == "see there"
    assert list(program.task.fields) == ["question", "answer", "citations"]


def test_an_output_of_that_name_keeps_its_place_and_words(index: Index) -> None:
    class Cited(Signature):
        """Answer, and say where it is from."""

        context: list[str] = InputField()
        question: str = InputField()
        citations: list[str] = OutputField(desc="the best passages first")
        sure: Literal["yes", "no"] = OutputField()

    program = RAG(index, Cited)
    program.set_lm(lm := ScriptedLM([json.dumps({"citations": [1], "sure": "yes"})]))
    assert program(question="How tall is the tower?").citations[0].id == "0"
    assert list(program.predict.signature.output_fields) == ["citations", "sure"] and list(program.task.fields) == ["question", "sure"]
    assert "the best passages first" in lm.scripted.requests[0].messages[0].content
    with pytest.raises(SignatureError, match=r"citations=False"):
        RAG(index, "context: list[str], question -> answer, citations: str")


def test_a_signature_that_an_optimizer_changed_still_cites(index: Index) -> None:
    program = RAG(index, k=2)
    program.predict.signature = program.predict.signature.with_instructions("Answer in rhyme.")
    program.set_lm(lm := ScriptedLM([citing(2), citing(1)]))
    assert len(program(question="tower").citations) == 1
    program.predict.signature = Signature("context: list[str], question -> answer")
    assert len(program(question="tower").citations) == 1
    assert "rhyme" in lm.scripted.requests[0].messages[0].content


def test_several_samples_cite_each_for_itself(index: Index) -> None:
    program = RAG(index, k=3, n=2, temperature=1.0)
    program.set_lm(ScriptedLM([citing(1), citing(3, 2)]))
    prediction = program(question="tower")
    assert [len(one.citations) for one in prediction.completions] == [1, 2]
    assert prediction.completions[1].citations == [prediction.passages[2], prediction.passages[1]]


def test_demos_from_more_passages_are_shown_without_what_cannot_be_cited_here() -> None:
    program = RAG(found, k=3)
    program.predict.demos = [
        Example(context=["a", "b", "c"], question="q1", answer="a1", citations=[3]),
        Example(context=["a"], question="q2", answer="a2", citations=[1]),
    ]
    program.set_lm(lm := ScriptedLM([citing(1)] * 2))
    program(question="3"), program(question="2")
    whole, short = ([turn.content for turn in request.messages if turn.role == "assistant"] for request in lm.scripted.requests)
    assert whole == ['{"answer": "a1", "citations": [3]}', '{"answer": "a2", "citations": [1]}']
    assert short == ['{"answer": "a1"}', '{"answer": "a2", "citations": [1]}']


def test_traces_and_states_hold_numbers(index: Index, tmp_path: Path) -> None:
    program = RAG(index, k=3)
    program.set_lm(ScriptedLM([citing(1), citing(1)]))
    with record() as trace:
        program(question="tower")
    assert trace.steps[0].prediction.citations == [1]
    program.predict.demos = [Example(trace.steps[0].inputs, **trace.steps[0].prediction.toDict())]
    program.set_lm(None)
    program.save(tmp_path / "state.json")
    again = RAG(index, k=3)
    again.load(tmp_path / "state.json")
    assert again.predict.demos[0].citations == [1]


def test_a_whole_program_is_saved_with_the_place_of_its_index(index: Index, tmp_path: Path) -> None:
    program = RAG(index, k=1, where={"source": "0.txt"})
    program.save(tmp_path / "program", save_program=True)
    again = load(tmp_path / "program")
    again.set_lm(ScriptedLM(answer_by_prompt))
    assert again(question="bread").passages[0].id == "0" and again.index is not index
    assert RAG(index.directory, k=1).index("bread", k=1).ids == ["2"]
    with pytest.raises(InputError, match="There is no index"):
        RAG(tmp_path / "nothing")


def test_options_of_the_search_reach_the_retriever() -> None:
    asked: list[dict[str, Any]] = []

    def search(query: str, **options: Any) -> list[str]:
        asked.append(options)
        return ["a"]

    program = RAG(search, k=2, method="bm25", where={"lang": "en"}, rerank="late")
    program.set_lm(ScriptedLM([citing(1)] * 3))
    program(question="q")
    program(question="q", search={"where": {"lang": "de"}, "k": 5})
    program.k = 1
    asyncio.run(program.acall(question="q", search={}))
    assert asked == [
        {"k": 2, "method": "bm25", "where": {"lang": "en"}, "rerank": "late"},
        {"k": 5, "method": "bm25", "where": {"lang": "de"}, "rerank": "late"},
        {"k": 1, "method": "bm25", "where": {"lang": "en"}, "rerank": "late"},
    ]
    for wrong in ({"top": 3}, ["k"], "bm25"):
        with pytest.raises(InputError, match=r"expected a mapping of k, method, rerank, where"):
            program(question="q", search=wrong)


def test_an_input_called_search_is_the_users_own() -> None:
    program = RAG(lambda query, k: [query], "context: list[str], search -> answer", k=1)
    program.set_lm(lm := ScriptedLM([citing(1)]))
    assert program(search="bread").passages[0].text == "bread"
    assert "search: bread" in lm.scripted.requests[0].messages[-1].content


def test_options_of_a_call_go_to_the_predictor(index: Index) -> None:
    program = RAG(index, k=1)
    lm = ScriptedLM([json.dumps({"word": "tall", "citations": [1]})])
    prediction = program(question="tower", lm=lm, signature="context: list[str], question -> word", config={"temperature": 0.5})
    assert (prediction.word, len(prediction.citations)) == ("tall", 1)
    assert lm.scripted.requests[0].sampling.temperature == 0.5


class Watched(Index):
    """Counts how many queries each search answers; the first search waits until it is told to go on."""

    sizes: list[int]
    go: threading.Event

    def search(self, queries: Sequence[str], k: int = 3, **options: Any) -> list[list[Any]]:
        self.sizes.append(len(queries))
        if len(self.sizes) == 1:
            assert self.go.wait(30)
        return super().search(queries, k, **options)


def test_a_batch_is_searched_in_batches(tmp_path: Path) -> None:
    index = Watched.build(tmp_path, [Passage(id=str(place), text=text, source="s") for place, text in enumerate(TEXTS)], HashEncoder())
    index.sizes, index.go = [], threading.Event()
    program = RAG(index, k=1)
    program.set_lm(ScriptedLM(answer_by_prompt, max_batch=64))
    outcome: list[Any] = []
    questions = [{"question": f"{text} {number}"} for number in range(10) for text in TEXTS]
    running = threading.Thread(target=lambda: outcome.extend(program.batch(questions, disable_progress_bar=True)))
    running.start()
    while len(index._together._waiting) < 29:
        assert running.is_alive()
    index.go.set()
    running.join()
    assert index.sizes == [1, 29]
    assert [one.passages[0].id for one in outcome] == ["0", "1", "2"] * 10
    assert [one.answer for one in outcome] == ["330", "unknown", "unknown"] * 10


def test_the_search_is_a_step_of_its_own(index: Index) -> None:
    heard: list[str] = []

    class Ears(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append(type(instance).__name__)

    program = RAG(index)
    program.set_lm(ScriptedLM([citing()]))
    with context(callbacks=[Ears()]):
        program(question="tower")
    assert heard == ["RAG", "Retrieve", "Predict"]
