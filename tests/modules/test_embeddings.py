"""Embeddings: what is nearest is found, kept in order, saved and loaded whole, and added to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import homefire
from homefire.errors import ConfigError, DiskError, InputError
from homefire.modules.embeddings import Embeddings, EmbeddingsWithScores
from homefire.modules.rag import RAG
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.late_store import LateInteractionStore
from homefire.retrieval.passage import Passage

CORPUS = ["Cats purr at night.", "Bread needs flour and water.", "Trains run on rails.", "Cats and trains are late."]


def words(texts: list[str]) -> Vectors:
    """A user's own function."""
    return HashEncoder(512).encode_passages(texts)


def test_as_dspys_users_write_it() -> None:
    search = homefire.Embeddings(corpus=CORPUS, embedder=words, k=2)
    prediction = search("What does bread need?")
    assert prediction.passages[0] == CORPUS[1] and prediction.indices[0] == 1
    assert len(prediction.passages) == len(prediction.indices) == 2
    assert "scores" not in prediction


def test_scores_are_cosines_and_fall() -> None:
    found = EmbeddingsWithScores(CORPUS, words, k=4)(CORPUS[2])
    assert found.indices[0] == 2 and found.scores[0] == pytest.approx(1, abs=1e-5)
    assert found.scores == sorted(found.scores, reverse=True)


def test_vectors_that_are_not_normalized() -> None:
    plain = EmbeddingsWithScores(["a", "b"], lambda texts: [[3.0, 0.0] if text == "a" else [0.0, 1.0] for text in texts], normalize=False)
    assert plain("a").scores == [9.0, 0.0]


@pytest.mark.parametrize("threshold", [20_000, 0])
def test_adding(threshold: int) -> None:
    search = EmbeddingsWithScores(CORPUS, words, k=1, brute_force_threshold=threshold)
    assert search.add(["The moon goes round the earth."]) == 1 and search.add([]) == 0
    assert len(search) == 5
    assert (search("Where does the moon go?").indices, search("flour").indices) == ([4], [1])
    assert search("moon", k=99).indices[0] == 4


def test_an_encoder_is_asked_for_queries_as_queries() -> None:
    class Asymmetric(HashEncoder):
        def encode_queries(self, texts: Any) -> Vectors:
            return super().encode_passages([text.replace("?", " flour") for text in texts])

    assert Embeddings(CORPUS, Asymmetric(), k=1)("?").indices == [1]


def test_saved_and_loaded(tmp_path: Path) -> None:
    search = EmbeddingsWithScores(CORPUS, words, k=3, brute_force_threshold=7)
    search.save(tmp_path / "saved")
    again = EmbeddingsWithScores.from_saved(str(tmp_path / "saved"), words)
    assert (again.corpus, again.k, again.normalize, again.brute_force_threshold) == (CORPUS, 3, True, 7)
    assert again("cats").toDict() == search("cats").toDict()
    again.add(["new"])
    again.save(tmp_path / "saved")
    other = Embeddings(["x"], words)
    assert other.load(tmp_path / "saved", words) is other and len(other) == 5
    assert len(list((tmp_path / "saved" / "parts").iterdir())) == 1, "what was there before is gone"


def test_a_folder_of_dspys_own(tmp_path: Path) -> None:
    config = {"k": 2, "normalize": True, "corpus": CORPUS, "has_faiss_index": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    np.save(tmp_path / "corpus_embeddings.npy", words(CORPUS).astype(np.float64))
    search = Embeddings.from_saved(tmp_path, words)
    assert search("flour").indices[0] == 1
    search.add(["More flour."])
    search.save(tmp_path)
    assert len(Embeddings.from_saved(tmp_path, words)) == 5, "what was saved last is read"


@pytest.mark.parametrize("text", ['{"name": "an app", "icons": []}', "[]", "no JSON"])
def test_a_folder_of_something_else_is_neither_read_nor_replaced(tmp_path: Path, text: str) -> None:
    index = Index.build(tmp_path / "index", [Passage(id="a", text="a cat", source="s")], HashEncoder(16))
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "manifest.json").write_text(text)
    for folder in (index.directory, tmp_path / "app"):
        with pytest.raises(InputError, match=r"holds no embeddings but something else with a manifest\.json\. Name another folder"):
            Embeddings(CORPUS, words).save(folder)
        with pytest.raises(InputError, match="holds no embeddings"):
            Embeddings.from_saved(folder, words)
    assert (tmp_path / "app" / "manifest.json").read_text() == text
    assert index("cat", k=1) and not index.refresh() and len(Index.open(index.directory)) == 1


def test_no_index_is_built_over_what_else_homefire_keeps(tmp_path: Path) -> None:
    Embeddings(CORPUS, words).save(tmp_path / "saved")
    LateInteractionStore.create(tmp_path / "store", 24)
    for folder in (tmp_path / "saved", tmp_path / "store"):
        with pytest.raises(InputError, match=r"a manifest\.json that is of no index"):
            Index.build(folder, [Passage(id="a", text="a cat", source="s")], HashEncoder(16))
    assert len(Embeddings.from_saved(tmp_path / "saved", words)) == 4
    assert len(LateInteractionStore.open(tmp_path / "store")) == 0


