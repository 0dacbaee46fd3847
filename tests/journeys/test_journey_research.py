"""The programs of the research line on the real small model, all at once on one engine: poor answers, but every one of its type."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.modules.parallel import run_in_threads

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "examples" / "research"))

from scripts.examples.research import baleen, colbert_qa, irera, papillon, path, storm
from scripts.examples.research.research_corpus import search_in

MOST_TOKENS = 48
TEXTS = (
    "Bees dance to tell where flowers are. They see colours that people do not.",
    "Honey keeps for years because it holds little water.",
    "A hive is kept warm by bees that shiver with their wings.",
    "Wasps sting more than once. They eat other insects.",
    "Wax is made by young bees. Candles are made of it.",
    "Butterflies taste with their feet.",
)
PASSAGES = [homefire.Passage(id=str(number), text=text, source=f"note {number}") for number, text in enumerate(TEXTS)]
LABELS = [text.split(".")[0] for text in TEXTS]
MESSAGE = "I am Maria Lopez and my bees in Leeds are ill. What can I do?"


@pytest.fixture(scope="module")
def made(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each program gave, and the requests of PAPILLON's helper."""
    search = search_in(PASSAGES)
    labels = search_in([homefire.Passage(id=label, text=label, source="label") for label in LABELS])
    lm = homefire.LM(str(smollm2), cache=False)
    rows = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    helper = homefire.ScriptedLM(lambda _: '{"reply": "Ask a vet."}')
    programs: dict[str, homefire.Module] = {
        "storm": storm.STORM(search, perspectives=2, rounds=1, k=2, sections=1),
        "irera": irera.IReRa(labels, LABELS, counts=dict.fromkeys(LABELS, 1), A=10, depth=4, candidates=4, best=3),
        "papillon": papillon.PAPILLON(helper),
        "baleen": baleen.Baleen(search, hops=2, k=2),
        "colbert_qa": colbert_qa.ColBERTQA(search, k=3),
    }
    asking = path.PATH()
    for program in (*programs.values(), asking):
        for predictor in program.predictors():
            predictor.update_config(max_tokens=MOST_TOKENS)
    calls: list[Callable[[], Any]] = [
        lambda: programs["storm"](topic="bees"),
        lambda: programs["irera"](text="What do bees make?"),
        lambda: programs["papillon"](message=MESSAGE, private=["Maria Lopez", "Leeds"]),
        lambda: programs["baleen"](question="Who keeps a hive warm?"),
        lambda: programs["colbert_qa"](question="What are candles made of?"),
        lambda: path.make_rows(asking, PASSAGES[:3], search, rows, within=2, negatives=2),
    ]
    with homefire.context(lm=lm):
        results = run_in_threads(calls, len(calls))
    return {**dict(zip([*programs, "path"], results, strict=True)), "file": rows, "sent": helper.scripted.requests}


def is_text(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


def test_storm(made: dict[str, Any]) -> None:
    article = made["storm"]
    assert article.article.startswith("# bees\n\n") and len(article.headings) == 1 and is_text(*article.headings)
    assert 1 <= len(article.interviews) <= 2 and article.interviews[0].reader == storm.BASICS
    for turn in (turn for interview in article.interviews for turn in interview.turns):
        assert is_text(turn.question, turn.answer) and set(turn.sources) <= set(PASSAGES)
    assert set(article.references) <= set(PASSAGES)
    assert all(f"[{number}]" in article.article for number in range(1, len(article.references) + 1))


def test_irera(made: dict[str, Any]) -> None:
    chosen = made["irera"]
    assert 1 <= len(chosen.terms) <= 5 and is_text(*chosen.terms)
    assert set(chosen.best) <= set(chosen.candidates) <= set(LABELS)
    assert len(chosen.best) == len(set(chosen.best)) == min(3, len(chosen.candidates))


def test_papillon(made: dict[str, Any]) -> None:
    answered, sent = made["papillon"], made["sent"]
    assert is_text(answered.answer, answered.prompt) and answered.asked_remote == (len(sent) == 1)
    told = " ".join(message.content for request in sent for message in request.messages).lower()
    assert not any(private in told for private in ("maria", "lopez", "leeds"))


def test_path(made: dict[str, Any]) -> None:
    assert [json.loads(line)["question"] for line in made["file"].read_text().splitlines()] == [row.question for row in made["path"]]
    for row in made["path"]:
        assert row.question and row.positive in TEXTS[:3]
        assert 1 <= len(row.negatives) <= 2 and set(row.negatives) <= set(TEXTS) - {row.positive}


def test_baleen(made: dict[str, Any]) -> None:
    found = made["baleen"]
    assert isinstance(found.answer, str) and found.stopped in ("nothing new", "most hops") and 1 <= len(found.queries) <= 2
    assert set(found.passages) <= set(PASSAGES) and len(found.passages) == len(set(found.passages))
    assert all(fact.text in fact.passage.text and fact.passage in found.passages for fact in found.facts)


def test_colbert_qa(made: dict[str, Any]) -> None:
    read = made["colbert_qa"]
    assert len(read.passages) == 3 and 0 <= read.confidence <= 1
    assert read.answer is None or any(span.text == read.answer for span in read.spans)
    for span in read.spans:
        assert 0 <= span.confidence <= 1 and colbert_qa.holds(span.passage.text, span.text)
