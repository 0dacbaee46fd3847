"""An index finds what is near by every method, and refuses what it was not built with and what cannot be asked."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
import Stemmer

from homefire.errors import DiskError, InputError, MissingExtra
from homefire.retrieval.document import Document
from homefire.retrieval.encoder import HashEncoder, Vectors
from homefire.retrieval.fusion import reciprocal_rank
from homefire.retrieval.index import Index
from homefire.retrieval.maxsim import maxsim
from homefire.retrieval.passage import Passage
from homefire.retrieval.reading import read_folder
from homefire.retrieval.sentence_encoder import SentenceEncoder
from tests.retrieval.index_samples import TEXTS, HashTokens, Renamed, found, ids, numbered, passages


def test_the_nearest_come_first_for_every_query_in_order(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    cats, moons = index.search(["cat on the mat", "the moon"], k=2)
    assert [hit.rank for hit in cats] == [1, 2]
    assert cats[0].passage == passages()[0]
    assert cats[0].score > cats[1].score
    assert moons[0].text == "dogs bark at the moon"


def test_dense_scores_are_those_of_a_plain_product(tmp_path: Path) -> None:
    encoder = HashEncoder(dim=64)
    queries = ["cat", "moon dog", "typed grammar"]
    expected = encoder.encode_queries(queries) @ encoder.encode_passages(TEXTS).T
    results = Index.build(tmp_path, passages(), encoder).search(queries, k=4, method="dense")
    for hits, row in zip(results, expected, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-6)
        assert [hit.scores for hit in hits] == [{"dense": hit.score} for hit in hits]


def in_segments(directory: Path, some: Sequence[Passage], pieces: int = 4, **options: object) -> Index:
    """An index of those passages in several segments, with others that were deleted in each."""
    index = Index.create(directory, **options)  # type: ignore[arg-type]
    for piece in range(pieces):
        here = list(some[piece::pieces])
        index.add([*here, Passage(id=f"gone-{piece}", text=f"{some[0].text} gone {piece}", source="gone")])
        index.delete([f"gone-{piece}"])
    return index


def test_bm25_over_segments_is_bm25s_on_a_rebuild(tmp_path: Path) -> None:
    import bm25s  # not above: it imports numba, beside which engines of other tests would take a process of their own

    some = numbered(40)
    index = in_segments(tmp_path, some, pieces=3, encoder=None, methods=["bm25"])
    assert len(index.manifest.segments) == 3
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    stemmer = Stemmer.Stemmer("english")
    reference.index(bm25s.tokenize([one.text for one in some], stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    for query in ["cats and the moon", "passage 7 river", "snow snow bread"]:
        tokens = bm25s.tokenize([query], stopwords="en", stemmer=stemmer, show_progress=False)
        _, scores = reference.retrieve(tokens, k=10, show_progress=False)
        assert [hit.score for hit in index.search([query], 10)[0]] == pytest.approx(scores[0].tolist(), abs=1e-4)


def test_late_interaction_is_maxsim_as_long_as_nothing_is_compressed(tmp_path: Path) -> None:
    some, tokens = numbered(30), HashTokens()
    index = in_segments(tmp_path, some, pieces=3, encoder=None, token_encoder=tokens, methods=["late"])
    queries = ["a cat near the river", "stone tower"]
    exact = maxsim(tokens.encode_queries(queries), tokens.encode_passages([one.text for one in some]))
    for hits, row in zip(index.search(queries, 5), exact, strict=True):
        assert [hit.score for hit in hits] == pytest.approx(sorted(row.tolist(), reverse=True)[:5], abs=2e-3)


def test_late_interaction_compresses_many_vectors_and_still_finds(tmp_path: Path) -> None:
    draw = Random(0)
    texts = [" ".join(f"word{draw.randrange(3000)}" for _ in range(12)) for _ in range(1200)]
    index = Index.build(tmp_path, passages(texts), methods=["late"], token_encoder=HashTokens())
    stats = index.stats()
    assert (stats.token_bits, stats.default_method, index.manifest.codec is not None) == (2, "late", True)
    assert stats.bytes_of["late"] < stats.tokens * 40
    opened = Index.open(tmp_path, token_encoder=HashTokens())
    assert [hits[0].text for hits in opened.search(texts[::100], 1)] == texts[::100]
    index.add([Passage(id="new", text="an unheard of zebra", source="new")])
    assert found(index, "an unheard of zebra", 1) == ["an unheard of zebra"]
    index.compact()
    assert found(index, "an unheard of zebra", 1) == ["an unheard of zebra"]


def test_fusion_scores_every_candidate_by_every_method(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(30), HashEncoder(), token_encoder=HashTokens())
    assert index.manifest.methods == ("dense", "bm25", "late")
    assert index.manifest.default_method == "fused"
    query = numbered(30)[17].text
    [hits] = index.search([query], 5)
    assert hits[0].passage.id == "p17"
    for hit in hits:
        assert set(hit.scores) == {"fused", "dense", "bm25", "late"}
        for method in index.manifest.methods:
            [alone] = index.search([query], 30, method=method)
            known = {one.passage.id: one.score for one in alone}
            assert hit.scores[method] == pytest.approx(known.get(hit.passage.id, 0.0), abs=1e-4)


def test_one_method_ranks_what_another_one_finds(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(30), HashEncoder(), token_encoder=HashTokens())
    query = "a cat and the moon 3"
    [hits] = index.search([query], 5, method="bm25", rerank="late")
    [late] = index.search([query], 5, method="late")
    assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in late]
    assert [hit.score for hit in hits] == pytest.approx([hit.scores["late"] for hit in hits])
    assert all(set(hit.scores) == {"late", "bm25"} for hit in hits)
    [few] = index.search(["passage 3"], 30, method="bm25", rerank="dense", where={"number": [3, 4]})
    assert {hit.passage.id for hit in few} == {"p3", "p4"}
    with pytest.raises(InputError, match=r"rerank is 'lat'; did you mean 'late'"):
        index.search([query], rerank="lat")
    with pytest.raises(InputError, match=r"rerank is 'fused'"):
        index.search([query], rerank="fused")


def test_a_fusion_is_any_function_of_the_scores(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(30), HashEncoder())
    query = "a cat and the moon 3"
    [hits] = index.search([query], 5, fusion=lambda scores: scores["bm25"])
    [bm25] = index.search([query], 5, method="bm25")
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in bm25])
    [by_rank] = index.search([query], 5, fusion=reciprocal_rank)
    assert [hit.score for hit in by_rank] == sorted((hit.score for hit in by_rank), reverse=True)
    assert 1 / 61 < by_rank[0].score <= 2 / 61 + 1e-6


def test_the_answer_does_not_depend_on_how_passages_came(tmp_path: Path) -> None:
    some = numbered(60)
    whole = Index.build(tmp_path / "whole", some, HashEncoder(), token_encoder=HashTokens())
    pieces = in_segments(tmp_path / "pieces", some, pieces=3, encoder=HashEncoder(), token_encoder=HashTokens())
    assert (len(whole.manifest.segments), len(pieces.manifest.segments)) == (1, 3)
    assert whole.manifest.corpus_sha256 == pieces.manifest.corpus_sha256
    for method in ("dense", "bm25", "late", "fused"):
        ours, theirs = (one.search(["a dog in the snow", "bread"], 10, method=method) for one in (whole, pieces))
        for a, b in zip(ours, theirs, strict=True):
            assert [hit.score for hit in a] == pytest.approx([hit.score for hit in b], abs=1e-4)
    pieces.compact()
    assert len(pieces.manifest.segments) == 1
    assert [hit.score for hit in pieces.search(["a dog in the snow"], 10)[0]] == pytest.approx(
        [hit.score for hit in whole.search(["a dog in the snow"], 10)[0]], abs=1e-4
    )


def test_k_may_exceed_the_corpus_and_queries_may_be_none_blank_or_long(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    for method in ("dense", "bm25", "fused"):
        assert len(index.search(["cat grammar moon"], k=100, method=method)[0]) == 4
        assert index.search([], k=3, method=method) == []
        assert index.search(["", " \n", "cat"], k=1, method=method)[:2] == [[], []]
        assert index.search(["", " \n", "cat"], k=1, method=method)[2][0].text in (TEXTS[0], TEXTS[3])
        assert found(index, "moon " * 10_000, 1, method=method) == ["dogs bark at the moon"]
        assert index.search(["\ud800 moon"], k=1, method=method)[0][0].text == "dogs bark at the moon"


def test_wrong_searches_are_refused(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    with pytest.raises(InputError, match="k is 0"):
        index.search(["cat"], k=0)
    with pytest.raises(InputError, match=r"string 'cat'.*search\(\[query\], k\)"):
        index.search("cat")
    with pytest.raises(InputError, match=r"method is 'bm52'; did you mean 'bm25'.*dense, bm25, fused"):
        index.search(["cat"], method="bm52")
    with pytest.raises(InputError, match=r"method is 'late'.* This index has dense"):
        index.search(["cat"], method="late")
    with pytest.raises(InputError, match=r"A query is 3, which is int; expected a text"):
        index.search(["cat", 3])  # type: ignore[list-item]


def test_wrong_builds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no passages"):
        Index.build(tmp_path, [], HashEncoder())
    with pytest.raises(InputError, match="the id 'x'"):
        Index.build(tmp_path, [Passage(id="x", text="a", source="s"), Passage(id="x", text="b", source="s")], HashEncoder())
    with pytest.raises(InputError, match="names 'dens'; did you mean 'dense'"):
        Index.build(tmp_path, passages(), HashEncoder(), methods=["dens"])
    with pytest.raises(InputError, match=r"needs one a token. Give a token_encoder"):
        Index.build(tmp_path, passages(), HashEncoder(), methods=["dense", "late"])
    with pytest.raises(InputError, match="no language 'englisch'; did you mean 'english'"):
        Index.build(tmp_path, passages(), HashEncoder(), methods=["bm25"], language="englisch")
    with pytest.raises(InputError, match="token_bits is 3"):
        Index.build(tmp_path, passages(), HashEncoder(), token_bits=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"is str 'cat'; expected passages and documents"):
        Index.build(tmp_path, ["cat"], HashEncoder())  # type: ignore[list-item]
    with pytest.raises(InputError, match="Metadata values"):
        Index.build(tmp_path, [Passage(id="x", text="a", source="s", metadata={"when": b"1"})], HashEncoder())  # type: ignore[dict-item]
    for item, said in (
        (Document(Path("a.md"), "text"), r"has the source .*a\.md.*, which is .*Path; expected a text: str"),  # type: ignore[arg-type]
        (Document("a.md", b"text"), "has the text b'text', which is bytes"),  # type: ignore[arg-type]
        (Document("a.md", "text", {1: "a", "b": "c"}), "has the name in the metadata 1, which is int"),  # type: ignore[dict-item]
        (Passage(id=1, text="a", source="s"), r"are texts \(str\); expected no Passage\(id=1"),  # type: ignore[arg-type]
        (Passage(id="1", text="a", source=Path("s")), r"are texts \(str\); expected no Passage\(id='1'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError, match=said):
            Index.build(tmp_path, [item], HashEncoder())
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]


def test_an_opened_index_answers_as_the_built_one(tmp_path: Path) -> None:
    built = Index.build(tmp_path / "deep" / "index", passages(), HashEncoder())
    opened = Index.open(str(tmp_path / "deep" / "index"), HashEncoder())
    without = Index.open(tmp_path / "deep" / "index")
    assert opened.search(TEXTS, 2) == built.search(TEXTS, 2) == without.search(TEXTS, 2)
    assert opened.manifest == built.manifest
    assert (len(opened), bool(opened)) == (4, True)
    assert without.encoder.name == "hash"


def test_an_empty_index_finds_nothing_and_takes_passages(tmp_path: Path) -> None:
    index = Index.create(tmp_path, HashEncoder())
    assert (len(index), bool(index), index.search(["cat"]), ids(index)) == (0, True, [[]], set())
    assert Index.open(tmp_path).add(passages()) == 4
    assert index.refresh()
    assert found(index, "moon", 1) == ["dogs bark at the moon"]


def test_any_text_survives_the_disk(tmp_path: Path) -> None:
    odd = [
        Passage(id=f"../{number}/{text}", text=text, source=text[:4], metadata={"odd": text})
        for number, text in enumerate(
            [
                "line\nbreaks\r\nand \u2028 more",
                "naïve 漢字 🙂",
                'quotes " and \\ back',
                "lone \ud800 surrogate",
                "zero \0 byte",
                "../../etc/passwd",
            ]
        )
    ]
    Index.build(tmp_path, odd, HashEncoder())
    opened = Index.open(tmp_path, HashEncoder())
    assert [hit.passage for hits in opened.search([one.text for one in odd], 1, method="dense") for hit in hits] == odd
    assert opened.get([one.id for one in odd]) == {one.id: one for one in odd}
    assert [opened.search(["x"], 1, method="dense", where={"odd": one.text})[0][0].passage for one in odd] == odd
    assert opened.remove([one.source for one in odd]) == len(odd)


def test_the_manifest_says_what_the_index_holds(tmp_path: Path) -> None:
    first = Index.build(tmp_path / "a", passages(), HashEncoder()).manifest
    again = Index.build(tmp_path / "b", passages()[::-1], HashEncoder()).manifest
    other = Index.build(tmp_path / "c", passages(["snow"]), HashEncoder()).manifest
    assert first.encoder is not None
    assert (first.encoder.name, first.encoder.dim, first.metric, first.count, first.format) == ("hash", 4096, "inner_product", 4, 2)
    assert first.corpus_sha256 == again.corpus_sha256 != other.corpus_sha256
    written = json.loads((tmp_path / "a" / "manifest.json").read_text(encoding="utf-8"))
    assert (written["format"], written["count"], written["encoder"]["name"], written["methods"]) == (2, 4, "hash", ["dense", "bm25"])


def test_stats_are_values_of_json_that_add_up(tmp_path: Path) -> None:
    index = Index.build(
        tmp_path, [*numbered(20), *passages(["Passage 3  of the RAIN grammar cat"])], HashEncoder(), token_encoder=HashTokens()
    )
    index.delete(["p4"])
    stats = index.stats()
    assert (stats.passages, stats.documents, stats.deleted, stats.segments) == (len(index), 5, 1, 1)
    assert stats.fields == ("line", "number")
    assert stats.bytes == sum(stats.bytes_of.values()) == sum(path.stat().st_size for path in tmp_path.rglob("*/*") if path.is_file())
    assert json.loads(json.dumps(stats.__class__.__dataclass_fields__ and {name: getattr(stats, name) for name in stats.__slots__}))


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    Index.build(tmp_path, passages(), HashEncoder(), token_encoder=HashTokens())
    with pytest.raises(InputError, match=r"built with the encoder 'hash' \(4096 dimensions\), but 'hash' \(64\)"):
        Index.open(tmp_path, HashEncoder(dim=64))
    with pytest.raises(InputError, match="only called the same"):
        Index.open(tmp_path, Renamed())
    with pytest.raises(InputError, match=r"'hash tokens' \(32 dimensions\), but 'hash tokens' \(16\)"):
        Index.open(tmp_path, token_encoder=HashTokens(16))
    opened = Index.open(tmp_path)
    assert found(opened, "moon", 1, method="dense") == ["dogs bark at the moon"]
    with pytest.raises(InputError, match=r"'hash tokens', which homefire does not know.*token_encoder="):
        opened.search(["moon"], method="late")


def test_an_index_built_anew_with_another_encoder_is_noticed(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    Index.build(tmp_path, passages(["snow"]), HashEncoder(dim=32))
    assert found(index, "moon", 1) == ["dogs bark at the moon"]
    for change in (index.refresh, lambda: index.add(passages(["rain"]))):
        with pytest.raises(InputError, match="built anew with another encoder"):
            change()
    assert found(Index.open(tmp_path, HashEncoder(dim=32)), "cat") == ["snow"]


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


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="file"):
        Index.build(tmp_path / "file", passages(), HashEncoder())


def test_copies_of_a_program_share_the_index_and_it_can_be_called(tmp_path: Path) -> None:
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert copy.deepcopy([index])[0] is index
    assert index("moon", k=1, method="bm25").passages == ["dogs bark at the moon"]


def test_without_faiss_the_error_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[retrieval\]"'):
        Index.build(tmp_path, passages(), HashEncoder())


def test_without_bm25s_there_are_only_vectors_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    index = Index.build(tmp_path, passages(), HashEncoder())
    assert (index.manifest.methods, index.manifest.default_method) == (("dense",), "dense")
    assert "no BM25" in capsys.readouterr().err
    with pytest.raises(MissingExtra, match="bm25s"):
        Index.build(tmp_path, passages(), HashEncoder(), methods=["bm25"])


@pytest.mark.model
def test_files_to_ranked_passages_with_the_real_encoder(tmp_path: Path, minilm: Path) -> None:
    (tmp_path / "notes").mkdir()
    notes = {"git.md": "To undo the last commit, run git revert.", "bread.txt": "Knead the dough and let it rise.", "moon.rst": "Tides."}
    for name, text in notes.items():
        (tmp_path / "notes" / name).write_text(text, encoding="utf-8")
    encoder = SentenceEncoder(minilm)
    index = Index.build(tmp_path / "index", read_folder(tmp_path / "notes"), encoder)
    assert index.manifest.methods == ("dense", "bm25", "late")
    opened = Index.open(tmp_path / "index")
    for method in ("dense", "late", "fused"):
        hits = opened.search(["How do I roll back a change in version control?", "baking"], k=1, method=method)
        assert [hit.passage.source for [hit] in hits] == ["git.md", "bread.txt"]
    assert isinstance(opened.encoder, SentenceEncoder)
    with pytest.raises(InputError, match="Open it with"):
        Index.open(tmp_path / "index", HashEncoder(dim=384))
    with pytest.raises(InputError, match="only called the same"):
        Index.open(tmp_path / "index", SentenceEncoder(minilm, query_prompt="search: "))
