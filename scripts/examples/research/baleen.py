"""Baleen: answers that take several hops. Run: .venv/bin/python scripts/examples/research/baleen.py

After Khattab, Potts and Zaharia 2021, arXiv 2101.00436. Condensed retrieval (section 3): each hop searches with what the question and
the facts so far leave open, then a condenser in two stages ("Condenser") picks sentences, first within each passage, then among those of
all passages of the hop. Only these facts are carried on, so that the context stays short however many passages were read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import research_corpus as corpus
import typer
from annotated_types import Ge, MaxLen
from research_corpus import Found, Search, all_of, distinct, numbered, source_of, text_of, words_of
from rich.console import Console

import homefire
from homefire import Prediction, Signature

Numbers = Annotated[list[Annotated[int, Ge(1)]], MaxLen(4)]

SEEK = Signature(
    "question, facts: list[str] -> query", "The facts do not answer the question yet. Write a search query for what is missing."
)
PICK = Signature(
    "question, facts: list[str], sentences: list[str] -> relevant: Numbers",
    "`relevant` are the numbers of the sentences that help to answer the question and are not among the facts.",
)
ANSWER = Signature("question, facts: list[str] -> answer", "Answer from the facts, in a few words.")

Stopped = Literal["nothing new", "most hops"]


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a passage, word for word."""

    text: str
    passage: Found
    hop: int
    """From 1."""


class Baleen(homefire.Module):
    """Collects facts over several hops and answers from them: `answer`, `facts`, `passages`, `queries`, `stopped`.

    Args:
        search: Finds passages for a query.
        hops: Most searches.
        k: Passages of a hop; none is read twice.
        facts: Most facts that a hop keeps.
    """

    def __init__(self, search: Search, *, hops: int = 3, k: int = 3, facts: int = 2) -> None:
        self.search, self.hops, self.k, self.most_facts = search, hops, k, facts
        self.seek = homefire.Predict(SEEK, max_tokens=60)
        self.condense = homefire.Predict(PICK, max_tokens=40)
        self.select = homefire.Predict(PICK, max_tokens=40)
        self.answer = homefire.ChainOfThought(ANSWER, max_tokens=160)

    def forward(self, *, question: str) -> Prediction:
        facts: list[Fact] = []
        passages: list[Found] = []
        queries: list[str] = []
        stopped: Stopped = "most hops"
        for hop in range(1, self.hops + 1):
            queries.append(self._query(question, facts))
            new = self._unread(queries[-1], passages)
            kept = self._condensed(question, facts, new, hop) if new else []
            passages += new
            facts += kept
            if not kept:
                stopped = "nothing new"
                break
        answer = self.answer(question=question, facts=[fact.text for fact in facts]).answer
        return Prediction(answer=answer, facts=facts, passages=passages, queries=queries, stopped=stopped)

    def _query(self, question: str, facts: Sequence[Fact]) -> str:
        """The first hop searches with the question itself; what a model seeks later is added to it."""
        if not facts:
            return question
        query: str = self.seek(question=question, facts=[fact.text for fact in facts]).query
        return query.strip() or question

    def _unread(self, query: str, passages: Sequence[Found]) -> list[Found]:
        read = {words_of(text_of(passage)) for passage in passages}
        found = distinct(self.search(query, self.k + len(passages)))
        return [one for one in found if words_of(text_of(one)) not in read][: self.k]

    def _condensed(self, question: str, facts: Sequence[Fact], passages: Sequence[Found], hop: int) -> list[Fact]:
        """The best sentences of the passages of a hop that are not facts yet."""
        known = {words_of(fact.text) for fact in facts}
        before = [fact.text for fact in facts]
        split = [[text for text in sentences(text_of(passage)) if words_of(text) not in known] for passage in passages]
        split_passages = [(passage, own) for passage, own in zip(passages, split, strict=True) if own]
        inputs = [{"question": question, "facts": before, "sentences": own} for _, own in split_passages]
        picked = {
            words_of(text): Fact(text, passage, hop)
            for (passage, own), prediction in zip(split_passages, all_of(self.condense, inputs), strict=True)
            for text in numbered(own, prediction.relevant)
        }
        new = list(picked.values())
        if len(new) > self.most_facts:
            best = self.select(question=question, facts=before, sentences=[fact.text for fact in new]).relevant
            new = (numbered(new, best) or new)[: self.most_facts]
        return new


def sentences(text: str) -> list[str]:
    """The sentences of a text, roughly: it is cut behind full stops, question and exclamation marks that a space follows."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text) if words_of(part)]


def main(
    question: Annotated[str, typer.Argument(help="What to answer.")] = "Which class reads what gzip.compress writes?",
    model: corpus.ModelOption = "smollm2-135m",
    folder: corpus.FolderOption = None,
    encoder: corpus.EncoderOption = "hash",
    hops: Annotated[int, typer.Option(help="Most searches.")] = 3,
) -> None:
    """Answer a question from facts that were found one after the other."""
    homefire.configure(lm=homefire.LM(model))
    made = Baleen(corpus.search_in(corpus.passages_in(folder), encoder), hops=hops)(question=question)
    console = Console()
    for hop, query in enumerate(made.queries, 1):
        console.print(f"hop {hop}: {query}", markup=False)
        for fact in made.facts:
            if fact.hop == hop:
                console.print(f"  {fact.text} ({source_of(fact.passage)})", markup=False)
    console.print(f"stopped: {made.stopped}, {len(made.passages)} passages read", f"answer: {made.answer}", sep="\n", markup=False)


if __name__ == "__main__":
    corpus.run(main)
