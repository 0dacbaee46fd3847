"""A store finds what an exhaustive search finds, and the same after any way of getting there."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval import late_training
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.late_search import Effort
from homefire.retrieval.late_store import IdHit, LateInteractionStore
from homefire.retrieval.maxsim import maxsim
from homefire.retrieval.passage import Passage
from homefire.retrieval.token_vectors import TokenVectors
from tests.late_data import IDS, PASSAGES, filled, questions, texts, unit

QUERIES = questions(PASSAGES, 20)


@pytest.fixture(autouse=True)
def compressed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tokens are enough for a codec here."""
    monkeypatch.setattr(late_training, "COMPRESS_FROM", 1000)


def found(store: LateInteractionStore, k: int = 10) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in store.search(QUERIES, k)]


def agreement(one: list[list[str]], other: list[list[str]]) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one, other, strict=True)]))


def exhaustive(passages: list[np.ndarray] = PASSAGES, k: int = 10) -> list[list[str]]:
    return [[IDS[row] for row in rows] for rows in np.argsort(-maxsim(QUERIES, TokenVectors.of(passages)), axis=1)[:, :k]]


def test_a_store_finds_what_an_exhaustive_search_finds(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    assert store.stats().centroids > 0
    assert agreement(found(store), exhaustive()) > 0.85
    assert agreement(found(filled(tmp_path / "plain", bits=16)), exhaustive()) > 0.99
    [hits] = store.search(TokenVectors.of([PASSAGES[1]]), k=2)
    assert isinstance(hits[0], IdHit)
    assert (hits[0].id, hits[0].rank, hits[1].rank) == ("text 1", 1, 2)
    assert hits[0].score > hits[1].score
    assert len(store.search(QUERIES, k=10_000)[0]) == sum(len(passage) > 0 for passage in PASSAGES)


def test_an_opened_store_is_the_same(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    opened = LateInteractionStore.open(str(tmp_path / "store"))
    assert found(opened) == found(store)
    assert list(opened.ids()) == IDS
    assert len(opened) == 300
    assert "text 7" in opened
    assert "text 300" not in opened
    assert 7 not in opened
    read = opened.read(["text 5", "text 1"])
    assert (read[1] * PASSAGES[1]).sum(axis=1).mean() > 0.95
    with pytest.raises(InputError, match="The id 'x' is not in the store"):
        opened.read(["x"])


def test_few_tokens_are_kept_as_they_are_and_compressed_when_there_are_more(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", IDS[:20], PASSAGES[:20])
    assert store.stats().centroids == 0
    assert store.read(IDS[:20]).vectors == pytest.approx(np.concatenate(PASSAGES[:20]), abs=1e-3)
    store.add(IDS[20:], PASSAGES[20:])
    assert store.stats().centroids > 0
    assert all(view.part.report.codec for view in store._snapshot.views)
    assert agreement(found(store), found(filled(tmp_path / "at once"))) > 0.9


def test_added_texts_use_the_codec_there_is_and_drift_is_shown(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    codec = store._snapshot.manifest.codec
    store.add(["more"], texts(1, seed=11))
    assert store._snapshot.manifest.codec == codec
    assert store.stats().drift == pytest.approx(1, abs=0.1)
    strange = [unit(np.random.default_rng(seed).normal(size=(20, 24))) for seed in range(200)]
    store.add([f"strange {seed}" for seed in range(200)], strange)
    assert store.stats().drift > late_training.MOST_DRIFT
    store.compact()
    assert store._snapshot.manifest.codec != codec
    assert store.stats().drift < 1.1
    assert len(store) == 501
    [hits] = store.search([strange[3]], 1)
    assert hits[0].id == "strange 3"


def test_deleting_and_adding_a_third_again_changes_little(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    rebuilt = agreement(found(store), exhaustive())
    third = list(range(0, 300, 3))
    assert store.delete([IDS[number] for number in third]) == 100
    assert not {IDS[number] for number in third} & {one for hits in found(store) for one in hits}
    assert len(store) == 200
    store.add([IDS[number] for number in third], [PASSAGES[number] for number in third])
    assert agreement(found(store), exhaustive()) >= 0.98 * rebuilt
    store.compact()
    assert store.stats().deleted == 0
    assert store.stats().segments == 1
    assert agreement(found(store), exhaustive()) >= 0.98 * rebuilt
    assert sorted(store.ids()) == sorted(IDS)


def test_compacting_loses_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", IDS[:200], PASSAGES[:200])
    store.add(IDS[200:260], PASSAGES[200:260])
    store.add(IDS[260:], PASSAGES[260:])
    store.delete(IDS[::2])
    before = store.read(IDS[1::2]).vectors
    size = store.stats().size
    store.compact()
    assert np.array_equal(store.read(IDS[1::2]).vectors, before)
    assert store.stats().size < 0.8 * size
    commit = store._snapshot.state.commit
    store.compact()
    assert store._snapshot.state.commit == commit


def test_updates_replace_and_add(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    assert store.update(["text 1", "new"], [PASSAGES[2], PASSAGES[1]]) == 1
    assert len(store) == 301
    [hits] = store.search([PASSAGES[1]], 1)
    assert hits[0].id == "new"
    assert store.update([], []) == 0


def test_many_small_changes_make_few_segments(tmp_path: Path) -> None:
    store = LateInteractionStore.create(tmp_path / "store", 24)
    for number in range(40):
        store.add([IDS[number]], [PASSAGES[number]])
    assert store.stats().segments <= 6
    assert sorted(store.ids()) == sorted(IDS[:40])
    for number in range(0, 40, 2):
        store.delete([IDS[number]])
    assert sorted(store.ids()) == sorted(IDS[1:40:2])
    assert store.stats().deleted <= 20
    assert store.delete(IDS) == 20
    assert len(store) == 0
    assert store.stats().segments == 0
    assert found(store) == [[]] * 20


def test_candidates_of_another_search_are_ranked(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", bits=16)
    candidates = [[*IDS[number : number + 30], "not here", IDS[number]] for number in range(20)]
    scores = maxsim(QUERIES, TokenVectors.of(PASSAGES))
    for number, hits in enumerate(store.rerank(QUERIES, candidates)):
        assert len(hits) == 30
        expected = sorted(range(number, number + 30), key=lambda row: -scores[number, row])
        assert [hit.score for hit in hits] == pytest.approx(scores[number, expected].tolist(), abs=2e-3)
        assert hits[0].id == IDS[expected[0]]
    assert [len(hits) for hits in store.rerank(QUERIES, candidates, k=4)] == [4] * 20
    assert store.rerank(QUERIES, [[]] * 20) == [[]] * 20
    with pytest.raises(InputError, match="There are 1 lists of candidates for 20 queries"):
        store.rerank(QUERIES, [[]])


def test_a_search_can_be_narrowed_to_some_ids(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    some = [IDS[number] for number in range(50, 90)]
    for hits in store.search(QUERIES, 5, among=[*some, "not here"], effort=Effort(probes=2, guessed=5, scored=5)):
        assert len(hits) == 5
        assert {hit.id for hit in hits} <= set(some)
    assert store.search(QUERIES, 5, among=[]) == [[]] * 20


def test_pooling_keeps_fewer_tokens_and_finds_nearly_the_same(tmp_path: Path) -> None:
    whole, pooled = filled(tmp_path / "whole", bits=16), filled(tmp_path / "pooled", bits=16, pool_factor=2)
    assert pooled.stats().tokens < 0.6 * whole.stats().tokens
    assert agreement(found(pooled, 3), found(whole, 3)) > 0.5


def test_any_text_may_be_an_id(tmp_path: Path) -> None:
    ids = ["", " ", "../up", "a/b", "\0", "emoji 🙂", "\ud800", "x" * 5000, "\u00e9", "e\u0301"]
    store = filled(tmp_path / "store", ids, PASSAGES[:10])
    assert list(LateInteractionStore.open(tmp_path / "store").ids()) == ids
    assert store.delete(["../up", "\u00e9"]) == 2
    assert set(store.ids()) == set(ids) - {"../up", "\u00e9"}
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda store: store.add(["text 1", "text 2", "a"], PASSAGES[:3]), "The ids 'text 1', 'text 2' are in the store .* Use update"),
        (lambda store: store.add(["a", "a"], PASSAGES[:2]), "The id 'a' is given more than once"),
        (lambda store: store.add(["a"], PASSAGES[:2]), "There are 1 ids for the token vectors of 2 texts"),
        (lambda store: store.add("ab", PASSAGES[:2]), "The ids are the string 'ab'"),
        (lambda store: store.add(["a"], [np.zeros((2, 5))]), "the texts have 5 numbers; expected 24"),
        (lambda store: store.add(["a"], [np.full((2, 24), np.nan)]), "not finite"),
        (lambda store: store.add(["a"], [np.full((2, 24), 1e20)]), "long; expected lengths near 1"),
        (lambda store: store.update(["a"], [np.full((2, 24), np.inf)]), "not finite"),
        (lambda store: store.search(QUERIES, 0), "k is 0"),
        (lambda store: store.search([np.zeros((2, 5))]), "the queries have 5 numbers"),
    ],
)
def test_what_cannot_be_done_changes_nothing(tmp_path: Path, change: Callable[[LateInteractionStore], object], message: str) -> None:
    store = filled(tmp_path / "store")
    manifest = (tmp_path / "store" / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=message):
        change(store)
    assert (tmp_path / "store" / "manifest.json").read_bytes() == manifest
    assert len(store) == 300
    assert LateInteractionStore.check(tmp_path / "store").is_whole


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no late-interaction store in"):
        LateInteractionStore.open(tmp_path / "none")
    with pytest.raises(InputError, match="expected dim >= 1, bits 1, 2, 4 or 16"):
        LateInteractionStore.create(tmp_path / "none", 24, bits=3)  # type: ignore[arg-type]
    filled(tmp_path / "store", encoder="mine")
    with pytest.raises(InputError, match=r"There is a store in .* already"):
        LateInteractionStore.create(tmp_path / "store", 24)
    with pytest.raises(InputError, match="has vectors of the encoder 'mine', but 'other' was given"):
        LateInteractionStore.open(tmp_path / "store", encoder="other")
    assert LateInteractionStore.open(tmp_path / "store", encoder="mine").settings.encoder == "mine"
    Index.build(tmp_path / "index", [Passage(id="a", text="a cat", source="s")], HashEncoder(16))
    with pytest.raises(InputError, match=r"There is a manifest\.json that is of no store"):
        LateInteractionStore.create(tmp_path / "index", 24)
    assert len(Index.open(tmp_path / "index")) == 1


def test_readers_keep_their_state_until_they_refresh(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    reader = LateInteractionStore.open(tmp_path / "store")
    before = found(reader)
    store.delete(IDS[:150])
    store.compact()
    assert found(reader) == before
    assert reader.refresh()
    assert not reader.refresh()
    assert found(reader) == found(store) != before
    store.add(["later"], PASSAGES[:1])
    assert reader.delete(["later"]) == 1
    assert store.refresh()
    assert "later" not in store


def test_threads_read_while_others_write(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", IDS[:200], PASSAGES[:200])

    def write(number: int) -> None:
        store.add([IDS[number]], [PASSAGES[number]])
        store.delete([IDS[number - 200]])

    with ThreadPoolExecutor(6) as threads:
        writes = [threads.submit(write, number) for number in range(200, 212)]
        for hits in threads.map(lambda _: store.search(QUERIES, 5), range(30)):
            assert all(len(one) == 5 for one in hits)
        for done in writes:
            done.result()
    assert sorted(store.ids()) == sorted(IDS[12:212])
