"""The encoder of real use against sentence-transformers itself: prompts, batches, types, what it says of itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from homefire.configs import console
from homefire.errors import InputError, UnknownModel
from homefire.retrieval import model_batches
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_spans import TokenSpans
from tests.retrieval.small_models import sentence_model

TEXTS = [f"text {number} " + "about some thing or other " * (number * 7 % 11) for number in range(100)]


@pytest.fixture(scope="module")
def prompted(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose configuration names prompts."""
    return sentence_model(tmp_path_factory.mktemp("prompted"), minilm, prompts={"query": "ask: ", "passage": "read this: "})


@pytest.fixture(scope="module")
def plain(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sentence_model(tmp_path_factory.mktemp("plain"), minilm)


@pytest.mark.parametrize("batch_size", [None, 7, 1000])
def test_vectors_are_those_of_the_library_in_the_order_of_the_texts(plain: Path, batch_size: int | None) -> None:
    reference = SentenceTransformer(str(plain), device="cpu", local_files_only=True)
    wanted = reference.encode_document(TEXTS, show_progress_bar=False, normalize_embeddings=True)
    encoder = SentenceEncoder(plain, device="cpu", batch_size=batch_size)
    assert encoder.batch_size == (batch_size or 32)
    assert encoder.encode_passages(TEXTS) == pytest.approx(wanted, abs=1e-5)
    assert encoder.encode_passages(TEXTS).dtype == np.float32


def test_more_texts_than_are_cut_into_tokens_at_once(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder(plain, device="cpu", batch_size=4)
    wanted = encoder.encode_passages(TEXTS)
    monkeypatch.setattr(model_batches, "_BLOCK", 9)
    assert encoder.encode_passages(TEXTS) == pytest.approx(wanted, abs=1e-5)


def test_little_is_computed_for_padding(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = SentenceEncoder(plain, device="cpu", batch_size=10)
    seen = [features["attention_mask"] for _, features in encoder.batches.run(TEXTS, "passages")]
    assert len(seen) == 10
    assert sum(mask.numel() for mask in seen) < 1.1 * sum(int(mask.sum()) for mask in seen)


def test_queries_and_passages_get_the_prompts_of_the_model(prompted: Path, plain: Path) -> None:
    encoder, bare = SentenceEncoder(prompted), SentenceEncoder(plain)
    assert (encoder.query_prompt, encoder.passage_prompt) == ("ask: ", "read this: ")
    assert encoder.encode_queries(["what"]) == pytest.approx(bare.encode_queries(["ask: what"]), abs=1e-5)
    assert encoder.encode_passages(["what"]) == pytest.approx(bare.encode_passages(["read this: what"]), abs=1e-5)
    assert encoder.max_tokens == bare.max_tokens - 3
    given = SentenceEncoder(prompted, query_prompt="", passage_prompt="see ")
    assert given.encode_queries(["what"]) == pytest.approx(bare.encode_queries(["what"]), abs=1e-5)
    assert given.encode_passages(["what"]) == pytest.approx(bare.encode_passages(["see what"]), abs=1e-5)
    assert len({encoder.fingerprint, bare.fingerprint, given.fingerprint}) == 3


def test_the_fingerprint_is_that_of_the_files(plain: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "other name"))
    (copy / "README.md").write_text("another card", encoding="utf-8")
    before = SentenceEncoder(copy).fingerprint
    assert before == SentenceEncoder(plain).fingerprint
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert SentenceEncoder(copy).fingerprint != before


def test_tokens_are_where_the_model_sees_them(plain: Path) -> None:
    encoder = SentenceEncoder(plain)
    assert isinstance(encoder, TokenSpans)
    text = "Tokenization, naïvely: 東京 " + "long " * 500
    [spans] = encoder.token_spans([text])
    assert [text[start:end] for start, end in spans[:7]] == ["Token", "ization", ",", "naïve", "ly", ":", "東"]
    assert len(spans) > 500, "nothing is cut off"
    assert encoder.max_tokens == 64 - 2
    assert encoder.count_tokens(["", text]) == [0, len(spans)]
    assert encoder.encode_passages([text]).shape == (1, encoder.dim)


def test_bfloat16_is_close_to_float32(plain: Path) -> None:
    exact, rough = SentenceEncoder(plain, dtype="float32"), SentenceEncoder(plain, dtype="bfloat16")
    agreement = (exact.encode_passages(TEXTS) * rough.encode_passages(TEXTS)).sum(axis=1)
    assert agreement.min() > 0.99
    assert agreement.max() < 1 - 1e-7, "it is not float32"
    with pytest.raises(InputError, match=r"dtype is 'int4'; expected 'auto', 'float32' or 'bfloat16'"):
        SentenceEncoder(plain, dtype="int4")  # type: ignore[arg-type]


def test_long_work_shows_progress_and_short_work_does_not(
    plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = SentenceEncoder(plain, device="cpu", batch_size=10)
    shown: list[str] = []
    monkeypatch.setattr(console, "note", shown.append)
    encoder.encode_passages(TEXTS[:20])
    assert shown == []
    monkeypatch.setattr(model_batches, "_LONG", 0.0)
    encoder.encode_passages(TEXTS)
    assert shown[0] == "Encoding passages ..."
    assert shown[-1].startswith("Encoding passages: 100 of 100, ")


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UnknownModel, match=r"There is no encoder .* cannot be loaded: .*Fetch one with: homefire models pull"):
        SentenceEncoder(tmp_path)
