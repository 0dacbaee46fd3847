"""An index finds what is near, survives kills, and refuses what it was not built with or what was damaged."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import DiskError, InputError, MissingExtra
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.reading import read_folder
from homefire.retrieval.sentence_encoder import SentenceEncoder

TEXTS = ["the cat sat on the mat", "dogs bark at the moon", "grammar keeps outputs typed", "a cat and a dog"]


def passages(texts: Sequence[str] = TEXTS) -> list[Passage]:
    return [Passage(id=f"id-{text}", text=text, source="s", metadata={"line": 7}) for text in texts]


class Renamed(HashEncoder):
    """An encoder with the name of another but vectors of its own."""

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        return -super().encode_passages(texts)


def found(index: Index, query: str, k: int = 3) -> list[str]:
    return [hit.passage.text for hit in index.search([query], k)[0]]


def test_the_nearest_come_first_for_every_query_in_order(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    cats, moons = index.search(["cat on the mat", "the moon"], k=2)
    assert [hit.rank for hit in cats] == [1, 2]
    assert cats[0].passage == passages()[0]
    assert cats[0].score > cats[1].score
    assert moons[0].passage.text == "dogs bark at the moon"


def test_scores_are_those_of_a_plain_product(tmp_path: Path) -> None:
    encoder = HashEncoder(dim=64)
    queries = ["cat", "moon dog", "typed grammar"]
    expected = encoder.encode_queries(queries) @ encoder.encode_passages(TEXTS).T
    for hits, row in zip(Index.build(tmp_path, passages(), encoder).search(queries, k=4), expected, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-6)


def test_an_opened_index_answers_as_the_built_one(tmp_path: Path) -> None:
    built = Index.build(tmp_path / "deep" / "index", passages(), HashEncoder())
    opened = Index.open(str(tmp_path / "deep" / "index"), HashEncoder())
    assert opened.search(TEXTS, 2) == built.search(TEXTS, 2)
    assert opened.manifest == built.manifest
    assert len(opened) == 4


def test_k_may_exceed_the_corpus_and_queries_may_be_none(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert len(index.search(["cat"], k=100)[0]) == 4
    assert index.search([], k=3) == []


def test_wrong_searches_are_refused(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    with pytest.raises(InputError, match="k is 0"):
        index.search(["cat"], k=0)
    with pytest.raises(InputError, match=r"string 'cat'.*search\(\[query\], k\)"):
        index.search("cat")


def test_an_empty_corpus_and_ids_used_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no passages"):
        Index.build(tmp_path, [], HashEncoder())
    with pytest.raises(InputError, match="the id 'x'"):
        Index.build(tmp_path, [Passage(id="x", text="a", source="s"), Passage(id="x", text="b", source="s")], HashEncoder())
    assert list(tmp_path.iterdir()) == []


def test_a_passage_given_twice_is_kept_once(tmp_path: Path) -> None:
    assert len(Index.build(tmp_path, passages() + passages(), HashEncoder())) == 4


def test_metadata_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Metadata values"):
        Index.build(tmp_path, [Passage(id="x", text="a", source="s", metadata={"when": b"1"})], HashEncoder())  # type: ignore[dict-item]


def test_any_text_survives_the_disk(tmp_path: Path) -> None:
    odd = [
        Passage(id=str(number), text=text, source="s")
        for number, text in enumerate(["line\nbreaks\r\nand \u2028 more", "naïve 漢字 🙂", 'quotes " and \\ back', "lone \ud800 surrogate"])
    ]
    Index.build(tmp_path, odd, HashEncoder())
    assert [hit.passage for hits in Index.open(tmp_path, HashEncoder()).search([one.text for one in odd], 1) for hit in hits] == odd


def test_added_passages_are_found_now_and_later(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert index.add(passages(["rain in spain", *TEXTS])) == 1
    assert index.add(passages()) == 0
    assert found(index, "rain") == found(Index.open(tmp_path, HashEncoder()), "rain")
    assert found(index, "rain")[0] == "rain in spain"
    assert index.manifest.count == len(index) == 5
    assert len(list(tmp_path.glob("generation-*"))) == 1


def test_an_index_changed_by_another_is_not_overwritten(tmp_path: Path) -> None:
    stale = Index.build(tmp_path, passages(), HashEncoder())
    Index.open(tmp_path, HashEncoder()).add(passages(["rain in spain"]))
    with pytest.raises(InputError, match="was changed since it was opened"):
        stale.add(passages(["snow"]))
    assert len(stale) == 4
    assert len(Index.open(tmp_path, HashEncoder())) == 5


def test_building_again_replaces_the_index(tmp_path: Path) -> None:
    Index.build(tmp_path, passages(), HashEncoder())
    Index.build(tmp_path, passages(["snow"]), HashEncoder(dim=32))
    assert found(Index.open(tmp_path, HashEncoder(dim=32)), "cat") == ["snow"]


def test_the_manifest_says_what_the_index_holds(tmp_path: Path) -> None:
    first = Index.build(tmp_path / "a", passages(), HashEncoder()).manifest
    again = Index.build(tmp_path / "b", passages(), HashEncoder()).manifest
    other = Index.build(tmp_path / "c", passages(["snow"]), HashEncoder()).manifest
    assert (first.encoder, first.dim, first.metric, first.count, first.format) == ("hash", 4096, "inner_product", 4, 1)
    assert first.corpus_sha256 == again.corpus_sha256 != other.corpus_sha256


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    Index.build(tmp_path, passages(), HashEncoder())
    with pytest.raises(InputError, match=r"built with the encoder 'hash' \(4096 dimensions\), but 'hash' \(64\)"):
        Index.open(tmp_path, HashEncoder(dim=64))
    with pytest.raises(InputError, match="only called the same"):
        Index.open(tmp_path, Renamed())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["generation-000001/passages.jsonl", "generation-000001/vectors.faiss"])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_damaged_file_is_refused_and_building_again_repairs(tmp_path: Path, name: str, harm: Callable[[Path], None]) -> None:
    Index.build(tmp_path, passages(), HashEncoder())
    harm(tmp_path / name)
    with pytest.raises(InputError, match=r"is damaged: .*Build it again"):
        Index.open(tmp_path, HashEncoder())
    Index.build(tmp_path, passages(), HashEncoder())
    assert len(Index.open(tmp_path, HashEncoder())) == 4


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"format": 1, "count": 3}'])
def test_a_damaged_manifest_is_refused_and_building_again_repairs(tmp_path: Path, content: str) -> None:
    Index.build(tmp_path, passages(), HashEncoder())
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged: manifest\.json cannot be read"):
        Index.open(tmp_path, HashEncoder())
    Index.build(tmp_path, passages(), HashEncoder())
    assert len(Index.open(tmp_path, HashEncoder())) == 4


def test_a_newer_format_and_a_folder_without_index_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no index in .*Index\.build"):
        Index.open(tmp_path / "missing", HashEncoder())
    Index.build(tmp_path, passages(), HashEncoder())
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="has format 2; expected 1"):
        Index.open(tmp_path, HashEncoder())


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="file"):
        Index.build(tmp_path / "file", passages(), HashEncoder())


def test_an_encoder_that_gives_nonsense_is_refused(tmp_path: Path) -> None:
    class Short(HashEncoder):
        def encode_passages(self, texts: Sequence[str]) -> Vectors:
            return super().encode_passages(texts[1:])

    class Endless(HashEncoder):
        def encode_passages(self, texts: Sequence[str]) -> Vectors:
            return super().encode_passages(texts) * np.float32(np.inf if texts else 1)

    with pytest.raises(InputError, match=r"shape \(3, 4096\); expected finite numbers of shape \(4, 4096\)"):
        Index.build(tmp_path, passages(), Short())
    with np.errstate(invalid="ignore"), pytest.raises(InputError, match="expected finite numbers"):
        Index.build(tmp_path, passages(), Endless())


KILLED_ADD = """
import os, signal, sys
import faiss
from pathlib import Path
from homefire.retrieval import index
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.passage import Passage

