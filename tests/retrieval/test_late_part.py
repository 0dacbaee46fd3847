"""A part finds what an exhaustive search finds, scores exactly what it has decoded, and refuses files that are not its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval import late_search
from homefire.retrieval.late_codebook import Bits
from homefire.retrieval.late_codec import Codec
from homefire.retrieval.late_files import write_tokens
from homefire.retrieval.late_part import TokenPart, merge_tokens
from homefire.retrieval.late_search import Effort
from homefire.retrieval.maxsim import maxsim
from homefire.retrieval.token_vectors import TokenVectors
from tests.late_data import questions, texts

PASSAGES = texts(600)
TOKENS = TokenVectors.of(PASSAGES)
QUERIES = questions(PASSAGES, 25)
ALL = np.tile(np.arange(600), (25, 1))
FAR = 1e9
"""How far rows may be behind where none is left out for that."""
LITTLE = Effort(probes=8, near=4, guessed=200, scored=40, listed_behind=FAR, guessed_behind=FAR)
"""Less than all 600 rows in every step."""


@pytest.fixture(scope="module")
def codecs() -> dict[Bits, Codec]:
    return {bits: Codec.train(TOKENS.vectors, bits, centroids=128) for bits in (1, 2, 4)}


def written(folder: Path, codec: Codec | None, tokens: TokenVectors = TOKENS) -> TokenPart:
    folder.mkdir()
    write_tokens(folder, tokens, codec)
    return TokenPart.open(folder, codec)


def share_found(part: TokenPart, k: int = 10, effort: Effort | None = None) -> float:
    """How much of what an exhaustive search of the original vectors finds the part finds."""
    best = np.argsort(-maxsim(QUERIES, TOKENS), axis=1)[:, :k]
    _, rows = part.search(QUERIES, k, effort=effort)
    return float(np.mean([len(set(one) & set(other)) / k for one, other in zip(best.tolist(), rows.tolist(), strict=True)]))


def test_without_a_codec_a_search_is_exhaustive(tmp_path: Path) -> None:
    part = written(tmp_path / "part", None)
    assert share_found(part) > 0.99
    assert part.score(QUERIES, ALL) == pytest.approx(maxsim(QUERIES, TOKENS), abs=2e-3)


@pytest.mark.parametrize(("bits", "share"), [(1, 0.75), (2, 0.85), (4, 0.93)])
def test_a_codec_finds_nearly_what_an_exhaustive_search_finds(tmp_path: Path, codecs: dict[Bits, Codec], bits: Bits, share: float) -> None:
    part = written(tmp_path / "part", codecs[bits])
    exhaustive = Effort(probes=10**6, guessed=10**6, scored=10**6, listed_behind=FAR, guessed_behind=FAR)
    assert share_found(part) >= share
    assert share_found(part, effort=LITTLE) >= 0.95 * share_found(part, effort=exhaustive)


def test_a_code_that_is_no_centroids_is_not_scored(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    with (tmp_path / "part" / "codes.npy").open("r+b") as file:
        file.seek(128)
        file.write(b"\xff\xff")
    with pytest.raises(IndexError):
        part.score(QUERIES, ALL)


def test_rows_far_behind_are_not_decoded(tmp_path: Path, codecs: dict[Bits, Codec], monkeypatch: pytest.MonkeyPatch) -> None:
    part = written(tmp_path / "part", codecs[2])
    counts: list[int] = []
    plain = late_search.exact

    def counted(files: Any, query: Any, rows: Any, *others: Any) -> Any:
        counts.append(len(rows))
        return plain(files, query, rows, *others)

    monkeypatch.setattr(late_search, "exact", counted)
    _, all_of_them = part.search(QUERIES, 10, effort=Effort(listed_behind=FAR, guessed_behind=FAR))
    assert counts == [32] * 25
    counts.clear()
    _, rows = part.search(QUERIES, 10)
    assert all(24 <= count <= 32 for count in counts)
    assert sum(counts) < 25 * 32
    assert (rows[:, 0] == all_of_them[:, 0]).mean() > 0.9


def test_scores_are_maxsim_of_what_was_decoded(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    expected = maxsim(QUERIES, part.read(np.arange(600)))
    assert part.score(QUERIES, ALL) == pytest.approx(expected, abs=1e-4)
    scores, rows = part.search(QUERIES, 5, effort=LITTLE)
    assert scores == pytest.approx(np.take_along_axis(expected, rows, axis=1), abs=1e-4)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_rows_that_are_none_score_minus_infinity_and_rows_without_tokens_zero(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    empty = next(row for row, passage in enumerate(PASSAGES) if not len(passage))
    for number, codec in enumerate((None, codecs[2])):
        scores = written(tmp_path / str(number), codec).score(QUERIES, np.tile([-1, empty, 0], (25, 1)))
        assert np.isneginf(scores[:, 0]).all()
        assert (scores[:, 1] == 0).all()
        assert np.isfinite(scores[:, 2]).all()


def test_candidates_come_best_first(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    rows = part.candidates(QUERIES, 40, effort=LITTLE)
    best = part.score(QUERIES, ALL).argmax(axis=1)
    assert (rows == best[:, None]).any(axis=1).mean() > 0.95
    assert (rows[:, :5] == best[:, None]).any(axis=1).mean() > 0.9
    assert part.candidates(QUERIES, 1000)[:, -1].tolist() == [-1] * 25


@pytest.mark.parametrize("bits", [None, 2])
@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 0.6])
def test_only_rows_of_the_mask_are_found(tmp_path: Path, codecs: dict[Bits, Codec], bits: Bits | None, share: float) -> None:
    part = written(tmp_path / "part", codecs[bits] if bits else None)
    mask = np.random.default_rng(0).random(600) < share
    filled = mask & np.array([len(passage) > 0 for passage in PASSAGES])
    scores, rows = part.search(QUERIES, 10, mask, Effort(probes=2, guessed=20, scored=10))
    found = rows[rows >= 0]
    assert filled[found].all()
    assert len(found) == 25 * min(10, filled.sum())
    assert (np.isneginf(scores) == (rows < 0)).all()
    if bits is None and share == 0.6:
        expected = np.where(filled, maxsim(QUERIES, TOKENS), -np.inf)
        assert (rows[:, 0] == expected.argmax(axis=1)).mean() > 0.9


def test_queries_and_texts_without_tokens_find_nothing(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    none = TokenVectors.of([np.zeros((0, 24)), QUERIES[0]])
    for number, codec in enumerate((None, codecs[2])):
        part = written(tmp_path / f"full{number}", codec)
        _, rows = part.search(none, 3)
        assert rows[0].tolist() == [-1, -1, -1]
        assert (rows[1] >= 0).all()
        assert part.score(none, np.zeros((2, 1), dtype=np.int64))[0].tolist() == [0]
        bare = written(tmp_path / f"bare{number}", codec, TokenVectors.of([[], []], 24))
        assert bare.search(QUERIES, 3)[1].tolist() == [[-1] * 3] * 25
        assert bare.score(QUERIES, np.zeros((25, 1), dtype=np.int64)).tolist() == [[0]] * 25
        empty = written(tmp_path / f"empty{number}", codec, TokenVectors.of([], 24))
        assert empty.rows == 0
        assert empty.search(QUERIES, 1)[1].tolist() == [[-1]] * 25


def test_one_passage_is_found(tmp_path: Path) -> None:
    one = TokenVectors.of(PASSAGES[1:2])
    part = written(tmp_path / "part", Codec.train(one.vectors, 2), one)
    assert part.search(one, 3)[1].tolist() == [[0, -1, -1]]


@pytest.mark.parametrize("dim", [1, 5, 31])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_any_dimension_can_be_searched(tmp_path: Path, dim: int, bits: Bits) -> None:
    passages = texts(80, dim=dim, words=30)
    tokens = TokenVectors.of(passages)
    part = written(tmp_path / "part", Codec.train(tokens.vectors, bits, centroids=16), tokens)
    queries = questions(passages, 4, tokens=2)
    scores, rows = part.search(queries, 3, effort=Effort(probes=4, guessed=20, scored=8))
    decoded = maxsim(queries, part.read(np.arange(80)))
    assert scores == pytest.approx(np.take_along_axis(decoded, rows, axis=1), abs=1e-4)


def test_merged_parts_keep_every_byte(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    mask = np.random.default_rng(0).random(600) < 0.5
    (tmp_path / "merged").mkdir()
    merge_tokens(tmp_path / "merged", [part, part], [mask, None], codecs[2])
    merged = TokenPart.open(tmp_path / "merged", codecs[2])
    order = np.concatenate([np.flatnonzero(mask), np.arange(600)])
    assert np.array_equal(merged.read(np.arange(merged.rows)).vectors, part.read(order).vectors)
    assert merged.report.residual_length == pytest.approx(part.report.residual_length)
    again = written(tmp_path / "again", codecs[2], TokenVectors.of([PASSAGES[row] for row in order]))
    assert np.array_equal(merged.search(QUERIES, 10)[1], again.search(QUERIES, 10)[1])


def test_parts_of_other_codecs_and_of_none_are_encoded_anew(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    plain, compressed = written(tmp_path / "plain", None), written(tmp_path / "compressed", codecs[4])
    (tmp_path / "merged").mkdir()
    report = merge_tokens(tmp_path / "merged", [plain, compressed], [None, None], codecs[2])
    assert report.codec == codecs[2].fingerprint
    merged = TokenPart.open(tmp_path / "merged", codecs[2])
    both = TokenVectors.of(PASSAGES + PASSAGES)
    assert (merged.read(np.arange(1200)).vectors * both.vectors).sum(axis=1).mean() > 0.95
    (tmp_path / "none").mkdir()
    assert merge_tokens(tmp_path / "none", [], [], codecs[2]).rows == 0
    with pytest.raises(InputError, match=r"\[5, 24\] dimensions"):
        merge_tokens(tmp_path / "none", [plain, written(tmp_path / "five", None, TokenVectors.of([np.eye(5)]))], [None, None], None)


def test_many_threads_find_the_same(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    expected = part.search(QUERIES, 10)[1]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: part.search(QUERIES, 10)[1], range(16)))
    assert all(np.array_equal(one, expected) for one in found)


def test_a_device_scores_as_the_processor_does(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    """What runs on a GPU, run on the processor's own device under the name that a tensor gives it."""
    for bits, codec in codecs.items():
        part = written(tmp_path / str(bits), codec)
        on_device = TokenPart(part.files, device="cpu:0")
        assert on_device.score(QUERIES, ALL) == pytest.approx(part.score(QUERIES, ALL), abs=1e-4)


