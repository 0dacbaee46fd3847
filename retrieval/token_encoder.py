"""Token encoders of real use: the token vectors of a plain encoder, and those of ColBERT models.

Knows no index and no compression, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from homefire.errors import UnknownModel
from homefire.retrieval.encoder import Vectors
from homefire.retrieval.model_batches import ModelBatches
from homefire.retrieval.model_loading import Dtype, find_folder, fingerprint, load_token_model
from homefire.retrieval.sentence_encoder import SentenceEncoder, token_matrices
from homefire.retrieval.token_vectors import TokenVectors


class SentenceTokenEncoder:
    """The token vectors of a plain encoder, as they are: its last hidden states, each of length 1.

    They were not trained for late interaction and beat the same encoder's one vector a text all the same. The tokens that the model puts
    around every text are left out, except in a text that has no others.

    Args:
        encoder: its transformer is shared, not loaded again.

    Raises:
        InputError: when it encodes: the encoder is no transformer.
    """

    def __init__(self, encoder: SentenceEncoder) -> None:
        self.encoder = encoder
        self.name = f"{encoder.name}/tokens"

    @cached_property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.encode_queries(["a"]).dim

    @property
    def fingerprint(self) -> str:
        """That of the encoder."""
        return self.encoder.fingerprint

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a query, without those that the model puts around every text."""
        return self.encoder.encode_queries_and_tokens(texts)[1]

    def encode_passages(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a passage, without those that the model puts around every text."""
        return self.encoder.encode_passages_and_tokens(texts)[1]


class ColbertEncoder:
    """A ColBERT model: one that was trained to give a vector a token (arXiv 2004.12832). Vectors have length 1.

    Prompts, lengths, query expansion and words that are left out are as the model's own configuration says.

    Args:
        model: a folder or a Hugging Face id in the local cache, made by sentence-transformers, PyLate or Stanford's ColBERT.
        device: `cpu`, `cuda`, ...; none takes the best there is.
        batch_size: texts encoded at once; none takes 32, or 256 on a GPU.
        dtype: `float32`, `bfloat16`, or `auto` for what the machine is good at.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, its folder cannot be loaded, or it is a plain encoder.
    """

    def __init__(self, model: Path | str, *, device: str | None = None, batch_size: int | None = None, dtype: Dtype = "auto") -> None:
        folder = find_folder(model)
        self._model = load_token_model(str(model), folder, device, dtype, {})
        dim = self._model.get_embedding_dimension()
        if folder is None or dim is None:
            raise UnknownModel(f"{str(model)!r} does not say how long its vectors are; expected a ColBERT model.")
        self.dim = dim
        self.folder = folder
        self.name = folder.resolve().name if Path(model).is_dir() or "/" not in str(model) else str(model)
        self.batches = ModelBatches(self._model, batch_size)

    @cached_property
    def fingerprint(self) -> str:
        """Tells models of one name apart: 32 hexadecimal digits, from the model's files."""
        return fingerprint(self.folder)

    def encode_queries(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a query, and one for each place that the model expands it by."""
        return self._encode(texts, "queries", "query", self._model.prompts.get("query") or "")

    def encode_passages(self, texts: Sequence[str]) -> TokenVectors:
        """One vector a token of a passage, without those of words that the model leaves out."""
        prompts = self._model.prompts
        prompt = prompts.get("document") or prompts.get("passage") or prompts.get("corpus") or ""
        return self._encode(texts, "passages", "document", prompt)

    def _encode(self, texts: Sequence[str], what: str, task: str, prompt: str) -> TokenVectors:
        return self.batches.where_it_is_fastest(texts, lambda: self._encoded(texts, what, task, prompt))

    def _encoded(self, texts: Sequence[str], what: str, task: str, prompt: str) -> TokenVectors:
        import numpy as np

        matrices: list[Vectors] = [np.zeros((0, self.dim), dtype=np.float32)] * len(texts)
        for places, features in self.batches.run(texts, what, prompt, task):
            for place, matrix in zip(places, token_matrices(features), strict=True):
                matrices[place] = matrix
        return TokenVectors.of(matrices, self.dim)
