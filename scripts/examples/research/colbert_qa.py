"""ColBERT-QA: answers read from passages, and data for the next retriever. Run: .venv/bin/python scripts/examples/research/colbert_qa.py

After Khattab, Potts and Zaharia 2020, arXiv 2007.00814. A reader looks for a span in each passage that the retriever found, and the
best span over all passages is the answer. Relevance-guided supervision (the same) makes the training data of the next
retriever from questions and answers alone: passages ranked high that hold the answer are positives, others ranked high are negatives.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import research_corpus as corpus
import typer
from research_corpus import Found, Search, all_of, distinct, source_of, text_of
from rich.console import Console

import homefire
from homefire import InputField, OutputField, Prediction, Signature
from homefire.configs.home import write_atomic
from homefire.evaluate import normalize_text


class Read(Signature):
    """Find the answer in the passage. Copy it word for word; without an answer it is null."""

    question: str = InputField()
    passage: str = InputField()
    answer: str | None = OutputField(desc="a few words of the passage")
    confidence: float = OutputField(ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Span:
    """What a reader found in one passage."""

    text: str
    confidence: float
    """From 0 to 1."""
    passage: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What one question teaches a retriever."""

    question: str
    positives: list[str]
    negatives: list[str]


class ColBERTQA(homefire.Module):
    """Answers with words of the passages: `answer` (None where no passage has one), `confidence`, `answers`, `spans`, `passages`.

    Args:
        search: Finds passages for a question.
        k: Passages that are read.
    """

    def __init__(self, search: Search, k: int = 5) -> None:
        self.search, self.k = search, k
        self.read = homefire.Predict(Read, max_tokens=80)

    def forward(self, *, question: str) -> Prediction:
        passages = distinct(self.search(question, self.k))
        readings = all_of(self.read, [{"question": question, "passage": text_of(passage)} for passage in passages])
        spans = [
            Span(reading.answer.strip(), reading.confidence, passage)
            for passage, reading in zip(passages, readings, strict=True)
            if reading.answer is not None and holds(text_of(passage), reading.answer)
        ]
        answers = together(spans)
        best, confidence = next(iter(answers.items()), (None, 0.0))
        return Prediction(answer=best, confidence=confidence, answers=answers, spans=spans, passages=passages)


def holds(passage: str, answer: str) -> bool:
    """Whether the words of an answer stand in a passage, one after the other; letter case, articles and punctuation aside."""
    words = normalize_text(answer)
    return bool(words) and f" {words} " in f" {normalize_text(passage)} "


def together(spans: Iterable[Span]) -> dict[str, float]:
    """The confidence in each different answer, the best one first: 1 - (1 - c1)(1 - c2)..., so that passages that agree add up."""
    said: dict[str, str] = {}
    doubts: dict[str, float] = {}
    for span in spans:
        key = normalize_text(span.text)
        said.setdefault(key, span.text)
        doubts[key] = doubts.get(key, 1.0) * (1 - span.confidence)
    return {said[key]: 1 - doubts[key] for key in sorted(doubts, key=lambda key: doubts[key])}


def relevance_guided(
    pairs: Iterable[tuple[str, str]],
    search: Search,
    *,
    positives: int = 3,
    negatives: int = 5,
    depth_positive: int = 20,
    depth_negative: int = 50,
    seed: int = 0,
) -> Iterator[Supervision]:
    """Training data for the next round of a retriever from what the present one finds (relevance-guided supervision).

    Questions without a positive or a negative teach nothing and are left out.

    Args:
        pairs: Questions and their short answers.
        search: The present retriever.
        positives: Most positives of a question: the highest ranked that hold the answer.
        negatives: Most negatives, drawn at random from those that do not hold it.
        depth_positive: Ranks where positives are looked for.
        depth_negative: Ranks where negatives are drawn from.
        seed: Of the draw.
    """
    for question, answer in pairs:
        found = [text_of(one) for one in distinct(search(question, max(depth_positive, depth_negative)))]
        good = [text for text in found[:depth_positive] if holds(text, answer)][:positives]
        others = [text for text in found[:depth_negative] if not holds(text, answer)]
        bad = random.Random(f"{seed} {question}").sample(others, min(negatives, len(others)))
        if good and bad:
            yield Supervision(question=question, positives=good, negatives=bad)


def main(
    question: Annotated[str, typer.Argument(help="What to answer.")] = "Which function compresses data in one shot?",
    model: corpus.ModelOption = "smollm2-135m",
    folder: corpus.FolderOption = None,
    encoder: corpus.EncoderOption = "hash",
    pairs: Annotated[Path | None, typer.Option(help="JSONL with question and answer; makes training data instead of an answer.")] = None,
    out: Annotated[Path, typer.Option(help="File of the training data.")] = Path("supervision.jsonl"),
) -> None:
    """Answer a question, or turn questions and answers into the training data of the next retriever."""
    search = corpus.search_in(corpus.passages_in(folder), encoder)
    console = Console()
    if pairs is not None:
        rows = [json.loads(line) for line in pairs.read_text(encoding="utf-8").splitlines() if line.strip()]
        made = list(relevance_guided([(row["question"], row["answer"]) for row in rows], search))
        write_atomic(out, "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in made))
        console.print(f"{len(made)} of {len(rows)} questions gave training data: {out}", markup=False)
        return
    homefire.configure(lm=homefire.LM(model))
    answered = ColBERTQA(search)(question=question)
    for span in answered.spans:
        console.print(f"{span.confidence:.2f}  {span.text}  ({source_of(span.passage)})", markup=False)
    console.print(f"answer: {answered.answer}, confidence {answered.confidence:.2f}", markup=False)


if __name__ == "__main__":
    corpus.run(main)
