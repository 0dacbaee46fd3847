"""Rerankers: scores in the order of the passages, those of the library where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import CrossEncoder

from homefire.errors import InputError, UnknownModel
from homefire.retrieval.dense import Scores
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.reranker import CrossEncoderReranker, Reranker, TokenReranker, require_reranker_scores
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import SentenceTokenEncoder
from homefire.retrieval.token_vectors import TokenVectors
from tests.retrieval.small_models import pair_model

QUERIES = ["How do I undo a commit?", "bread"]
PASSAGES = [
    ["Baking bread at home", "Reverting changes in version control", "Reverting a commit of version control is undoing it. " * 9],
    ["Baking bread at home"],
]


def test_a_cross_encoder_gives_what_the_library_gives(minilm: Path, tmp_path: Path) -> None:
    folder = pair_model(tmp_path, minilm)
    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    reranker: Reranker = CrossEncoderReranker(folder, device="cpu", batch_size=2)
    scores = reranker.score(QUERIES, PASSAGES)
    wanted = reference.predict([(query, text) for query, own in zip(QUERIES, PASSAGES, strict=True) for text in own])
    assert [len(own) for own in scores] == [3, 1]
    assert np.concatenate(scores) == pytest.approx(wanted, abs=1e-5)
    assert len(set(np.concatenate(scores).tolist())) == 4
    assert reranker.name == "model"
    assert reranker.score([], []) == []
    assert [own.shape for own in reranker.score(["a", "b"], [[], ["c"]])] == [(0,), (1,)]


def test_a_classifier_is_no_reranker(minilm: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"gives 3 scores for a pair of texts, so it classifies and does not rank"):
        CrossEncoderReranker(pair_model(tmp_path, minilm, labels=3))
    with pytest.raises(UnknownModel, match=r"no cross-encoder 'no-such/model' on this machine.*models pull NAME"):
        CrossEncoderReranker("no-such/model")


class Letters:
    """Token vectors that can be checked by hand: one for each letter, its place in the alphabet."""

    name = "letters"
    dim = 26

    def encode_queries(self, texts: list[str]) -> TokenVectors:
        return TokenVectors.of([self._letters(text) for text in texts], 26)

    encode_passages = encode_queries

    def _letters(self, text: str) -> Vectors:
        return np.eye(26, dtype=np.float32)[[ord(letter) - ord("a") for letter in text]]


def test_late_interaction_sums_the_best_match_of_each_token() -> None:
    scores = TokenReranker(Letters()).score(["abca", "z"], [["xbx", "aaa", "cab", "xbx"], ["q"]])
    assert [own.tolist() for own in scores] == [[1, 2, 4, 1], [0]]
    assert TokenReranker(Letters()).score(["a"], [[]])[0].shape == (0,)


@pytest.mark.model
def test_the_real_encoders_tokens_rank_paraphrases(minilm: Path) -> None:
    scores = TokenReranker(SentenceTokenEncoder(SentenceEncoder(minilm))).score(QUERIES, PASSAGES)
    assert int(scores[0].argmin()) == 0


def test_what_a_reranker_gives_is_checked() -> None:
    require_reranker_scores([np.zeros(3), np.zeros(1)], PASSAGES, "own")
    for wrong in ([np.zeros(3)], [np.zeros(3), np.zeros(2)], [np.array([0, np.nan, 0]), np.zeros(1)]):
        with pytest.raises(InputError, match="reranker 'own' gave scores of the shapes"):
            require_reranker_scores([own.astype(np.float32) for own in wrong], PASSAGES, "own")


class Longest:
    """Prefers long texts."""

    name = "longest"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def score(self, queries: Sequence[str], passages: Sequence[Sequence[str]]) -> list[Scores]:
        self.seen += [len(own) for own in passages]
        return [np.array([len(text) for text in own], dtype=np.float32) for own in passages]


def test_a_search_is_ranked_anew(tmp_path: Path) -> None:
    texts = {"a": "bread", "b": "bread and butter", "c": "all bread of the bakery on the corner", "d": "milk"}
    index = Index.build(tmp_path / "index", [Passage(id=id, text=text, source=id) for id, text in texts.items()], HashEncoder())
    longest = Longest()
    [hits, none] = index.search(["bread", " "], 2, method="bm25", rerank=longest)
    assert [(hit.passage.id, hit.rank, hit.score) for hit in hits] == [("c", 1, len(texts["c"])), ("b", 2, len(texts["b"]))]
    assert hits[0].scores.keys() == {"rerank", "bm25"}
    assert none == [] and longest.seen == [3, 0]
    assert [hit.passage.id for hit in index("bread", k=1, rerank=longest)] == ["c"]
    with pytest.raises(InputError, match="k is 0"):
        index.search(["bread"], 0, rerank=longest)
