"""An index follows its documents: what is added, changed, removed or filtered is found, or found no more, now and later."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread, current_thread

import pytest

from homefire.errors import InputError
from homefire.retrieval import index_writer
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.document import Document
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.reading import Skipped, Unread
from homefire.retrieval.snapshot import Opened, Snapshot
from tests.retrieval.index_samples import HashTokens, found, ids, numbered, passages

DOCUMENTS = {"a.md": "The cat sat on the mat.", "b.md": "Dogs bark at the moon.", "c.md": "Rain falls in spain."}


def documents(**changed: str) -> list[Document]:
    return [
        Document(source, text, {"lang": "en"})
        for source, text in (DOCUMENTS | {f"{name}.md": text for name, text in changed.items()}).items()
    ]


def folders(directory: Path) -> dict[str, int]:
    return {
        kind: len(list((directory / kind).iterdir())) if (directory / kind).is_dir() else 0 for kind in ("segments", "deleted", "codecs")
    }


def test_added_passages_are_found_now_and_later(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert index.add(passages(["rain in spain", "the cat sat on the mat"])) == 1
    assert index.add(passages()) == 0
    assert found(index, "rain") == found(Index.open(tmp_path, HashEncoder()), "rain")
    assert found(index, "rain")[0] == "rain in spain"
    assert (index.manifest.count, len(index), index.manifest.generation) == (5, 5, 2)
    with pytest.raises(InputError, match=r"is Document .*; expected passages; documents go to update\(\)"):
        index.add([Document("a.md", "text")])  # type: ignore[list-item]
    with pytest.raises(InputError, match="the id 'id-rain in spain'"):
        index.add([Passage(id="id-rain in spain", text="other", source="s")])


def test_a_write_begins_with_the_newest_state(tmp_path: Path) -> None:
    stale = Index.build(tmp_path, passages(), HashEncoder())
    other = Index.open(tmp_path)
    other.add(passages(["rain in spain"]))
    assert (len(stale), stale.add(passages(["snow"])), len(stale)) == (4, 1, 6)
    assert (other.refresh(), other.refresh(), len(other)) == (True, False, 6)
    assert ids(stale) == ids(other) == ids(Index.open(tmp_path))


def test_building_again_replaces_the_index_and_leaves_nothing_of_the_old(tmp_path: Path) -> None:
    Index.build(tmp_path, numbered(50), HashEncoder(), token_encoder=HashTokens())
    Index.build(tmp_path, passages(["snow"]), HashEncoder(dim=32))
    assert found(Index.open(tmp_path, HashEncoder(dim=32)), "cat") == ["snow"]
    assert folders(tmp_path) == {"segments": 1, "deleted": 0, "codecs": 0}


def test_folders_of_the_same_names_and_odd_directories_are_safe(tmp_path: Path) -> None:
    directory = tmp_path / "odd #1 ?x=%41 & ü"
    for kind in ("segments", "codecs", "deleted", "generation-x"):
        (directory / kind).mkdir(parents=True)
        (directory / kind / "mine.txt").write_text("mine", encoding="utf-8")
    index = Index.build(directory, numbered(10), HashEncoder(dim=16))
    index.delete(["p3"])
    index.compact()
    assert len(Index.open(directory).search(["cat"], 10, method="dense")[0]) == 9
    assert len(list(directory.rglob("mine.txt"))) == 4


@pytest.mark.parametrize("text", ['{"name": "an app", "icons": []}', "[]", "no JSON"])
def test_a_manifest_of_another_program_is_never_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    for make in (lambda: Index.build(tmp_path, numbered(3), HashEncoder(16)), lambda: Index.create(tmp_path, HashEncoder(16))):
        with pytest.raises(InputError, match=r"has a manifest\.json that is of no index. Name another folder"):
            make()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == text


def test_an_update_takes_in_what_is_new_or_changed_and_skips_the_rest(tmp_path: Path) -> None:
    index = Index.create(tmp_path, HashEncoder())
    first = index.update(documents())
    assert (first.added, first.changed, first.unchanged, first.passages_added) == (3, 0, 0, 3)
    before = index.manifest.generation
    assert index.update(iter(documents())).unchanged == 3
    assert index.manifest.generation == before
    second = index.update(documents(b="Dogs bark at the sun."))
    assert (second.added, second.changed, second.unchanged, second.removed) == (0, 1, 2, 0)
    assert (second.passages_added, second.passages_removed, len(index)) == (1, 1, 3)
    assert found(index, "dogs", 1) == ["Dogs bark at the sun."]
    assert index.update([Document("a.md", DOCUMENTS["a.md"], {"lang": "de"})]).changed == 1
    assert index.update([Document("a.md", "")]).passages_removed == 1
    assert str(second) == "0 documents added, 1 changed, 2 unchanged, 0 removed; 1 passages added, 1 removed"
    assert Index.open(tmp_path).sources() == {"b.md", "c.md"}


class Counting(HashEncoder):
    """Says how many texts it has encoded."""

    def __init__(self) -> None:
        super().__init__(64)
        self.count = 0

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        self.count += len(texts)
        return super().encode_passages(texts)


def test_what_a_changed_document_keeps_is_not_encoded_again(tmp_path: Path) -> None:
    lines = [f"# Part {number}\n\nSentence {number} has a few words of its own, and says nothing else.\n\n" for number in range(40)]
    encoder, tokens = Counting(), HashTokens()
    index = Index.create(tmp_path, encoder, token_encoder=tokens, chunker=Chunker(tokens=24, overlap=0))
    index.update([Document("long.md", "".join(lines))])
    count = encoder.count
    assert count == len(index) >= 40
    lines[20] = "# Another part\n\nWith other words.\n\n"
    changes = index.update([Document("long.md", "An introduction.\n\n" + "".join(lines))])
    assert (changes.changed, changes.passages_added, len(index)) == (1, len(index), len(index))
    assert encoder.count - count <= 3
    fresh = Index.build(tmp_path / "fresh", list(index.passages()), Counting(), token_encoder=tokens)
    for method in ("dense", "late"):
        ours, theirs = (one.search(["sentence 7 and other words"], 40, method=method)[0] for one in (index, fresh))
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-2)
        assert {hit.passage.id: hit.passage for hit in ours} == {hit.passage.id: hit.passage for hit in theirs}


def test_an_update_takes_documents_only(tmp_path: Path) -> None:
    index = Index.create(tmp_path, HashEncoder(16))
    with pytest.raises(InputError, match=r"An item is Passage .*; expected documents; passages go to add\(\)"):
        index.update(numbered(1), progress=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"has the source .*a\.md.*expected a text"):
        index.update([Document(Path("a.md"), "text")], progress=False)  # type: ignore[arg-type]
    assert len(Index.open(tmp_path)) == 0


def test_pruning_removes_what_is_no_longer_there_but_never_all(tmp_path: Path) -> None:
    index = Index.build(tmp_path, documents(), HashEncoder())
    assert index.update(documents()[:2], prune=True).removed == 1
    assert index.sources() == {"a.md", "b.md"}
    with pytest.raises(InputError, match="prune would remove all"):
        index.update([], prune=True)
    with pytest.raises(InputError, match=r"Two documents have the source 'a\.md'"):
        index.update([documents()[0], documents()[0]])
    assert len(Index.open(tmp_path)) == 2


def test_what_cannot_be_read_today_is_not_forgotten(tmp_path: Path) -> None:
    names = ["a.md", "bad.md", "closed/c.md", "closed.md", "rows.csv#1", "rows.csv#2", "gone.md"]
    index = Index.build(tmp_path, [Document(name, f"The text of {name}.") for name in names], HashEncoder())
    unread = Unread()

    def read() -> Iterator[Document]:
        yield Document("a.md", "The text of a.md.")
        unread(Skipped("bad.md", "it is broken."))
        unread(Skipped("closed", "it may not be listed."))
        unread(Skipped("rows.csv", "a row is broken.", whole=False))

    changes = index.update(read(), prune=True, keep=unread)
    assert (changes.unchanged, changes.removed, changes.kept) == (1, 2, 4)
    assert index.sources() == Index.open(tmp_path).sources() == {*names} - {"closed.md", "gone.md"}


def test_documents_are_cut_as_the_index_was_told(tmp_path: Path) -> None:
    text = "\n\n".join(f"Sentence {number} has a few words of its own." for number in range(12))
    index = Index.build(tmp_path, [Document("long.md", text)], HashEncoder(), chunker=Chunker(tokens=30, overlap=0))
    count = len(index)
    assert count > 3
    Index.open(tmp_path).update([Document("other.md", text.replace("few", "couple"))])
    index.refresh()
    assert len(index) == 2 * count
    assert {passage.metadata["line"] for passage in index.passages()} > {1}


def test_removed_documents_and_deleted_passages_are_found_no_more(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(20), HashEncoder(), token_encoder=HashTokens())
    assert index.remove(["doc-0", "doc-9"]) == 1
    assert index.delete(["p7", "p7", "p3", "unknown"]) == 1
    gone = {f"p{number}" for number in range(5)} | {"p7"}
    for one in (index, Index.open(tmp_path, token_encoder=HashTokens())):
        assert ids(one) == {f"p{number}" for number in range(20)} - gone
        assert (len(one), one.get(["p7", "p8"]).keys(), one.sources()) == (14, {"p8"}, {"doc-1", "doc-2", "doc-3"})
        for method in ("dense", "bm25", "late", "fused"):
            [hits] = one.search(["passage 7 of the cat"], 20, method=method)
            assert len(hits) == 14 and not gone & {hit.passage.id for hit in hits}
    assert index.add(numbered(8)) == 6
    assert found(index, numbered(8)[7].text, 1) == [numbered(8)[7].text]
    with pytest.raises(InputError, match="list of sources"):
        index.remove("doc-1")


def test_deleting_everything_leaves_an_empty_index_that_goes_on(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(10), HashEncoder())
    assert index.remove(["doc-0", "doc-1"]) == 2
    assert (len(index), index.search(["cat"], 3), folders(tmp_path)) == (0, [[]], {"segments": 0, "deleted": 0, "codecs": 0})
    assert index.add(numbered(3)) == 3
    assert len(Index.open(tmp_path)) == 3


def test_compacting_drops_deleted_rows_and_changes_no_answer(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(30), HashEncoder(), token_encoder=HashTokens())
    index.add(numbered(10, first=30))
    index.remove(["doc-2", "doc-6"])
    before = index.search(["a dog in the snow"], 10)
    stats = index.stats()
    assert (stats.segments, stats.deleted) == (2, 10)
    index.compact()
    stats = index.stats()
    assert (stats.segments, stats.deleted, stats.passages) == (1, 0, 30)
    assert [hit.passage for hit in index.search(["a dog in the snow"], 10)[0]] == [hit.passage for hit in before[0]]
    generation = index.manifest.generation
    index.compact()
    assert index.manifest.generation == generation
    assert folders(tmp_path) == {"segments": 1, "deleted": 0, "codecs": 0}


def test_merging_does_not_gather_the_vectors_in_memory(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(2000), HashEncoder(dim=1024), methods=["dense"])
    index.add(numbered(2000, first=2000))
    assert len(index.manifest.segments) == 2
    tracemalloc.start()
    index.compact()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index.manifest.segments) == 1
    assert peak < 4000 * 1024 * 4 / 2, "bytes; half of the vectors"


def test_a_refresh_in_one_thread_does_not_undo_what_another_one_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refresh has opened a state, and is held up until the other thread has committed a newer one."""
    index = Index.build(tmp_path, numbered(5), HashEncoder(16))
    Index.open(tmp_path, HashEncoder(16)).add(numbered(5, first=5))
    adding = Thread(target=lambda: index.add(numbered(5, first=10)))
    real = index._store.open

    def held_up(*opened: Opened) -> Snapshot:
        snapshot = real(*opened)
        if current_thread() is not adding:
            adding.start()
            while Index.open(tmp_path).manifest.generation == snapshot.manifest.generation:
                adding.join(0.01)
            adding.join(0.2)  # until it has ended, or waits for this refresh to end
        return snapshot

    monkeypatch.setattr(index._store, "open", held_up)
    index.refresh()
    adding.join()
    assert len(index) == 15


