"""The codec keeps what matters of token vectors, says how far it is from them, and refuses what it cannot encode or read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import InputError
from homefire.retrieval.kmeans import assign, kmeans
from homefire.retrieval.late_codebook import Bits, centroids_for
from homefire.retrieval.late_codec import Codec, Compressed
from tests.late_data import texts, unit

SAMPLE = np.concatenate(texts(400))


def cosine(codec: Codec, vectors: np.ndarray = SAMPLE) -> float:
    return float((codec.decode(codec.encode(vectors)) * vectors).sum(axis=1).mean())


def test_more_bits_keep_more() -> None:
    one, two, four = (cosine(Codec.train(SAMPLE, bits, centroids=64)) for bits in (1, 2, 4))
    assert 0.9 < one < two - 0.01 < two < four - 0.005
    assert four > 0.99


@pytest.mark.parametrize("dim", [1, 3, 5, 24, 31])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_any_dimension_fits(dim: int, bits: Bits) -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(300, dim)))
    codec = Codec.train(vectors, bits, centroids=8)
    found = codec.encode(vectors)
    assert found.residuals.shape == (300, -(-dim * bits // 8))
    assert codec.decode(found).shape == (300, dim)
    assert float((codec.decode(found) * vectors).sum(axis=1).mean()) > 0.75


def test_lengths_are_kept() -> None:
    codec = Codec.train(SAMPLE, 2)
    lengths = np.array([0, 0.5, 1, 3, 100], dtype=np.float32)
    decoded = codec.decode(codec.encode(SAMPLE[:5] * lengths[:, None]))
    assert np.linalg.norm(decoded, axis=1) == pytest.approx(lengths, rel=1e-3)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_products_need_no_decoding_and_heads_say_most_of_them(bits: Bits) -> None:
    vectors, query = SAMPLE[:500, :23], SAMPLE[600:604, :23]
    codec = Codec.train(SAMPLE[:, :23], bits)
    found, asked = codec.encode(vectors), codec.ask(query)
    numbers = np.take(codec.table, found.residuals, axis=0).reshape(500, -1)
    scales = found.scales.astype(np.float32)
    products = (asked.by_centroid[:, found.codes] + asked.spread @ numbers.T) * scales
    assert products == pytest.approx(query @ codec.decode(found).T, abs=1e-5)
    head = codec.head_bytes * 8 // bits
    guesses = (asked.by_centroid[:, found.codes] + asked.spread[:, :head] @ numbers[:, :head].T) * scales
    without = asked.by_centroid[:, found.codes] * scales
    assert head in (8, 16)
    assert np.abs(guesses - products).mean() < 0.8 * np.abs(without - products).mean()


def test_the_axes_are_turned_and_not_stretched() -> None:
    rotation = Codec.train(SAMPLE, 2).codebook.rotation
    assert rotation @ rotation.T == pytest.approx(np.eye(24), abs=1e-5)


def test_a_seed_decides() -> None:
    first, again, other = (Codec.train(SAMPLE, 2, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_saved_codec_is_the_same(tmp_path: Path) -> None:
    codec = Codec.train(SAMPLE, 4, centroids=32)
    codec.save(tmp_path)
    opened = Codec.open(tmp_path)
    assert opened.fingerprint == codec.fingerprint
    assert opened.training == codec.training
    assert np.array_equal(opened.decode(codec.encode(SAMPLE[:9])), codec.decode(codec.encode(SAMPLE[:9])))


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_vectors_are_enough_to_train(count: int) -> None:
    codec = Codec.train(SAMPLE[:count], 2, centroids=64)
    assert 1 <= codec.centroid_count <= max(count // 4, 1)
    assert np.isfinite(codec.decode(codec.encode(SAMPLE))).all()


def test_equal_vectors_have_no_residual() -> None:
    same = np.repeat(SAMPLE[:1], 100, axis=0)
    assert cosine(Codec.train(same, 1), same) == pytest.approx(1, abs=1e-3)


def test_no_vectors_encode_to_nothing() -> None:
    codec = Codec.train(SAMPLE, 2)
    assert codec.decode(codec.encode(SAMPLE[:0])).shape == (0, 24)


def test_drift_shows_vectors_unlike_the_sample() -> None:
    codec = Codec.train(SAMPLE, 2, centroids=128)
    alike = np.concatenate(texts(200, seed=9))
    unlike = unit(np.random.default_rng(0).normal(size=(500, 24)))
    assert codec.drift(codec.encode(alike).residual_length) == pytest.approx(1, abs=0.1)
    assert codec.drift(codec.encode(unlike).residual_length) > 1.5


def test_the_number_of_centroids_follows_the_number_of_tokens() -> None:
    assert [centroids_for(tokens) for tokens in (0, 1, 10_000, 320_000, 10**9)] == [2, 2, 256, 1024, 2**14]
    assert Codec.train(SAMPLE, 2).centroid_count == centroids_for(len(SAMPLE))


def test_kmeans_moves_centroids_to_the_vectors_and_leaves_none_without() -> None:
    import torch

    vectors = torch.from_numpy(SAMPLE)
    drawn, moved = kmeans(vectors, 50, seed=1, rounds=0), kmeans(vectors, 50, seed=1, rounds=8)
    assert assign(vectors, moved)[1].mean() < 0.8 * assign(vectors, drawn)[1].mean()
    copies = torch.cat([torch.eye(6)[:1].repeat(200, 1), torch.eye(6)])
    assert sorted(assign(torch.eye(6), kmeans(copies, 6, seed=0))[0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert len(kmeans(vectors[:4], 6, seed=0)) == 4


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((3, 24), np.nan, dtype=np.float32), "not finite"),
        (np.full((3, 24), np.inf, dtype=np.float32), "not finite"),
        (np.zeros((3, 23), dtype=np.float32), r"shape \(3, 23\); expected \(n_tokens, 24\)"),
        (np.zeros(24, dtype=np.float32), r"shape \(24,\)"),
        (np.full((3, 24), 1e5, dtype=np.float32), "is 489,898 long; expected lengths near 1, up to 60,000"),
    ],
)
def test_what_cannot_be_encoded_is_refused(vectors: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Codec.train(SAMPLE, 2, centroids=8).encode(vectors)


def test_what_cannot_be_trained_on_is_refused() -> None:
    with pytest.raises(InputError, match="bits is 3; it must be 1, 2 or 4"):
        Codec.train(SAMPLE, 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has no vectors"):
        Codec.train(SAMPLE[:0], 2)
    with pytest.raises(InputError, match="centroids is 0"):
        Codec.train(SAMPLE, 2, centroids=0)
    with pytest.raises(InputError, match="not finite"):
        Codec.train(np.full((9, 4), np.nan, dtype=np.float32), 2)


@pytest.mark.parametrize("name", ["codec.json", "centroids.npy", "rotation.npy", "spread.npy"])
def test_a_damaged_codec_is_refused(tmp_path: Path, name: str) -> None:
    Codec.train(SAMPLE, 2).save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for damage in (b"", whole[: len(whole) // 2], b"\0" + whole[1:], whole[:-30] + bytes(byte ^ 1 for byte in whole[-30:])):
        (tmp_path / name).write_bytes(damage)
        with pytest.raises(InputError, match="is damaged"):
            Codec.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        Codec.open(tmp_path)


def test_nothing_that_runs_code_is_read(tmp_path: Path) -> None:
    """A file of pickled objects is refused, not loaded."""
    Codec.train(SAMPLE, 2).save(tmp_path)
    np.save(tmp_path / "spread.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="is damaged"):
        Codec.open(tmp_path)
    assert json.loads((tmp_path / "codec.json").read_text())["bits"] == 2


@pytest.mark.gpu
def test_a_gpu_encodes_alike() -> None:
    codec = Codec.train(SAMPLE, 2, device="cuda")
    on_gpu, on_cpu = codec.encode(SAMPLE, device="cuda"), codec.encode(SAMPLE)
    assert isinstance(on_gpu, Compressed)
    assert (on_gpu.codes == on_cpu.codes).mean() > 0.99
    assert codec.decode(on_gpu) == pytest.approx(codec.decode(on_cpu), abs=0.3)
    assert cosine(codec) == pytest.approx(cosine(Codec.train(SAMPLE, 2)), abs=0.01)
