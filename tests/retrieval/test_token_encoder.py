"""Token encoders agree with sentence-transformers, token for token, and a plain encoder is never taken for a ColBERT model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from homefire.errors import InputError, UnknownModel
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import ColbertEncoder, SentenceTokenEncoder
from tests.retrieval.small_models import DIM, colbert_model, sentence_model

TEXTS = ["A short one.", "", "A somewhat longer text, about nothing at all, with commas. " * 3, "word " * 200, "A short one."]


@pytest.fixture(scope="module")
def small(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return SentenceEncoder(sentence_model(tmp_path_factory.mktemp("plain"), minilm))


@pytest.fixture(scope="module")
def colbert(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colbert_model(tmp_path_factory.mktemp("colbert"), minilm)


def test_the_tokens_of_a_plain_encoder_are_those_that_the_library_would_take(small: SentenceEncoder) -> None:
    model = MultiVectorEncoder(modules=[small._model[0], MultiVectorMask(), Normalize(module_input_name="token_embeddings")])
    wanted = model.encode_document(TEXTS, convert_to_numpy=True, show_progress_bar=False)
    found = SentenceTokenEncoder(small).encode_passages(TEXTS)
    assert len(found) == len(TEXTS)
    for number, matrix in enumerate(wanted):
        own = matrix[1:-1] if TEXTS[number] else matrix
        assert found[number] == pytest.approx(own, abs=1e-5)
    assert [len(found[number]) for number in (1, 3)] == [2, 62], "the tokens that begin and end a text count only in an empty one"


def test_unknown_words_are_tokens_of_the_text(small: SentenceEncoder) -> None:
    assert len(SentenceTokenEncoder(small).encode_queries(["\U00010331\U00010332"])[0]) == 1


def test_texts_and_tokens_come_from_one_run(small: SentenceEncoder) -> None:
    tokens = SentenceTokenEncoder(small)
    vectors, matrices = small.encode_passages_and_tokens(TEXTS)
    assert vectors == pytest.approx(small.encode_passages(TEXTS), abs=1e-5)
    assert matrices.vectors == pytest.approx(tokens.encode_passages(TEXTS).vectors, abs=1e-5)
    assert (tokens.dim, tokens.name) == (DIM, "model/tokens")
    assert tokens.fingerprint == small.fingerprint
    assert np.linalg.norm(matrices.vectors, axis=1) == pytest.approx(np.ones(len(matrices.vectors)), abs=1e-5)


def test_no_texts_have_no_tokens(small: SentenceEncoder, colbert: Path) -> None:
    vectors, tokens = small.encode_queries_and_tokens([])
    assert (vectors.shape, len(tokens), tokens.vectors.shape) == ((0, DIM), 0, (0, DIM))
    assert ColbertEncoder(colbert).encode_queries([]).vectors.shape == (0, 16)


def test_a_colbert_model_gives_what_the_library_gives(colbert: Path) -> None:
    reference = MultiVectorEncoder(str(colbert), device="cpu", local_files_only=True)
    encoder = ColbertEncoder(colbert, device="cpu", batch_size=2)
    assert (encoder.dim, encoder.name) == (16, "model")
    queries = reference.encode_query(TEXTS, convert_to_numpy=True, show_progress_bar=False)
    passages = reference.encode_document(TEXTS, convert_to_numpy=True, show_progress_bar=False)
    found_queries, found_passages = encoder.encode_queries(TEXTS), encoder.encode_passages(TEXTS)
    for number in range(len(TEXTS)):
        assert found_queries[number] == pytest.approx(queries[number], abs=1e-5)
        assert found_passages[number] == pytest.approx(passages[number], abs=1e-5)
    assert len(found_queries[2]) > len(found_passages[2]), "commas and full stops of passages are left out"


def test_queries_are_expanded_as_the_model_says(minilm: Path, tmp_path: Path) -> None:
    expansion = {"strategy": "fixed", "length": 24, "attend": False}
    folder = colbert_model(tmp_path, minilm, query_expansion=expansion)
    reference = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
    wanted = reference.encode_query(TEXTS, convert_to_numpy=True, show_progress_bar=False)
    found = ColbertEncoder(folder, device="cpu").encode_queries(TEXTS)
    assert [len(matrix) for matrix in wanted] == [24] * len(TEXTS)
    for number, matrix in enumerate(wanted):
        assert found[number] == pytest.approx(matrix, abs=1e-5)


def test_a_plain_encoder_is_no_colbert_model(small: SentenceEncoder, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"is no ColBERT model: its folder .* a random one would find nothing.*SentenceTokenEncoder"):
        ColbertEncoder(small.folder)
    with pytest.raises(UnknownModel, match=r"no ColBERT model 'no-such/model' on this machine: it is no folder"):
        ColbertEncoder("no-such/model")


def test_a_model_without_tokens_says_so(minilm: Path, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    torch.manual_seed(0)
    static = StaticEmbedding(Tokenizer.from_file(str(minilm / "tokenizer.json")), embedding_dim=8)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "static"))
    encoder = SentenceEncoder(tmp_path / "static")
    assert encoder.encode_passages(["a word", ""]).shape == (2, 8)
    assert encoder.max_tokens > 10**6
    with pytest.raises(InputError, match=r"'static' has no token vectors.*Use another encoder"):
        SentenceTokenEncoder(encoder).encode_queries(["a word"])