def test_many_small_additions_make_few_segments(tmp_path: Path) -> None:
    index = Index.create(tmp_path, HashEncoder(dim=16))
    for number in range(14):
        index.add(numbered(1, first=number))
        assert len(index.manifest.segments) < 4
    assert ids(index) == {f"p{number}" for number in range(14)}


def test_a_large_corpus_comes_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "PORTION", 10)
    monkeypatch.setattr(index_writer, "LATE_PORTION", 7)
    index = Index.build(tmp_path / "whole", numbered(95), HashEncoder(dim=16), token_encoder=HashTokens())
    assert (len(index), len(index.manifest.segments)) == (95, 1)
    text = "\n\n".join(f"Sentence {number} has a few words of its own." for number in range(60))
    grown = Index.create(tmp_path / "grown", HashEncoder(dim=16), token_encoder=HashTokens(), chunker=Chunker(tokens=15, overlap=0))
    some = [Document(f"{number}.md", text.replace("Sentence", f"Line {number}")) for number in range(3)]
    changes = grown.update(some, progress=False)
    assert (changes.added, changes.passages_added, grown.manifest.generation > 3) == (3, len(grown), True)
    assert len(grown) > 100
    assert grown.update(some, progress=False).unchanged == 3


def test_an_update_that_stopped_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "PORTION", 10)
    index = Index.create(tmp_path, HashEncoder(dim=16))
    some = [Document(f"{number}.md", f"Document {number} of many.") for number in range(50)]

    def stops() -> object:
        yield from some[:34]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        index.update(stops(), progress=False)  # type: ignore[arg-type]
    assert len(Index.open(tmp_path)) == 30
    changes = index.update(some, progress=False)
    assert (changes.added, changes.unchanged, len(index)) == (20, 30, 50)


