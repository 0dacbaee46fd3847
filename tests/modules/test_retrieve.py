"""Retrieve asks an index or any function, gives texts as DSPy's users read them, and is a step that callbacks hear."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.engine.callbacks import BaseCallback
from homefire.errors import ConfigError, InputError
from homefire.modules.embeddings import Embeddings
from homefire.modules.example import Prediction
from homefire.modules.retrieve import Retrieve
from homefire.modules.retriever import hits_of
from homefire.modules.settings import context
from homefire.modules.telemetry import OpenTelemetry
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.hit import Hit
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

TEXTS = ["The tower is 330 metres tall.", "Cats sleep most of the day.", "Bread needs flour and water."]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    passages = [Passage(id=f"p{place}", text=text, source=f"{place}.txt") for place, text in enumerate(TEXTS)]
    return Index.build(tmp_path / "index", passages, HashEncoder())


@dataclass
class Served:
    """What somebody's client of a server gives."""

    long_text: str
    pid: int
    score: float


def test_an_index_is_a_function_of_a_query(index: Index) -> None:
    found = index("flour and water", k=2)
    assert found.passages[0] == TEXTS[2] and len(found.passages) == len(found) == 2
    assert (found.ids[0], found.sources[0], found[0].rank) == ("p2", "2.txt", 1)
    assert found.scores == [hit.score for hit in found] and [hit.long_text for hit in found] == found.passages


def test_the_retriever_of_the_settings(index: Index) -> None:
    with context(rm=index):
        prediction = Retrieve(k=1)("How tall is the tower?")
        assert prediction.passages == [TEXTS[0]] and prediction.hits[0].passage.id == "p0"
        assert len(Retrieve(k=1)("How tall is the tower?", k=3).passages) == 3
        assert asyncio.run(Retrieve(k=2).acall("cats")).passages[0] == TEXTS[1]
    with pytest.raises(ConfigError, match=r"No retriever is set.*configure\(rm=index\)"):
        Retrieve()("x")
    with context(rm="http://localhost"), pytest.raises(ConfigError, match="rm is 'http://localhost'"):
        Retrieve()("x")


def test_one_of_its_own_with_options_goes_before_that_of_the_settings(index: Index) -> None:
    seen: list[dict[str, Any]] = []

    def search(query: str, k: int, **options: Any) -> list[str]:
        seen.append({"query": query, "k": k, **options})
        return TEXTS

    with context(rm=index):
        step = Retrieve(2, retriever=search, method="bm25", where={"lang": "en"})
        assert step("q").passages == TEXTS[:2]
        step(query="q", method="dense")
    assert seen == [
        {"query": "q", "k": 2, "method": "bm25", "where": {"lang": "en"}},
        {"query": "q", "k": 2, "method": "dense", "where": {"lang": "en"}},
    ]


GIVEN: list[tuple[Any, list[tuple[str, str]]]] = [
    (["a", "b"], [("ca978112ca1bbdca", "a"), ("3e23e8160039594a", "b")]),
    ([Passage(id="x", text="a", source="s")], [("x", "a")]),
    ([Hit(Passage(id="x", text="a", source="s"), 0.5, 7)], [("x", "a")]),
    ([{"text": "a", "pid": 3, "score": 1}], [("3", "a")]),
    ([{"long_text": "a", "text": "short", "id": "y"}], [("y", "a")]),
    ((Served("a", 4, 2.0), Served("b", 5, 1.0)), [("4", "a"), ("5", "b")]),
    (Prediction(passages=["a"], scores=[0.25]), [("ca978112ca1bbdca", "a")]),
    (Prediction(passages=[{"text": "a", "id": 1}]), [("1", "a")]),
    (iter(["a"]), [("ca978112ca1bbdca", "a")]),
    ([], []),
]