opened = index.Index.open(sys.argv[1], HashEncoder())
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "vectors":
    faiss.write_index = die
elif sys.argv[2] == "manifest":
    index.write_atomic = die
else:
    index.shutil.rmtree = lambda path, **options: die() if path.exists() else None
opened.add([Passage(id="new", text="rain in spain", source="s")])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
@pytest.mark.parametrize(("moment", "count"), [("vectors", 4), ("manifest", 4), ("cleaning", 5)])
def test_a_kill_leaves_a_whole_index_and_later_writes_work(tmp_path: Path, moment: str, count: int) -> None:
    Index.build(tmp_path, passages(), HashEncoder())
    killed = subprocess.run([sys.executable, "-c", KILLED_ADD, str(tmp_path), moment], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    index = Index.open(tmp_path, HashEncoder())
    assert len(index) == count
    assert index.add(passages(["snow"])) == 1
    assert len(Index.open(tmp_path, HashEncoder())) == count + 1
    assert {path.name for path in tmp_path.iterdir()} <= {"manifest.json", ".lock", f"generation-{index.manifest.generation:06d}"}


def test_a_reader_that_meets_a_writer_gets_the_new_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from homefire.retrieval import index as module

    writer = Index.build(tmp_path, passages(), HashEncoder())
    read, times = module._read_manifest, []

    def read_then_wait(folder: Path) -> module.Manifest:
        manifest = read(folder)
        times.append(manifest.generation)
        if len(times) == 1:
            writer.add(passages(["snow"]))
        return manifest

    monkeypatch.setattr(module, "_read_manifest", read_then_wait)
    assert len(Index.open(tmp_path, HashEncoder())) == 5


def test_copies_of_a_program_share_the_index(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert copy.deepcopy([index])[0] is index


def test_without_faiss_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[retrieval\]"'):
        Index.build(tmp_path, passages(), HashEncoder())


@pytest.mark.model
def test_files_to_ranked_passages_with_the_real_encoder(tmp_path: Path, minilm: Path) -> None:
    (tmp_path / "notes").mkdir()
    notes = {"git.md": "To undo the last commit, run git revert.", "bread.txt": "Knead the dough and let it rise.", "moon.rst": "Tides."}
    for name, text in notes.items():
        (tmp_path / "notes" / name).write_text(text, encoding="utf-8")
    encoder = SentenceEncoder(minilm)
    Index.build(tmp_path / "index", read_folder(tmp_path / "notes"), encoder)
    index = Index.open(tmp_path / "index", encoder)
    hits = index.search(["How do I roll back a change in version control?", "baking"], k=1)
    assert [hit.passage.source for [hit] in hits] == ["git.md", "bread.txt"]
    with pytest.raises(InputError, match="Open it with"):
        Index.open(tmp_path / "index", HashEncoder(dim=384))


def test_sources_and_single_passages_are_told(tmp_path: Path) -> None:
    index = Index.build(
        tmp_path / "index",
        [passage for name in ("cat", "dog") for passage in [Passage(id=name, text=name, source=f"{name}.md")]],
        HashEncoder(),
    )
    index.delete(["cat"])
    index.add([Passage(id="cow", text="cow", source="cow.md")])
    assert index.sources() == {"dog.md", "cow.md"}
    assert {name: found.text for name, found in index.get(["cat", "cow", "none"]).items()} == {"cow": "cow"}
    with pytest.raises(InputError):
        index.get("cow")