def test_the_same_text_is_searched_once_and_taken_up_again_when_it_would_be_lost(tmp_path: Path) -> None:
    index = Index.build(tmp_path, documents(d="  the CAT sat\non the mat. "), HashEncoder())
    assert (len(index), index.manifest.duplicates, index.sources()) == (3, 1, {"a.md", "b.md", "c.md", "d.md"})
    assert index.update(documents(d="  the CAT sat\non the mat. ")).unchanged == 4
    index.remove(["a.md"])
    assert (len(index), index.manifest.duplicates) == (3, 0)
    assert [hit.passage.source for hit in index.search(["the cat sat on the mat"], 1)[0]] == ["d.md"]
    assert index.update(documents(d="  the CAT sat\non the mat. ")).duplicates == 1
    index.compact()
    assert index.update([Document("d.md", "Something else.")]).passages_added == 1
    assert [hit.passage.source for hit in index.search(["the cat sat on the mat"], 1)[0]] == ["a.md"]
    assert (len(index), index.manifest.duplicates) == (4, 0)


def test_duplicates_are_kept_where_that_is_wanted(tmp_path: Path) -> None:
    index = Index.build(tmp_path, documents(d=DOCUMENTS["a.md"]), HashEncoder(), keep_duplicates=True)
    assert (len(index), index.manifest.duplicates) == (4, 0)
    assert sorted(hit.passage.source for hit in index.search(["the cat sat on the mat"], 2)[0]) == ["a.md", "d.md"]


