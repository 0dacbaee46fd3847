"""BM25 over segments: the scores are those of bm25s on a rebuild of what is live, whatever was added, deleted, filtered or merged."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.retrieval.bm25 import Bm25
from homefire.retrieval.terms import TermPart, merge_terms, write_terms
from homefire.retrieval.words import Analyzer

ENGLISH = Analyzer.of("english")
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
TEXTS = [
    "The quick brown fox jumps over the lazy dog",
    "A dog barks; dogs bark when foxes jump",
    "Foxes, foxes and more foxes",
    "",
    "Nothing of interest, only a long line about bread, butter, cheese, wine and a lazy afternoon in the sun",
    "brown bread and brown butter",
]


def part(folder: Path, texts: Sequence[str], analyzer: Analyzer = ENGLISH) -> TermPart:
    folder.mkdir()
    assert write_terms(folder, iter(texts), analyzer) == len(texts)
    return TermPart.open(folder)


def rebuilt(texts: Sequence[str], queries: Sequence[str]) -> npt.NDArray[np.float64]:
    """The scores of bm25s, shape `(n_queries, n_texts)`."""
    import bm25s  # not above: it imports numba, beside which engines of other tests would take a process of their own

    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    reference.index([ENGLISH.terms(text) for text in texts], show_progress=False)
    known = reference.vocab_dict
    asked = [[term for term in ENGLISH.terms(query) if term in known] for query in queries]
    return np.array([reference.get_scores(terms) if terms else np.zeros(len(texts)) for terms in asked])


QUERIES = ["lazy dogs", "brown brown bread", "foxes jumping", "unknown words", "bread"]


def test_scores_are_those_of_bm25s(tmp_path: Path) -> None:
    bm25 = Bm25([part(tmp_path / "a", TEXTS)])
    wanted = rebuilt(TEXTS, QUERIES)
    every = np.tile(np.arange(len(TEXTS)), (len(QUERIES), 1))
    assert bm25.score(QUERIES, every) == pytest.approx(wanted, abs=1e-5)
    scores, rows = bm25.search(QUERIES, 3)
    for number in range(len(QUERIES)):
        best = [row for row in np.argsort(-wanted[number], kind="stable")[:3] if wanted[number, row] > 0]
        assert rows[number].tolist() == best + [-1] * (3 - len(best))
        assert scores[number, : len(best)] == pytest.approx(wanted[number, best], abs=1e-5)
        assert (scores[number, len(best) :] == -np.inf).all()


def test_several_segments_with_deleted_rows_score_as_one_rebuild(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a", TEXTS[:2]), part(tmp_path / "b", []), part(tmp_path / "c", TEXTS[2:])]
    live = [np.array([True, False]), np.zeros(0, dtype=bool), np.array([True, True, True, False])]
    kept = [0, 2, 3, 4]
    bm25 = Bm25(parts, live)
    wanted = rebuilt([TEXTS[row] for row in kept], QUERIES)
    assert bm25.count == 4
    assert bm25.score(QUERIES, np.tile(kept, (len(QUERIES), 1))) == pytest.approx(wanted, abs=1e-5)
    scores, rows = bm25.search(QUERIES, 6)
    assert set(rows.ravel().tolist()) <= {-1, *kept}
    assert scores[0, : (wanted[0] > 0).sum()] == pytest.approx(sorted(wanted[0][wanted[0] > 0], reverse=True), abs=1e-5)


def test_a_merge_is_the_rebuild_to_the_byte(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a", TEXTS[:3]), part(tmp_path / "b", TEXTS[3:])]
    keep = [np.array([True, False, True]), None]
    merged, fresh = tmp_path / "merged", tmp_path / "fresh"
    merged.mkdir()
    assert merge_terms(merged, parts, keep) == 5
    part(fresh, [TEXTS[row] for row in (0, 2, 3, 4, 5)])
    names = sorted(path.name for path in fresh.iterdir())
    assert names == ["counts.npy", "lengths.npy", "offsets.npy", "rows.npy", "terms.json", "terms.npy"]
    assert [(merged / name).read_bytes() for name in names] == [(fresh / name).read_bytes() for name in names]
    assert TermPart.open(merged).analyzer == ENGLISH


def test_a_filter_chooses_rows_but_does_not_change_their_scores(tmp_path: Path) -> None:
    bm25 = Bm25([part(tmp_path / "a", TEXTS)])
    mask = np.array([False, True, False, True, True, True])
    scores, rows = bm25.search(["foxes"], 2, [mask])
    assert rows.tolist() == [[1, -1]]
    assert scores[0, 0] == pytest.approx(bm25.score(["foxes"], np.array([[1]]))[0, 0])


def test_equal_passages_come_in_the_order_of_their_rows(tmp_path: Path) -> None:
    parts = [part(tmp_path / "a", ["same words"] * 30), part(tmp_path / "b", ["other", "same words"])]
    scores, rows = Bm25(parts).search(["words"], 40)
    assert rows[0, :31].tolist() == [*range(30), 31]
    assert len(set(scores[0, :31].tolist())) == 1
    assert Bm25(parts).search(["words"], 3)[1].tolist() == [[0, 1, 2]]


def test_no_texts_no_parts_and_queries_without_words(tmp_path: Path) -> None:
    empty, full = part(tmp_path / "a", []), part(tmp_path / "b", TEXTS)
    for bm25 in (Bm25([]), Bm25([empty]), Bm25([full], [np.zeros(len(TEXTS), dtype=bool)])):
        scores, rows = bm25.search(["fox", ""], 2)
        assert rows.tolist() == [[-1, -1], [-1, -1]]
        assert (scores == -np.inf).all()
    bm25 = Bm25([full])
    assert bm25.search(["", "the of ?"], 1)[1].tolist() == [[-1], [-1]]
    assert bm25.search([], 4)[1].shape == (0, 4)
    assert bm25.score(["", "fox"], np.array([[0, -1], [-1, -1]])).tolist() == [[0, -np.inf], [-np.inf, -np.inf]]


def test_a_query_of_ten_thousand_words_counts_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(2000)]
    texts = [" ".join(random.choice(vocabulary, 50)) for _ in range(300)]
    query = " ".join(random.choice(vocabulary, 10_000))
    bm25 = Bm25([part(tmp_path / "a", texts)])
    wanted = rebuilt(texts, [query])
    every = np.arange(len(texts))[None]
    assert bm25.score([query], every) == pytest.approx(wanted, rel=1e-5)
    scores, rows = bm25.search([query], 300)
    assert scores[0] == pytest.approx(wanted[0][rows[0]], rel=1e-5)
    monkeypatch.setattr("homefire.retrieval.bm25._AT_ONCE", 100)
    assert bm25.search([query], 300)[0] == pytest.approx(scores, rel=1e-6)


def test_words_that_stand_more_often_than_a_byte_counts(tmp_path: Path) -> None:
    texts = ["cat " * 300, "cat " * 70_000, "cat", "dog"]
    bm25 = Bm25([part(tmp_path / "a", texts)])
    assert bm25.parts[0].postings.counts.dtype == np.uint32
    assert bm25.score(["cat"], np.arange(4)[None]) == pytest.approx(rebuilt(texts, ["cat"]), abs=1e-5)


def test_parts_are_opened_without_being_read_and_outlive_their_removal(tmp_path: Path) -> None:
    opened = part(tmp_path / "a", TEXTS)
    assert isinstance(opened.postings.rows, np.memmap)
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    assert Bm25([opened]).search(["bread"], 1)[1].tolist() == [[5]]
    with pytest.raises(FileNotFoundError):
        TermPart.open(tmp_path / "a")


def test_many_threads_search_at_once(tmp_path: Path) -> None:
    bm25 = Bm25([part(tmp_path / "a", TEXTS), part(tmp_path / "b", TEXTS)])
    wanted = [bm25.search([query], 3) for query in QUERIES]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda query: bm25.search([query], 3), QUERIES * 20))
    for number, (scores, rows) in enumerate(found):
        assert rows.tolist() == wanted[number % len(QUERIES)][1].tolist()
        assert scores.tolist() == wanted[number % len(QUERIES)][0].tolist()


texts_of_words = st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), min_size=1, max_size=12)


@settings(deadline=None, max_examples=40)
@given(texts=texts_of_words, query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), data=st.data())
def test_any_cut_into_segments_gives_the_scores_of_one(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], query: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    cut = data.draw(st.integers(0, len(texts)))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    bm25 = Bm25([part(folder / "a", texts[:cut]), part(folder / "b", texts[cut:])], [keep[:cut], keep[cut:]])
    kept = np.flatnonzero(keep)
    _, rows = bm25.search([query], len(texts))
    if any(ENGLISH.terms(texts[row]) for row in kept):
        wanted = rebuilt([texts[row] for row in kept], [query])[0]
        assert bm25.score([query], kept[None])[0] == pytest.approx(wanted, abs=1e-5)
        assert set(rows[0][rows[0] >= 0].tolist()) == set(kept[wanted > 0].tolist())
    else:
        assert (rows == -1).all()