@pytest.mark.parametrize(("given", "expected"), GIVEN)
def test_what_retrievers_may_give(given: Any, expected: list[tuple[str, str]]) -> None:
    found = hits_of(given, "mine")
    assert [(hit.passage.id, hit.text) for hit in found] == expected
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_scores_are_kept_where_there_are_some() -> None:
    assert hits_of([Served("a", 4, 2.0)], "mine").scores == [2.0]
    assert hits_of(Prediction(passages=["a", "b"], scores=[0.25, 0.125]), "mine").scores == [0.25, 0.125]
    assert all(isnan(score) for score in hits_of(["a", {"text": "b", "score": "high"}], "mine").scores)


async def _later(query: str, k: int) -> list[str]:
    return ["a"]


WRONG: list[tuple[Callable[..., Any], str]] = [
    (lambda query, k: None, "gave a NoneType; expected a list"),
    (lambda query, k: "text", "gave a str"),
    (lambda query, k: {"topk": []}, "gave a dict"),
    (lambda query, k: Prediction(answer="x"), "a prediction with answer; expected one with `passages`"),
    (lambda query, k: ["a", 7], "Passage 2 that .* gave has no text"),
    (lambda query, k: [{"title": "x"}], "Passage 1 that .* has no text"),
    (_later, "_later is asynchronous"),
]


@pytest.mark.parametrize(("retriever", "message"), WRONG)
def test_what_is_no_list_of_passages(retriever: Callable[..., Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Retrieve(retriever=retriever)("q")


def test_wrong_arguments(index: Index) -> None:
    with pytest.raises(InputError, match="k is 0"):
        Retrieve(k=0)
    with pytest.raises(InputError, match="The retriever is 7"):
        Retrieve(retriever=7)  # type: ignore[arg-type]
    for query, k, message in ((["q"], 1, "The query is"), (None, 1, "The query is"), ("q", 0, "k is 0"), ("q", 1.5, "k is 1.5")):
        with pytest.raises(InputError, match=message):
            Retrieve(retriever=index)(query, k=k)


def test_a_retriever_that_does_not_take_what_it_is_asked_with() -> None:
    def find(query: str) -> list[str]:
        return [query]

    with pytest.raises(InputError, match=r"The retriever find cannot be asked: .*'k'.* called as find\(query, k=3\)"):
        Retrieve(retriever=find)("a")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"Embeddings cannot be asked: .*'method'.*Embeddings\(query, k=1, method='bm25'\)"):
        Retrieve(1, retriever=Embeddings(["a"], HashEncoder(8)), method="bm25")("a")
    broken = Retrieve(retriever=lambda query, k: [1 + query])
    with pytest.raises(TypeError, match="unsupported operand"):
        broken("a")


def test_copies_share_the_retriever() -> None:
    class Big:
        def __call__(self, query: str, k: int) -> list[str]:
            return [query] * k

    big = Big()

    class Program(homefire.Module):
        def __init__(self) -> None:
            self.find = Retrieve(k=1, retriever=big)

    copied = Program().deepcopy()
    assert copied.find.retriever is big and copied.find("q").passages == ["q"]


def test_callbacks_hear_the_step(index: Index) -> None:
    heard: list[tuple[str, Any]] = []

    class Ears(BaseCallback):
        def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            heard.append((type(instance).__name__, dict(inputs)))

        def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
            heard.append(("end", outputs.passages))

    Retrieve(1, callbacks=[Ears()], retriever=index)("cats sleep")
    assert heard == [("Retrieve", {"query": "cats sleep"}), ("end", [TEXTS[1]])]


@pytest.fixture
def spans() -> Iterator[tuple[OpenTelemetry, Any]]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield OpenTelemetry(provider), exporter
    provider.shutdown()


def test_its_span_is_a_retrievers(index: Index, spans: tuple[OpenTelemetry, Any]) -> None:
    callback, exporter = spans
    with context(callbacks=[callback]):
        Retrieve(1, retriever=index)("cats sleep")
    (span,) = exporter.get_finished_spans()
    assert span.name == "Retrieve" and span.attributes["openinference.span.kind"] == "RETRIEVER"
    assert span.attributes["retrieval.documents.0.document.content"] == TEXTS[1]
    assert span.attributes["retrieval.documents.0.document.id"] == "p1"
    assert span.attributes["retrieval.documents.0.document.score"] == pytest.approx(index("cats sleep", k=1).scores[0])