def test_damaged_embeddings_are_saved_anew(tmp_path: Path) -> None:
    search = Embeddings(CORPUS, words)
    search.save(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"damaged.*anew"):
        Embeddings.from_saved(tmp_path, words)
    search.save(tmp_path)
    assert len(Embeddings.from_saved(tmp_path, words)) == 4


def test_another_embedder_or_damage_is_an_error(tmp_path: Path) -> None:
    search = Embeddings(CORPUS, words)
    search.save(tmp_path / "saved")
    with pytest.raises(InputError, match="made by another embedder"):
        Embeddings.from_saved(tmp_path / "saved", HashEncoder(64))
    with pytest.raises(InputError, match="made by another embedder"):
        Embeddings.from_saved(tmp_path / "saved", lambda texts: -words(texts))
    with pytest.raises(InputError, match="no embeddings in"):
        Embeddings.from_saved(tmp_path / "nothing", words)
    with pytest.raises(InputError, match=r"There are no embeddings in .* save them there"):
        Embeddings.from_saved(__file__, words)
    (vectors,) = (tmp_path / "saved").glob("parts/*/vectors.npy")
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-8])
    with pytest.raises(InputError, match=r"damaged.*anew"):
        Embeddings.from_saved(tmp_path / "saved", words)
    vectors.write_bytes(whole)
    assert len(Embeddings.from_saved(tmp_path / "saved", words)) == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        search.save(tmp_path / "file" / "x")


@pytest.mark.parametrize("change", [{"corpus": "text"}, {"corpus": ["a", 1]}, {"k": "3"}, {"normalize": None, "corpus": None}])
def test_a_damaged_folder_of_dspys(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"k": 2, "normalize": True, "corpus": CORPUS, "has_faiss_index": False, **change}))
    np.save(tmp_path / "corpus_embeddings.npy", words(CORPUS))
    if change == {"k": "3"}:
        assert Embeddings.from_saved(tmp_path, words).k == 3
        return
    with pytest.raises(InputError, match="damaged"):
        Embeddings.from_saved(tmp_path, words)


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Embeddings([], words), InputError, "no passages"),
    (lambda: Embeddings("text", words), InputError, "expected a list of texts"),
    (lambda: Embeddings(["a", None], words), InputError, "expected a list of texts"),  # type: ignore[list-item]
    (lambda: Embeddings(CORPUS, words, k=0), InputError, "k is 0"),
    (lambda: Embeddings(CORPUS, words, brute_force_threshold=-1), InputError, "brute_force_threshold is -1"),
    (lambda: Embeddings(CORPUS, words, cache=True), ConfigError, "Embedder"),
    (lambda: Embeddings(CORPUS, lambda texts: [1.0] * len(texts)), InputError, r"shape \(4,\)"),
    (lambda: Embeddings(CORPUS, lambda texts: words(texts)[:2]), InputError, r"shape \(2, 512\)"),
    (lambda: Embeddings(CORPUS, lambda texts: [[float("nan")]] * len(texts)), InputError, "finite"),
    (lambda: Embeddings(CORPUS, lambda texts: ["x"] * len(texts)), InputError, "no array of numbers"),
    (lambda: Embeddings(CORPUS, words)(["q"]), InputError, "expected a text"),  # type: ignore[arg-type]
    (lambda: Embeddings(CORPUS, words)("q", k=-1), InputError, "k is -1"),
    (lambda: Embeddings(CORPUS, words).search("q"), InputError, "list of queries"),
    (lambda: Embeddings(CORPUS, words).add("text"), InputError, "expected a list of texts"),
]


@pytest.mark.parametrize(("make", "kind", "message"), WRONG)
def test_bad_input(make: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()


def test_an_embedder_that_changes_its_length_leaves_everything_as_it_was() -> None:
    dims = iter([4, 8, 4])
    search = Embeddings(["a", "b"], lambda texts: np.ones((len(texts), next(dims))))
    with pytest.raises(InputError, match="new vectors have 8"):
        search.add(["c"])
    assert len(search) == 2 and search.corpus == ["a", "b"] and len(search("q").passages) == 2


def test_calls_at_once_are_encoded_together() -> None:
    sizes: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def slow(texts: list[str]) -> Vectors:
        sizes.append(len(texts))
        if len(sizes) == 2:
            begun.set()
            assert go.wait(30)
        return words(texts)

    search = Embeddings(CORPUS, slow, k=1)
    found: dict[str, list[int]] = {}
    queries = ["cats purr", "flour", "rails", "late"]
    threads = [threading.Thread(target=lambda q=q: found.update({q: search(q).indices})) for q in queries]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(search._together._waiting) < 3:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert found == {"cats purr": [0], "flour": [1], "rails": [2], "late": [3]}
    assert sizes == [4, 1, 3]


def test_a_program_shares_them_and_asks_them() -> None:
    search = Embeddings(CORPUS, words)
    program = RAG(search, k=1)
    program.set_lm(homefire.ScriptedLM(['{"answer": "flour", "citations": [1]}']))
    prediction = program.deepcopy()(question="What does bread need?")
    assert prediction.citations[0].text == CORPUS[1] and program.deepcopy().index is search
