"""Indexes that an older homefire wrote are searched as they are, and written anew at the first change."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_check import check_index
from tests.retrieval.index_samples import ids, passages

GOLDEN = Path(__file__).parents[1] / "golden" / "index_format_1.json"
"""The files of an index of four passages by HashEncoder(32), as format 1 was written."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    for name, data in json.loads(GOLDEN.read_text(encoding="utf-8")).items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base64.b64decode(data))
    return tmp_path


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_it_is_searched_without_being_changed(old: Path) -> None:
    before = names(old)
    for index in (Index.open(old), Index.open(old, HashEncoder(32))):
        assert (len(index), index.manifest.methods) == (4, ("dense", "bm25"))
        encoder = HashEncoder(32)
        texts = [passage.text for passage in index.passages()]
        expected = encoder.encode_queries(["the moon"]) @ encoder.encode_passages([text.replace("\ud800", "?") for text in texts]).T
        [hits] = index.search(["the moon"], 4, method="dense")
        assert [hit.score for hit in hits] == pytest.approx(sorted(expected[0].tolist(), reverse=True), abs=1e-6)
        assert hits[0].passage.metadata == {"line": 2, "lang": "en"}
        assert [hit.passage.id for hit in index.search(["naïve"], 4, method="bm25", where={"line": {"ge": 4}})[0]] == ["id-3"]
        assert index.refresh() is False
        assert check_index(old).is_whole
    assert names(old) == before


def test_the_first_change_writes_it_anew(old: Path) -> None:
    index = Index.open(old)
    assert index.add(passages(["snow"])) == 1
    assert names(old) == {"manifest.json", "manifest.copy.json", "segments", ".lock"}
    for one in (index, Index.open(old)):
        assert ids(one) == {"id-0", "id-1", "id-2", "id-3", "id-snow"}
        assert one.manifest.format == 2
    assert check_index(old).is_whole
    assert index.remove(["1.md"]) == 1


def test_building_again_replaces_it(old: Path) -> None:
    Index.build(old, passages(["snow"]), HashEncoder(16))
    assert names(old) == {"manifest.json", "manifest.copy.json", "segments", ".lock"}
    assert ids(Index.open(old)) == {"id-snow"}


def test_an_index_opened_before_the_change_goes_on(old: Path) -> None:
    index, other = Index.open(old), Index.open(old)
    other.delete(["id-0"])
    assert len(index.search(["cat"], 9, method="dense")[0]) == 4
    assert (index.refresh(), len(index), index.add(passages(["snow"]))) == (True, 3, 1)


def test_the_wrong_encoder_and_damage_are_refused(old: Path) -> None:
    with pytest.raises(InputError, match=r"'hash' \(32 dimensions\), but 'hash' \(64\)"):
        Index.open(old, HashEncoder(64))
    vectors = old / "generation-000002" / "vectors.faiss"
    data = np.frombuffer(vectors.read_bytes(), dtype=np.uint8).copy()
    data[-1] ^= 1
    vectors.write_bytes(data.tobytes())
    for refused in (Index.open, check_index):
        with pytest.raises(InputError, match=r"is damaged: generation-000002/vectors\.faiss is not what was written"):
            refused(old)
    vectors.unlink()
    with pytest.raises(InputError, match=r"is damaged: .*vectors\.faiss.* is missing"):
        Index.open(old)


def test_a_manifest_that_leads_out_is_refused(old: Path) -> None:
    manifest = json.loads((old / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = {"../passages.jsonl": "0", **manifest["files"]}
    (old / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match=r"names '\.\./passages\.jsonl', which no index has"):
        Index.open(old)
