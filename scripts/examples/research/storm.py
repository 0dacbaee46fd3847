"""STORM: an article with citations, researched in conversations. Run: .venv/bin/python scripts/examples/research/storm.py "zip archives"

After Shao et al. 2024, arXiv 2402.14207. Perspectives on the topic come from a survey of related ones (section 3.1); from each
perspective a writer interviews an expert who answers from the search alone (3.2); the outline is drafted from the topic and improved with
the conversations (3.3); sections are written in parallel from what the conversations found, then polished and given a lead (3.4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import research_corpus as corpus
import typer
from annotated_types import Ge, MaxLen, MinLen
from pydantic import BaseModel
from research_corpus import Found, Search, distinct, numbered, text_of, words_of
from rich.console import Console
from rich.markdown import Markdown

import homefire
from homefire import Prediction, Signature

Few = Annotated[list[Annotated[str, MaxLen(60)]], MinLen(1), MaxLen(3)]
Numbers = Annotated[list[Annotated[int, Ge(1)]], MaxLen(3)]
BASICS = "a newcomer, who wants the basic facts"
"""The perspective that every article has."""
NOTHING = "No source says anything about that."


class Sentence(BaseModel):
    text: Annotated[str, MaxLen(120)]
    sources: Numbers


Sentences = Annotated[list[Sentence], MinLen(1), MaxLen(4)]
RELATE = Signature("topic -> topics: Few", "Name topics that are close to the topic, in a few words each.")
PERSPECTIVES = Signature(
    "topic, passages: list[str] -> perspectives: Few",
    "Name different kinds of readers of an article on the topic, and what each wants to know. The passages are on related topics.",
)
ASK = Signature(
    "topic, reader, conversation: list[str] -> question", "You research the topic for this kind of reader. Ask the expert a new question."
)
PLAN = Signature("topic, question -> queries: Few", "Write search queries that find the answer.")
REPLY = Signature(
    "question, sources: list[str] -> useful: Numbers, answer",
    "Answer the question in one or two sentences, from the sources alone. `useful` are the numbers of the sources that helped.",
)
DRAFT = Signature("topic -> headings: Few", "Write the outline of an article.")
IMPROVE = Signature(
    "topic, draft: list[str], conversations: list[str] -> headings: Few", "Improve the outline with what the conversations found out."
)
WRITE = Signature(
    "topic, heading, sources: list[str] -> sentences: Sentences",
    "Write this section of the article from the sources. Say for each sentence the numbers of its sources.",
)
POLISH = Signature(
    "topic, sentences: list[str] -> repeated: Numbers, lead",
    "`repeated` are the numbers of sentences that only say again what earlier ones said. `lead` opens the article in two sentences.",
)


@dataclass(frozen=True, slots=True)
class Written:
    """A sentence of the article and the sources it is from."""

    section: int
    text: str
    sources: tuple[Found, ...]


class Interview(homefire.Module):
    """A conversation of a writer with one perspective and an expert who knows only what the search finds (section 3.2)."""

    def __init__(self, search: Search, rounds: int, k: int) -> None:
        self.search, self.rounds, self.k = search, rounds, k
        self.ask = homefire.Predict(ASK, max_tokens=80)
        self.plan = homefire.Predict(PLAN, max_tokens=80)
        self.reply = homefire.Predict(REPLY, max_tokens=160)

    def forward(self, *, topic: str, reader: str) -> Prediction:
        turns: list[Prediction] = []
        for _ in range(self.rounds):
            said = [line for turn in turns for line in (f"Writer: {turn.question}", f"Expert: {turn.answer}")]
            question = self.ask(topic=topic, reader=reader, conversation=said).question
            turns.append(self._answered(topic, question))
        return Prediction(reader=reader, turns=turns)

    def _answered(self, topic: str, question: str) -> Prediction:
        queries = self.plan(topic=topic, question=question).queries
        found = distinct(one for query in queries for one in self.search(query, self.k))
        if not found:
            return Prediction(question=question, answer=NOTHING, sources=[])
        reply = self.reply(question=question, sources=[text_of(one) for one in found])
        return Prediction(question=question, answer=reply.answer, sources=numbered(found, reply.useful) or found[:1])


class STORM(homefire.Module):
    """Writes an article on a topic: `article`, `references`, `headings`, `interviews`. Every citation is of a passage that was found.

    Args:
        search: The retriever.
        perspectives: Conversations, the one for the basic facts among them.
        rounds: Questions in each.
        k: Passages of a search, and sources of a section.
        sections: Most sections.
    """

    def __init__(self, search: Search, *, perspectives: int = 3, rounds: int = 2, k: int = 3, sections: int = 3) -> None:
        self.search, self.most_perspectives, self.k, self.most_sections = search, perspectives, k, sections
        self.relate = homefire.Predict(RELATE, max_tokens=80)
        self.find_perspectives = homefire.Predict(PERSPECTIVES, max_tokens=120)
        self.interview = Interview(search, rounds, k)
        self.draft = homefire.Predict(DRAFT, max_tokens=100)
        self.improve = homefire.Predict(IMPROVE, max_tokens=100)
        self.write = homefire.Predict(WRITE, max_tokens=320)
        self.polish = homefire.Predict(POLISH, max_tokens=160)

    def forward(self, *, topic: str) -> Prediction:
        related = self.relate(topic=topic).topics
        survey = distinct(one for subject in (topic, *related) for one in self.search(subject, self.k))
        named = self.find_perspectives(topic=topic, passages=[text_of(one) for one in survey]).perspectives
        readers = [{"topic": topic, "reader": reader} for reader in dict.fromkeys([BASICS, *named])]
        interviews = corpus.all_of(self.interview, readers[: self.most_perspectives])
        turns = [turn for interview in interviews for turn in interview.turns]
        sources = distinct(one for turn in turns for one in turn.sources)
        if not sources:
            raise homefire.InputError(f"The search found nothing about {topic!r}; expected a passage at least. Search other documents.")
        headings = self._outline(topic, turns)
        sentences = self._sections(topic, headings, sources)
        polished = self.polish(topic=topic, sentences=[sentence.text for sentence in sentences])
        article, references = rendered(topic, polished.lead, headings, without(sentences, polished.repeated))
        return Prediction(article=article, references=references, headings=headings, interviews=interviews)

    def _outline(self, topic: str, turns: Sequence[Prediction]) -> list[str]:
        said = [f"{turn.question} {turn.answer}" for turn in turns]
        better = self.improve(topic=topic, draft=self.draft(topic=topic).headings, conversations=said).headings
        different = {words_of(heading): heading.strip() for heading in better if words_of(heading)}
        return list(different.values())[: self.most_sections] or [topic]

    def _sections(self, topic: str, headings: Sequence[str], sources: Sequence[Found]) -> list[Written]:
        given = [closest(heading, sources, self.k) for heading in headings]
        inputs: list[dict[str, Any]] = [
            {"topic": topic, "heading": heading, "sources": [text_of(one) for one in some]}
            for heading, some in zip(headings, given, strict=True)
        ]
        return [
            Written(section, re.sub(r"\s*\[[\d, ]*\]", "", sentence.text).strip(), tuple(numbered(given[section], sentence.sources)))
            for section, prediction in enumerate(corpus.all_of(self.write, inputs))
            for sentence in prediction.sentences
        ]


def closest(heading: str, sources: Sequence[Found], k: int) -> list[Found]:
    """The sources that share most words with a heading, in their order where they share as many."""
    wanted = set(words_of(heading).split())
    return sorted(sources, key=lambda one: -len(wanted & set(words_of(text_of(one)).split())))[:k]


def without(sentences: Sequence[Written], repeated: Sequence[int]) -> list[Written]:
    """The sentences but for those with these numbers; no section loses its first one."""
    first = {sentence.section: sentence for sentence in reversed(sentences)}
    dropped = {id(sentence) for sentence in numbered(sentences, repeated) if sentence is not first[sentence.section]}
    return [sentence for sentence in sentences if id(sentence) not in dropped]


def rendered(topic: str, lead: str, headings: Sequence[str], sentences: Sequence[Written]) -> tuple[str, list[Found]]:
    """The article as Markdown, and what its marks [1], [2] ... stand for: the sources in the order in which they are cited."""
    cited = distinct(one for sentence in sentences for one in sentence.sources)
    number = {text_of(one): place for place, one in enumerate(cited, 1)}
    parts = [f"# {topic}", lead]
    for section, heading in enumerate(headings):
        own = [sentence for sentence in sentences if sentence.section == section]
        marks = ["".join(f"[{number[text_of(one)]}]" for one in sentence.sources) for sentence in own]
        text = " ".join(f"{sentence.text} {mark}".strip() for sentence, mark in zip(own, marks, strict=True))
        parts += [f"## {heading}", text]
    return "\n\n".join(parts), cited


def main(
    topic: Annotated[str, typer.Argument(help="What the article is about.")] = "zip archives",
    model: corpus.ModelOption = "smollm2-135m",
    folder: corpus.FolderOption = None,
    encoder: corpus.EncoderOption = "hash",
) -> None:
    """Research a topic and print an article with its references."""
    homefire.configure(lm=homefire.LM(model))
    made = STORM(corpus.search_in(corpus.passages_in(folder), encoder))(topic=topic)
    console = Console()
    console.print(Markdown(made.article))
    for place, source in enumerate(made.references, 1):
        console.print(f"[{place}] {corpus.source_of(source)}", markup=False)


if __name__ == "__main__":
    corpus.run(main)