FILTERS = [
    ({"number": 7}, {7}),
    ({"number": [1, 3, 99]}, {1, 3}),
    ({"number": {"ge": 17}}, {17, 18, 19}),
    ({"number": {"gt": 4, "lt": 7}}, {5, 6}),
    ({"number": {"le": 1}, "source": "doc-0"}, {0, 1}),
    ({"number": {"ne": 0}, "source": ["doc-0"]}, {1, 2, 3, 4}),
    ({"source": {"prefix": "doc-"}, "id": ["p4", "p5"]}, {4, 5}),
    ({"parity": "even", "number": {"lt": 5}}, {0, 2, 4}),
    ({"parity": {"gt": "even"}, "number": {"lt": 3}}, {1}),
    ({"half": 3.5}, {7}),
    ({"big": True, "number": {"lt": 12}}, {10, 11}),
    ({"number": {"ge": "a"}}, set()),
    ({"parity": {"ge": 0}}, set()),
    ({"position": {"ge": 18}}, {18, 19}),
    ({"only": 1}, {0}),
    ({"number": []}, set()),
]


@pytest.mark.parametrize("pieces", [1, 3])
def test_filters_let_through_what_they_say(tmp_path: Path, pieces: int) -> None:
    index = Index.create(tmp_path, HashEncoder(dim=64), token_encoder=HashTokens())
    for piece in range(pieces):
        index.add(
            Passage(
                id=one.id,
                text=one.text,
                source=one.source,
                position=number,
                metadata={"number": number, "parity": ["even", "odd"][number % 2], "half": number / 2, "big": number >= 10}
                | ({"only": 1} if number == 0 else {}),
            )
            for number, one in enumerate(numbered(20))
            if number % pieces == piece
        )
    for where, wanted in FILTERS:
        for method in ("dense", "bm25", "late", "fused"):
            [hits] = index.search(["a passage of the cat"], 20, method=method, where=where)
            assert {int(hit.passage.id[1:]) for hit in hits} == wanted, (where, method)
    index.delete(["p7"])
    assert index.search(["passage"], 3, where={"number": 7}) == [[]]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"nmber": 3}, "field 'nmber', which no passage of the index has; did you mean 'number'"),
        ({"number": {"gee": 3}}, "by 'gee'; did you mean 'ge'"),
        ({"number": {}}, "asks nothing of 'number'"),
        ({"number": None}, "wants 'number' to be None"),
        ({"number": float("nan")}, "wants 'number' to be nan"),
        ({"source": {"prefix": 3}}, "begin with 3"),
        ({"number": {"in": 3}}, "in 3; expected a list"),
        (["number"], "expected a mapping"),
    ],
)
def test_filters_that_cannot_be_used_are_refused(tmp_path: Path, where: object, said: str) -> None:
    index = Index.build(tmp_path, numbered(5), HashEncoder(dim=16))
    with pytest.raises(InputError, match=said):
        index.search(["cat"], where=where)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        index.search([""], where=where)  # type: ignore[arg-type]


def test_readers_need_no_right_to_write(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", numbered(5), HashEncoder(dim=16))
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    opened = Index.open(tmp_path / "index")
    assert len(opened.search(["cat"], 5, where={"number": {"ge": 0}})[0]) == 5
    opened.stats()
    opened.check()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    assert os.access(tmp_path, os.R_OK)
