"""From questions and an index to what an encoder learns: questions that find their passage, split by passage, with hard negatives.

Knows no language model and no trainer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from homefire.errors import InputError
from homefire.optimizers.encoder_training import EncoderRow
from homefire.optimizers.written_questions import Question, key_of
from homefire.retrieval.encoder import Encoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

_MARGIN = 0.95
"""A passage that is closer to the question than this share of its own passage's closeness may well answer it too, and is no negative
(positive-aware mining by percentage: Moreira et al., arXiv 2407.15831)."""
_LOOK = 30
"""Passages that are looked through for negatives."""


@dataclass(frozen=True, slots=True)
class Found:
    """A question that finds its passage, and what else looks like an answer."""

    question: str
    passage: Passage
    others: tuple[Passage, ...]
    """What the search ranks high beside it, the best first."""


def that_find(index: Index, questions: Sequence[Question], passages: Mapping[str, Passage], within: int) -> list[Found]:
    """The questions whose passage is among the first `within` of a search by words or by meaning.

    The others are too vague, or no questions about the passage at all. What the encoder itself finds counts too, so the encoder as it was
    has no disadvantage in a comparison on these questions.

    Args:
        index: Searches all passages.
        questions: What was asked.
        passages: By id, those that were asked about.
        within: The last rank that counts.
    """
    methods = [method for method in ("bm25", "dense") if method in index.manifest.methods]
    texts = [question.text for question in questions]
    depth = max(within, _LOOK)
    by_method = [index.search(texts, depth, method=method) for method in methods]
    found = []
    for place, question in enumerate(questions):
        passage = passages[question.passage]
        own = key_of(passage)
        rankings = [[hit.passage for hit in hits[place]] for hits in by_method]
        if any(own == key_of(one) for ranking in rankings for one in ranking[:within]):
            others = {key_of(one): one for one in rankings[0] if key_of(one) != own}
            found.append(Found(question.text, passage, tuple(others.values())))
    return found


def split(found: Sequence[Found], share: float, seed: int) -> tuple[list[Found], list[Found]]:
    """Those to learn from and those that are held out; the questions of one passage are on one side.

    Raises:
        InputError: too few passages for both.
    """
    keys = sorted({key_of(one.passage) for one in found})
    random.Random(seed).shuffle(keys)
    held = set(keys[: max(1, round(share * len(keys)))])
    learnt = [one for one in found if key_of(one.passage) not in held]
    if len(learnt) < 2:
        raise InputError(
            f"{len(found)} questions about {len(keys)} passages find their passage; that is too few to learn from some and compare by "
            "others. Ask about more passages, take a larger model to write the questions, or a greater `within`."
        )
    return learnt, [one for one in found if key_of(one.passage) in held]


def rows_of(learnt: Sequence[Found], encoder: Encoder, pool: Sequence[Passage], negatives: int, seed: int) -> list[EncoderRow]:
    """What the encoder learns: each question with its passage and as many hard negatives as asked for, filled up at random.

    Args:
        learnt: The questions.
        encoder: As it is, it says which of the others may answer the question too.
        pool: Where random ones come from.
        negatives: For each question.
        seed: Decides the random ones.
    """
    if not negatives:
        return [EncoderRow(question=one.question, positive=one.passage.text) for one in learnt]
    texts = {key_of(passage): passage.text for one in learnt for passage in (one.passage, *one.others)}
    places = {key: place for place, key in enumerate(texts)}
    vectors = encoder.encode_passages(list(texts.values()))
    questions = encoder.encode_queries([one.question for one in learnt])
    source, rows = random.Random(seed), []
    spare = list({key_of(passage): passage.text for passage in pool}.items())
    for one, question in zip(learnt, questions, strict=True):
        own = key_of(one.passage)
        limit = _MARGIN * float(vectors[places[own]] @ question)
        hard = [key_of(other) for other in one.others if float(vectors[places[key_of(other)]] @ question) <= limit][:negatives]
        chosen = {key: texts[key] for key in hard}
        for key, text in source.sample(spare, min(len(spare), negatives + len(chosen) + 1)):
            if len(chosen) < negatives and key != own:
                chosen.setdefault(key, text)
        rows.append(EncoderRow(question=one.question, positive=one.passage.text, negatives=tuple(chosen.values())))
    fewest = min(len(row.negatives) for row in rows)
    return [EncoderRow(question=row.question, positive=row.positive, negatives=row.negatives[:fewest]) for row in rows]