@pytest.mark.gpu
def test_a_gpu_finds_the_same(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    on_gpu = TokenPart.open(tmp_path / "part", codecs[2], device="cuda")
    assert on_gpu.score(QUERIES, ALL) == pytest.approx(part.score(QUERIES, ALL), abs=1e-3)
    assert (on_gpu.search(QUERIES, 10)[1] == part.search(QUERIES, 10)[1]).mean() > 0.99


def test_vectors_of_another_encoder_are_refused(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    part = written(tmp_path / "part", codecs[2])
    with pytest.raises(InputError, match="the queries have 5 numbers; expected 24"):
        part.search(TokenVectors.of([np.eye(5)]), 1)
    with pytest.raises(InputError, match="the queries have numbers that are not finite"):
        part.search(TokenVectors.of([np.full((1, 24), np.nan)]), 1)
    for codec in (None, codecs[2]):
        with pytest.raises(InputError, match="the passages have numbers that are not finite"):
            write_tokens(tmp_path, TokenVectors.of([np.full((1, 24), np.nan)]), codec)
    with pytest.raises(InputError, match=r"beyond 65,504"):
        write_tokens(tmp_path, TokenVectors.of([np.full((1, 24), 1e6)]), None)


def test_another_codec_is_refused(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    written(tmp_path / "part", codecs[2])
    for other in (codecs[4], None):
        with pytest.raises(InputError, match="were compressed by the codec"):
            TokenPart.open(tmp_path / "part", other)
    written(tmp_path / "plain", None)
    assert TokenPart.open(tmp_path / "plain", codecs[2]).rows == 600


def test_damaged_files_are_refused(tmp_path: Path, codecs: dict[Bits, Codec]) -> None:
    for number, codec in enumerate((None, codecs[2])):
        folder = tmp_path / str(number)
        written(folder, codec)
        for file in sorted(folder.iterdir()):
            whole = file.read_bytes()
            for damage in (whole[:-1], whole[:20], b"", whole.replace(b"(", b"["), b"\x80" + whole[1:]):
                if damage != whole and not (file.suffix == ".json" and damage == whole.replace(b"(", b"[")):
                    file.write_bytes(damage)
                    with pytest.raises(ValueError):
                        TokenPart.open(folder, codec)
            file.unlink()
            with pytest.raises(FileNotFoundError):
                TokenPart.open(folder, codec)
            file.write_bytes(whole)
        assert TokenPart.open(folder, codec).rows == 600
