"""IReRa: choosing among thousands of labels. Run: .venv/bin/python scripts/examples/research/irera.py "open a zip file"

After D'Oosterlinck et al. 2024, arXiv 2401.12178. Infer-Retrieve-Rank: a model infers terms from the text, a frozen retriever
finds the labels near each term, their similarities are weighted by how frequent a label is, and a model ranks the best ones. A label has
the weight log10(A p + 1) for its share p of the labels that were given so far; without an A, all have the same.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Annotated

import research_corpus as corpus
import typer
from annotated_types import Ge, Le, MaxLen, MinLen
from research_corpus import Search, numbered, text_of
from rich.console import Console

import homefire
from homefire import Prediction, Signature

MOST_CANDIDATES = 50
"""What the paper ranks."""
Terms = Annotated[list[Annotated[str, MaxLen(40)]], MinLen(1), MaxLen(5)]
Ranking = Annotated[list[Annotated[int, Ge(1), Le(MOST_CANDIDATES)]], MinLen(1), MaxLen(10)]

INFER = Signature("text -> terms: Terms", "Name what the text is about, in a few words each, as a catalogue would call it.")
RANK = Signature("text, labels: list[str] -> best: Ranking", "`best` are the numbers of the labels that fit the text, the best one first.")


class IReRa(homefire.Module):
    """Gives a text the labels that fit it best, all from one set: `best`, `candidates`, `terms`.

    Args:
        search: Finds labels for a term, the nearest first.
        labels: All there are; anything else that the search finds is left out.
        counts: How often each label was given so far, for the weights.
        A: How much the counts weigh; the paper has 1000 where they matter and 0 where they do not.
        depth: Labels that are retrieved for a term.
        candidates: Labels that are ranked.
        best: Labels that are returned.
    """

    def __init__(
        self,
        search: Search,
        labels: Collection[str],
        *,
        counts: Mapping[str, int] | None = None,
        A: float = 0,
        depth: int = 20,
        candidates: int = 10,
        best: int = 5,
    ) -> None:
        if not 1 <= candidates <= MOST_CANDIDATES:
            raise homefire.InputError(f"candidates is {candidates}; expected 1 to {MOST_CANDIDATES}, as in IReRa(..., candidates=10).")
        if A < 0 or (A and not counts):
            raise homefire.InputError(f"A is {A} and counts is {counts}; expected both or none, as in counts={{'a': 3}}, A=1000.")
        self.search, self.labels, self.depth, self.most_candidates, self.most = search, frozenset(labels), depth, candidates, best
        self.A, self.counts = A, dict(counts or {})
        self.infer = homefire.Predict(INFER, max_tokens=80)
        self.rank = homefire.ChainOfThought(RANK, max_tokens=160)

    def forward(self, *, text: str) -> Prediction:
        terms = list(dict.fromkeys(self.infer(text=text).terms))
        scores = self._scores(terms)
        candidates = sorted(scores, key=lambda label: -scores[label])[: self.most_candidates]
        if not candidates:
            return Prediction(best=[], candidates=[], terms=terms)
        ranked = numbered(candidates, self.rank(text=text, labels=candidates).best)
        return Prediction(best=list(dict.fromkeys([*ranked, *candidates]))[: self.most], candidates=candidates, terms=terms)

    def _scores(self, terms: list[str]) -> dict[str, float]:
        """The similarity of each label to its nearest term, weighted; in the order of similarity where they are equal.

        A retriever need not tell similarities, so they fall evenly with the rank, from 1 to nearly 0.
        """
        similarity: dict[str, float] = {}
        for term in terms:
            labels = [text for text in dict.fromkeys(map(text_of, self.search(term, self.depth))) if text in self.labels]
            for rank, label in enumerate(labels[: self.depth]):
                similarity[label] = max(similarity.get(label, 0.0), 1 - rank / self.depth)
        nearest = sorted(similarity, key=lambda label: -similarity[label])
        return {label: similarity[label] * self._weight(label) for label in nearest}

    def _weight(self, label: str) -> float:
        if not self.A:
            return 1.0
        return math.log10(self.A * self.counts.get(label, 0) / sum(self.counts.values()) + 1)


def main(
    text: Annotated[str, typer.Argument(help="What to find the part of Python's library for.")] = "open a zip file",
    model: corpus.ModelOption = "smollm2-135m",
    prior: Annotated[float, typer.Option("--prior", "-A", help="How much the frequency of a label weighs; 0: not at all.")] = 1000,
    encoder: corpus.EncoderOption = "hash",
) -> None:
    """Choose among the classes, functions and modules of Python's library; a label is as frequent as it has documented members."""
    homefire.configure(lm=homefire.LM(model))
    passages = corpus.python_library()
    label_of = {passage.id: ".".join(passage.source.split(".")[:2]) for passage in passages}
    counts = Counter(label_of.values())
    near = corpus.search_in(passages, encoder)

    def search(term: str, k: int) -> list[str]:
        """The labels of the members that are found."""
        return list(dict.fromkeys(label_of[passage.id] for passage in near(term, 3 * k) if not isinstance(passage, str)))[:k]

    made = IReRa(search, counts, counts=counts, A=prior)(text=text)
    console = Console()
    console.print(f"terms: {', '.join(made.terms)}", f"{len(counts)} labels, {len(made.candidates)} ranked", sep="\n", markup=False)
    for place, label in enumerate(made.best, 1):
        console.print(f"{place}. {label}", markup=False)


if __name__ == "__main__":
    corpus.run(main)
