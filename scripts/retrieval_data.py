"""The three collections that retrieval is measured on. Run it with: .venv/bin/python scripts/bench_retrieval.py --data FOLDER

The folder has `scifact`, `cranfield` and `squad_dev`, as JSON lines with qrels; `HOMEFIRE_DATA` names it where no option does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.retrieval.passage import Passage

COLLECTIONS = ("scifact", "cranfield", "squad")


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and the passages that answer it."""

    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages, queries whose results are reported, and others to choose settings by (none in Cranfield)."""

    name: str
    passages: list[Passage]
    reported: list[Query]
    others: list[Query]


def collection(folder: Path, name: str) -> Collection:
    """One of `COLLECTIONS`. The passages of an abstract are its title and its text; each is a document of its own."""
    return {"scifact": _scifact, "cranfield": _cranfield, "squad": _squad}[name](folder)


def _scifact(folder: Path) -> Collection:
    """BEIR's test claims are reported; its training claims are the others."""
    place = folder / "scifact"
    test = (line.split() for line in (place / "qrels_test.trec").read_text(encoding="utf-8").splitlines())
    train = (line.split("\t") for line in (place / "qrels_train.tsv").read_text(encoding="utf-8").splitlines()[1:])
    relevant = _relevant((row[0], row[2]) for row in test), _relevant((row[0], row[1]) for row in train)
    sets = [_queries(_lines(place / f"queries_{part}.jsonl"), wanted) for part, wanted in zip(("test", "train"), relevant, strict=True)]
    return Collection("scifact", _abstracts(place), *sets)


def _cranfield(folder: Path) -> Collection:
    """All codes of the old scale from 1 to 4 count as relevant."""
    place = folder / "cranfield"
    rows = (line.split() for line in (place / "qrels.trec").read_text(encoding="utf-8").splitlines())
    relevant = _relevant((row[0], row[2]) for row in rows if 1 <= int(row[3]) <= 4)
    return Collection("cranfield", _abstracts(place), _queries(_lines(place / "queries.jsonl"), relevant), [])


def _squad(folder: Path) -> Collection:
    """A thousand questions drawn from the whole dev set are reported; the paragraph that a question was asked about is relevant."""
    place = folder / "squad_dev"
    queries = [Query(row["question"], frozenset({row["passage"]})) for row in _lines(place / "questions.jsonl")]
    drawn = random.Random(0).sample(range(len(queries)), 1000)
    others = sorted(set(range(len(queries))) - set(drawn))
    passages = [_passage(row["_id"], row["text"]) for row in _lines(place / "passages.jsonl")]
    return Collection("squad", passages, [queries[number] for number in drawn], [queries[number] for number in others])


def _abstracts(place: Path) -> list[Passage]:
    return [_passage(row["_id"], f"{row['title']} {row['text']}".strip()) for row in _lines(place / "corpus.jsonl")]


def _passage(name: str, text: str) -> Passage:
    return Passage(id=name, text=text, source=name)


def _queries(rows: Iterable[dict[str, Any]], relevant: dict[str, frozenset[str]]) -> list[Query]:
    """Those with a relevant passage."""
    return [Query(row["text"], relevant[row["_id"]]) for row in rows if row["_id"] in relevant]


def _relevant(pairs: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for query, passage in pairs:
        found.setdefault(query, set()).add(passage)
    return {query: frozenset(passages) for query, passages in found.items()}


def _lines(file: Path) -> list[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
