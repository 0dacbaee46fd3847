"""The benchmark of retrieval: its metrics, its collections, and every case at a small size, on the real encoder and the real index.

The scripts import their neighbours as they do when they are run, so their folder is on the path. The collections are read where the
environment names them with HOMEFIRE_DATA; otherwise that test is skipped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from homefire.demo_data import stdlib_docstrings
from homefire.retrieval.passage import Passage

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import retrieval_speed
from ranking_metrics import ndcg, quality, recall
from retrieval_data import COLLECTIONS, Collection, Query, collection
from retrieval_quality import Prepared, exhaustive, measure

REAL = Path(os.environ["HOMEFIRE_DATA"]) if "HOMEFIRE_DATA" in os.environ else None


def test_ndcg() -> None:
    assert ndcg(["a", "b"], {"a", "b"}) == 1
    assert ndcg(["x", "a"], {"a"}) == pytest.approx(1 / np.log2(3))
    assert ndcg(["a", "x", "b"], {"a", "b"}) == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))
    assert ndcg([*"0123456789", "a"], {"a"}) == 0, "only ten places count"
    assert ndcg(["a"], {str(number) for number in range(20)} | {"a"}) == pytest.approx(1 / sum(1 / np.log2(n + 1) for n in range(1, 11)))
    assert ndcg(["a"], set()) == 0 and ndcg([], {"a"}) == 0


def test_recall_counts_each_passage_once() -> None:
    assert recall(["a", "b", "x"], {"a", "b", "c", "d"}, 5) == 0.5
    assert recall(["x", "a"], {"a"}, 1) == 0
    assert recall(["a", "a", "b"], {"a", "b"}, 2) == 1
    assert recall(["a"], set(), 5) == 0


def test_quality_is_the_mean_over_queries() -> None:
    assert quality([["a"], ["x"]], [{"a"}, {"a"}]) == {"nDCG@10": 0.5, "R@1": 0.5, "R@5": 0.5, "R@20": 0.5}
    with pytest.raises(ValueError):
        quality([["a"]], [{"a"}, {"b"}])


@pytest.mark.skipif(REAL is None, reason="HOMEFIRE_DATA names no folder of data")
def test_the_collections() -> None:
    assert REAL is not None
    sizes = {}
    for name in COLLECTIONS:
        one = collection(REAL, name)
        ids = {passage.id for passage in one.passages}
        assert all(query.text and query.relevant and query.relevant <= ids for query in (*one.reported, *one.others))
        assert len({query.text for query in one.reported} & {query.text for query in one.others}) <= 2, "a few are asked twice"
        sizes[name] = len(one.passages), len(one.reported), len(one.others)
    assert sizes == {"scifact": (5183, 300, 809), "cranfield": (1400, 225, 0), "squad": (2067, 1000, 9570)}


@pytest.fixture(scope="module")
def prepared(minilm: Path) -> Prepared:
    """Beginnings of docstrings of Python's library, asked for by some of their words; half of the queries are not reported."""
    rows = stdlib_docstrings()
    texts = list(dict.fromkeys(" ".join(rows[index * len(rows) // 100].text.split()[:40]) for index in range(100)))
    passages = [Passage(id=str(number), text=text, source=f"source {number}") for number, text in enumerate(texts)]
    queries = [Query(" ".join(passage.text.split()[-6:]), frozenset({passage.id})) for passage in passages[::4]]
    return Prepared(Collection("docstrings", passages, queries[::2], queries[1::2]), None)


def test_the_index_ranks_as_the_references_do(prepared: Prepared) -> None:
    measured = measure(prepared)
    table = measured["table"]
    assert (measured["passages"], measured["queries"]) == (len(prepared.data.passages), len(prepared.reported))
    for method, reference in (("bm25", "bm25s"), ("dense", "dense, exhaustive"), ("late", "MaxSim, exhaustive")):
        assert table[f"index, {method}"] == pytest.approx(table[reference], abs=0.02), method
    assert table["index, fused"]["nDCG@10"] >= table["index, dense"]["nDCG@10"]
    assert table["index, fused, other queries"]["R@20"] > 0.8


def test_the_exhaustive_reference_is_maxsim(prepared: Prepared) -> None:
    queries = prepared.queries.tokens(range(3))
    scores = exhaustive(queries, prepared.passages)
    for number in range(3):
        for place in (0, 7, len(prepared.passages.texts) - 1):
            passage = prepared.passages.tokens([place])[0]
            assert scores[number, place] == pytest.approx((queries[number] @ passage.T).max(axis=1).sum(), rel=1e-4)


def test_a_third_that_was_removed_and_added_again_is_found_as_before(prepared: Prepared) -> None:
    ratios = retrieval_speed.updates(prepared)
    assert {f"index, {method} ratio" for method in ("bm25", "dense", "late", "fused")} <= set(ratios)
    assert ratios["index, bm25 ratio"] == pytest.approx(1) and ratios["index, dense ratio"] == pytest.approx(1)
    assert min(ratios.values()) > 0.95


def test_late_interaction_by_turns_with_maxsim(prepared: Prepared) -> None:
    measured = retrieval_speed.late(prepared)
    assert measured["recall_ratio"] == pytest.approx(1, abs=0.1)
    assert measured["tokens"] == len(prepared.passages.halves) and measured["bytes_a_token"] > 96
    assert measured["ratio"] > 0 and measured["single_milliseconds"] > 0


def test_an_index_of_synthetic_vectors_is_opened_and_searched_in_processes_of_its_own() -> None:
    measured = retrieval_speed.synthetic(640)
    assert (measured["passages"], measured["kind"], measured["recall"]) == (640, "flat", 1)
    assert 0 < measured["open_megabytes"] < 300
    assert measured["batch_ratio"] > 0 and measured["queries_per_second"] > 0


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    seconds = retrieval_speed.turns([(lambda n: calls.append(f"a{n}"), [1, 2]), (lambda n: calls.append(f"b{n}"), [1, 2])])
    assert calls == ["a1", "b1", "a1", "b1", "a1", "b1", "a2", "b2"]
    assert [len(one) for one in seconds] == [2, 2]
