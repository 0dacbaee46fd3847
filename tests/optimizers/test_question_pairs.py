"""What an encoder learns from questions: those that find their passage, split by passage, with negatives that are none of the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from homefire.errors import InputError
from homefire.optimizers.index_comparison import pool_of, rebuilt, scores_of
from homefire.optimizers.question_pairs import Found, rows_of, split, that_find
from homefire.optimizers.written_questions import Question
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

TEXTS = [
    "Cats purr at night and sleep all day.",
    "Cats hunt mice at night.",
    "Bread needs flour and water and salt.",
    "Salt comes from the sea.",
    "Trains run on rails of steel.",
    "The moon goes round the earth in a month.",
]
PASSAGES = [Passage(id=f"p{place}", text=text, source="s", position=place) for place, text in enumerate(TEXTS)]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.build(tmp_path / "index", PASSAGES, HashEncoder(512))


def test_a_question_counts_where_it_finds_its_passage(index: Index) -> None:
    asked = [Question("Do cats purr in the night?", "p0"), Question("What is what?", "p4"), Question("Who eats salt and bread?", "p2")]
    found = that_find(index, asked, {passage.id: passage for passage in PASSAGES}, within=1)
    assert [(one.question, one.passage.id) for one in found] == [(asked[0].text, "p0"), (asked[2].text, "p2")]
    assert found[0].others[0].id == "p1" and PASSAGES[0] not in found[0].others


def found_of(*places: int) -> list[Found]:
    return [Found(f"question {place} {number}?", PASSAGES[place], ()) for number, place in enumerate(places)]


def test_the_questions_of_one_passage_are_on_one_side() -> None:
    learnt, held_out = split(found_of(0, 0, 0, 1, 1, 2, 3, 4, 5), 0.3, seed=1)
    assert {one.passage.id for one in learnt} & {one.passage.id for one in held_out} == set()
    assert len(learnt) + len(held_out) == 9 and len({one.passage.id for one in held_out}) == 2
    assert split(found_of(0, 0, 0, 1, 1, 2, 3, 4, 5), 0.3, seed=1) == (learnt, held_out)
    for few in (found_of(0, 0, 0), found_of(0, 1), []):
        with pytest.raises(InputError, match="too few"):
            split(few, 0.2, seed=0)


class Given(HashEncoder):
    """Knows how close every text is to the question: by its last number."""

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        vectors = super().encode_passages(texts) * 0
        vectors[:, 0] = [float(text.split()[-1]) for text in texts]
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        vectors = super().encode_passages(texts) * 0
        vectors[:, 0] = 1
        return vectors


def numbered(*closeness: float) -> tuple[Passage, ...]:
    return tuple(Passage(id=f"n{value}", text=f"text {value}", source="s") for value in closeness)


def test_what_may_be_an_answer_too_is_no_negative() -> None:
    own, *others = numbered(0.8, 0.9, 0.77, 0.75, 0.1, 0.2)
    one = Found("q?", own, tuple(others))
    (row,) = rows_of([one], Given(4), [own, *others], 2, seed=0)
    assert (row.positive, row.negatives) == ("text 0.8", ("text 0.75", "text 0.1"))


def test_missing_negatives_are_filled_up_at_random_and_the_same_for_a_seed() -> None:
    own, close, *rest = numbered(0.8, 0.9, 0.3, 0.2, 0.1)
    made = [rows_of([Found("q?", own, (close,))], Given(4), [own, *rest], 2, seed=3)[0].negatives for _ in range(2)]
    assert made[0] == made[1] and len(set(made[0])) == 2 and own.text not in made[0]
    assert rows_of([Found("q?", own, ())], Given(4), [own], 2, seed=0)[0].negatives == ()
    assert rows_of([Found("q?", own, (close,))], Given(4), [own], 0, seed=0)[0].negatives == ()


def test_scores_say_at_which_rank_a_passage_is_found(index: Index) -> None:
    held_out = [Found(text, passage, ()) for text, passage in zip(["cats purr", "cats mice night", "xyzzy"], PASSAGES, strict=False)]
    scores = scores_of(index, held_out)
    assert next(iter(scores)) == index.manifest.default_method and set(scores) == {"fused", "dense", "bm25"}
    assert scores["bm25"].recall[:2] == (1.0, 1.0) and scores["bm25"].ndcg[2] in (0.0, *(1 / math.log2(1 + rank) for rank in range(1, 11)))
    assert scores["bm25"].means["recall@1"] == sum(scores["bm25"].recall) / 3


def test_a_large_index_is_compared_on_a_sample(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = [Found("q?", PASSAGES[5], (PASSAGES[3],))]
    assert len(pool_of(index, held_out, 0)) == 6
    monkeypatch.setattr("homefire.optimizers.index_comparison.POOL", 3)
    pool = pool_of(index, held_out, 0)
    assert [passage.id for passage in pool[:2]] == ["p5", "p3"] and len({passage.id for passage in pool}) == 3
    assert pool == pool_of(index, held_out, 0) and pool_of(index, held_out, 5) != pool_of(index, held_out, 1)


def test_an_index_is_rebuilt_as_it_was(index: Index, tmp_path: Path) -> None:
    other = rebuilt(index, tmp_path / "other", index.passages(), HashEncoder(64), None)
    assert other.manifest.methods == index.manifest.methods and other.manifest.encoder and other.manifest.encoder.dim == 64
    assert len(other) == 6 and other.manifest.language == index.manifest.language
