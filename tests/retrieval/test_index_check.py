"""Damage is named, and mended from what is whole: on real files, each harmed in turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import homefire
from homefire.errors import InputError
from homefire.retrieval.document import Document
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_check import check_index
from homefire.retrieval.passage import Passage
from tests.retrieval.index_samples import HashTokens, ids, numbered


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


HARMS = {"cut": cut, "flip": flip, "remove": Path.unlink}


def built(directory: Path) -> Index:
    """An index with two segments, deleted rows, a codec and documents."""
    texts = [" ".join(f"word{(number * step) % 997}" for step in range(1, 40)) for number in range(300)]
    index = Index.build(
        directory,
        [Passage(id=f"t{number}", text=text, source=f"text-{number}") for number, text in enumerate(texts)],
        HashEncoder(dim=64),
        token_encoder=HashTokens(),
    )
    index.update([Document(f"{number}.md", f"Document {number} of the few.") for number in range(5)], progress=False)
    index.delete(["t7"])
    assert (len(index), len(index.manifest.segments), index.manifest.codec is not None) == (304, 2, True)
    return index


def opened(directory: Path) -> Index:
    return Index.open(directory, HashEncoder(dim=64), token_encoder=HashTokens())


def answers(index: Index) -> list[float]:
    """Scores by each method; token vectors that are compressed by another codec give slightly different ones."""
    queries = ["word13 word26 word39", "a document of few"]
    return [hit.score for method in ("dense", "bm25", "late") for hits in index.search(queries, 5, method=method) for hit in hits]


def mended(directory: Path) -> homefire.retrieval.index_check.CheckReport:
    report = check_index(directory, HashEncoder(dim=64), token_encoder=HashTokens(), repair=True)
    assert check_index(directory).is_whole
    return report


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.parent != directory)


def test_a_whole_index_has_no_problems(tmp_path: Path) -> None:
    index = built(tmp_path)
    assert index.check() == index.check(repair=True) == homefire.check_index(tmp_path)
    assert index.check().is_whole and index.check().problems == ()


def test_every_damage_to_every_file_is_found_and_mended_or_named(tmp_path: Path) -> None:
    """Each kind of file, harmed in each way; an index is copied back from bytes for each."""
    index = built(tmp_path)
    before, whole = answers(index), {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    first = min(index.manifest.segments, key=lambda entry: entry.rows).name
    harmed = [
        path
        for path in files(tmp_path)
        if first in str(path) or (path.parts[-2].startswith("0") and "codecs" in path.parts) or "deleted" in path.parts
    ]
    assert {path.name for path in harmed} > {"passages.db", "sources.jsonl", "vectors.npy", "terms.npy", "codes.npy", "codec.json"}
    for number, path in enumerate(harmed):
        harm = list(HARMS.values())[number % 3]
        harm(path)
        report = check_index(tmp_path)
        assert len(report.problems) == 1 and path.name in report.problems[0], report
        if harm is not flip:
            with pytest.raises(InputError, match=r"is damaged: .*check_index\(directory, repair=True\)"):
                opened(tmp_path)
        after = mended(tmp_path)
        assert after.repaired
        one = opened(tmp_path)
        if path.name == "passages.db":
            assert (len(one), after.lost_passages, after.lost) == (299, 5, tuple(f"{number}.md" for number in range(5)))
        elif "deleted" in path.parts:
            assert (len(one), "t7" in ids(one)) == (305, True)
        else:
            assert answers(one) == pytest.approx(before, abs=0.2 if "codecs" in path.parts else 1e-3), path
            assert (
                one.update([Document(f"{number}.md", f"Document {number} of the few.") for number in range(5)], progress=False).unchanged
                == 5
            )
        for old in [path for path in tmp_path.rglob("*") if path.is_file() and path not in whole]:
            old.unlink()
        for old, data in whole.items():
            old.parent.mkdir(parents=True, exist_ok=True)
            old.write_bytes(data)


@pytest.mark.parametrize(("name", "method"), [("codes.npy", "late"), ("rows.npy", "bm25"), ("passages.db", "dense")])
def test_a_search_that_meets_damage_says_how_to_mend_it(tmp_path: Path, name: str, method: str) -> None:
    """As in a large file, which nobody reads when the index is opened: here the damage comes later, in place."""
    built(tmp_path)
    index = opened(tmp_path)
    [largest, *_] = sorted(tmp_path.rglob(name), key=lambda path: -path.stat().st_size)
    with largest.open("r+b") as file:
        file.seek(128)
        file.write(b"\xff" * (largest.stat().st_size - 128))
    for wanted in (method, "fused"):
        with pytest.raises(InputError, match=r"A file of the index seems to be damaged: .*check_index\(directory, repair=True\)"):
            index.search(["word13 word26 word39"], 5, method=wanted)


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"format": 2, "count": 3}'])
def test_a_damaged_manifest_is_refused_and_its_copy_mends_it(tmp_path: Path, content: str) -> None:
    before = answers(built(tmp_path))
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged: manifest\.json cannot be read"):
        opened(tmp_path)
    problem = check_index(tmp_path).problems[0]
    assert problem.startswith("manifest.json ") and problem.count("manifest.json") == 1 and "repair" not in problem
    assert "restored from its copy" in mended(tmp_path).repaired[0]
    assert answers(opened(tmp_path)) == before


def changed(directory: Path, change: Callable[[dict[str, object]], object]) -> None:
    """Changes the manifest, as one who knows that manifests without a checksum are read too."""
    manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"]
    change(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_manifest_that_leads_out_of_the_directory_or_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", numbered(3), HashEncoder(dim=16))
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "deleted.npy", np.arange(3))
    text = (tmp_path / "index" / "manifest.json").read_text(encoding="utf-8")
    name = json.loads(text)["segments"][0]["name"]
    harms: list[Callable[[dict[str, object]], object]] = [
        lambda manifest: manifest["files"].update({"../x/deleted.npy": {"size": 152, "sha256": ""}}),  # type: ignore[attr-defined]
        lambda manifest: manifest["segments"][0].update(name="../x"),  # type: ignore[index]
        lambda manifest: manifest["segments"][0].update(deleted="../x/deleted.npy"),  # type: ignore[index]
        lambda manifest: manifest.update(codec="segments/../../x"),
        lambda manifest: manifest["segments"][0].update(rows=4),  # type: ignore[index]
        lambda manifest: manifest["segments"].append({"name": "segments/000001-none", "rows": 1}),  # type: ignore[attr-defined]
        lambda manifest: manifest.update(unknown=1),
        lambda manifest: manifest.pop("methods"),
    ]
    for harm in harms:
        changed(tmp_path / "index", harm)
        with pytest.raises(InputError, match="is damaged"):
            Index.open(tmp_path / "index")
        (tmp_path / "index" / "manifest.json").write_text(text, encoding="utf-8")
    assert len(Index.open(tmp_path / "index")) == 3
    assert (tmp_path / "index" / name).is_dir()


def test_a_newer_format_and_a_folder_without_index_are_refused(tmp_path: Path) -> None:
    for refused in (lambda: Index.open(tmp_path / "missing"), lambda: check_index(tmp_path / "missing")):
        with pytest.raises(InputError, match="no index in"):
            refused()
    Index.build(tmp_path, numbered(3), HashEncoder(dim=16))
    changed(tmp_path, lambda manifest: manifest.update(format=3))
    with pytest.raises(InputError, match="has format 3; expected 2"):
        Index.open(tmp_path)


def test_building_again_mends_everything(tmp_path: Path) -> None:
    built(tmp_path)
    for path in files(tmp_path):
        path.unlink()
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.copy.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError):
        check_index(tmp_path, repair=True)
    assert len(built(tmp_path)) == 304


def test_a_missing_encoder_is_asked_for_where_vectors_must_be_made_again(tmp_path: Path) -> None:
    class Own(HashEncoder):
        def __init__(self) -> None:
            super().__init__(16)
            self.name = "own"

    Index.build(tmp_path, numbered(3), Own())
    [vectors] = tmp_path.rglob("vectors.npy")
    flip(vectors)
    with pytest.raises(InputError, match="'own', which homefire does not know"):
        check_index(tmp_path, repair=True)
    assert check_index(tmp_path, Own(), repair=True).repaired
    assert len(Index.open(tmp_path, Own()).search(["cat"], 3, method="dense")[0]) == 3
