"""How well an index finds the passages of held-out questions, by each of its methods, and the same index with another encoder.

Knows no trainer and no language model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from homefire.optimizers.question_pairs import Found
from homefire.optimizers.written_questions import key_of
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.encoder import Encoder, TokenEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

POOL = 3000
"""Passages that a comparison searches; of a larger index a sample with all that matters to the questions."""
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Scores:
    """How well one method does, question by question."""

    ndcg: tuple[float, ...]
    """nDCG@10 with the question's own passage as the only right one: 1 / log2(1 + rank) among the first ten, else 0."""
    recall: tuple[float, ...]
    """1 where its passage is the first."""

    @property
    def means(self) -> dict[str, float]:
        return {"ndcg@10": fmean(self.ndcg), "recall@1": fmean(self.recall)}


def scores_of(index: Index, held_out: Sequence[Found]) -> dict[str, Scores]:
    """The scores of every method of an index, the default one first."""
    manifest = index.manifest
    methods = dict.fromkeys((manifest.default_method, *manifest.methods))
    texts = [one.question for one in held_out]
    scores = {}
    for method in methods:
        ranks = [
            next((hit.rank for hit in hits if key_of(hit.passage) == key_of(one.passage)), None)
            for hits, one in zip(index.search(texts, _DEPTH, method=method), held_out, strict=True)
        ]
        scores[method] = Scores(
            tuple(0.0 if rank is None else 1 / math.log2(1 + rank) for rank in ranks), tuple(float(rank == 1) for rank in ranks)
        )
    return scores


def pool_of(index: Index, held_out: Sequence[Found], seed: int) -> list[Passage]:
    """The passages to search: all, or those of the questions, what looks like them, and others at random."""
    if len(index) <= POOL:
        return list(index.passages())
    wanted = {passage.id: passage for one in held_out for passage in (one.passage, *one.others)}
    rest = [passage for passage in index.passages() if passage.id not in wanted]
    more = random.Random(seed).sample(rest, min(len(rest), max(0, POOL - len(wanted))))
    return [*wanted.values(), *more]


def rebuilt(index: Index, directory: Path, passages: Iterable[Passage], encoder: Encoder, token_encoder: TokenEncoder | None) -> Index:
    """An index like the given one of these passages and encoders; without a token encoder, late interaction takes the other's tokens."""
    manifest = index.manifest
    methods = [method for method in ("dense", "bm25", "late") if method in manifest.methods or (method == "late" and token_encoder)]
    chunking = manifest.chunking
    chunker = None if chunking.tokens is None else Chunker(tokens=chunking.tokens, overlap=chunking.overlap)
    return Index.build(
        directory,
        passages,
        encoder,
        token_encoder=token_encoder,
        methods=methods,
        chunker=chunker,
        language=manifest.language,
        keep_duplicates=manifest.keep_duplicates,
        token_bits=manifest.token_bits,
    )
