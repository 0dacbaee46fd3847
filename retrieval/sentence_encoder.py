"""The encoder of real use: a sentence-transformers model, one vector a text.

Knows no index and no file format, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.errors import InputError, UnknownModel
from homefire.retrieval.encoder import Vectors
from homefire.retrieval.model_batches import Features, ModelBatches
from homefire.retrieval.model_loading import Dtype, find_folder, fingerprint, load_sentence_model
from homefire.retrieval.token_spans import GuessedTokens, Spans
from homefire.retrieval.token_vectors import TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class SentenceEncoder:
    """A sentence-transformers model; vectors have length 1.

    Texts beyond the model's window (256 tokens for all-minilm-l6-v2) are cut by the model. Queries and passages get the prompts that the
    model's own configuration names for them.

    Args:
        model: a folder, a name that `homefire models pull` fetched, or a Hugging Face id in the local cache. Nothing is downloaded.
        device: `cpu`, `cuda`, ...; none takes the best there is.
        batch_size: texts encoded at once; none takes 32, or 256 on a GPU.
        dtype: `float32`, `bfloat16`, or `auto` for what the machine is good at.
        query_prompt: put before queries, where the model's card wants it but its configuration does not say so.
        passage_prompt: put before passages.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, or its folder cannot be loaded.
        InputError: `dtype` is none of those.
    """

    def __init__(
        self,
        model: Path | str = "all-minilm-l6-v2",
        *,
        device: str | None = None,
        batch_size: int | None = None,
        dtype: Dtype = "auto",
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
    ) -> None:
        folder = find_folder(model)
        given = {"query": query_prompt, "document": passage_prompt}
        prompts = {name: prompt for name, prompt in given.items() if prompt is not None}
        self._model = load_sentence_model(str(model), folder, device, dtype, prompts)
        dim = self._model.get_embedding_dimension()
        if folder is None or dim is None:
            raise UnknownModel(f"{str(model)!r} does not say how long its vectors are; expected a sentence-transformers model.")
        self.dim = dim
        self.folder = folder
        self.name = folder.resolve().name if Path(model).is_dir() or "/" not in str(model) else str(model)
        own = self._model.prompts
        self.query_prompt = own.get("query") or ""
        self.passage_prompt = own.get("document") or own.get("passage") or own.get("corpus") or ""
        self.batches = ModelBatches(self._model, batch_size)

    @property
    def batch_size(self) -> int:
        """Texts encoded at once."""
        return self.batches.batch_size

    @cached_property
    def fingerprint(self) -> str:
        """Tells models of one name apart: 32 hexadecimal digits, from the model's files and the prompts."""
        return fingerprint(self.folder, self.query_prompt, self.passage_prompt)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape `(n_texts, dim)`."""
        return self._encode(texts, "queries", self.query_prompt, "query", tokens=False)[0]

    def encode_passages(self, texts: Sequence[str]) -> Vectors:
        """Vectors of shape `(n_texts, dim)`."""
        return self._encode(texts, "passages", self.passage_prompt, "document", tokens=False)[0]

    def encode_passages_and_tokens(self, texts: Sequence[str]) -> tuple[Vectors, TokenVectors]:
        """The vectors of the passages and those of their tokens, for the price of one.

        The tokens that the model puts around every text are left out: they are near to one another whatever the texts say. A text without
        others keeps them.

        Raises:
            InputError: the model has no token vectors.
        """
        return self._encode(texts, "passages", self.passage_prompt, "document", tokens=True)

    def encode_queries_and_tokens(self, texts: Sequence[str]) -> tuple[Vectors, TokenVectors]:
        """As `encode_passages_and_tokens`, for queries."""
        return self._encode(texts, "queries", self.query_prompt, "query", tokens=True)

    @property
    def max_tokens(self) -> int:
        """Most tokens of a passage that the model reads, without its prompt and those that it adds itself."""
        window, tokenizer = self._model.max_seq_length, self._tokenizer
        if window is None or window == float("inf") or tokenizer is None:
            return GuessedTokens.max_tokens
        return int(window) - len(tokenizer.encode(self.passage_prompt).ids)

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """For each text where its tokens are, all of them, without those that the model adds itself."""
        if self._tokenizer is None:
            return GuessedTokens().token_spans(texts)
        return [encoding.offsets for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, without those that the model adds itself."""
        return [len(spans) for spans in self.token_spans(texts)]

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        """A tokenizer of its own that cuts nothing off, for any thread; none where the model's is not of the fast kind."""
        from tokenizers import Tokenizer

        own = self._model.tokenizer
        fast = own if isinstance(own, Tokenizer) else own.backend_tokenizer if own is not None and own.is_fast else None
        if fast is None:
            return None
        copy = Tokenizer.from_str(fast.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    def _encode(self, texts: Sequence[str], what: str, prompt: str, task: str, *, tokens: bool) -> tuple[Vectors, TokenVectors]:
        return self.batches.where_it_is_fastest(texts, lambda: self._encoded(texts, what, prompt, task, tokens))

    def _encoded(self, texts: Sequence[str], what: str, prompt: str, task: str, tokens: bool) -> tuple[Vectors, TokenVectors]:
        import numpy as np

        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        matrices: list[Vectors] = [np.zeros((0, 0), dtype=np.float32)] * (len(texts) if tokens else 0)
        for places, features in self.batches.run(texts, what, prompt, task):
            vectors[places] = unit(features["sentence_embedding"])
            if tokens:
                self._require_tokens(features)
                for place, matrix in zip(places, token_matrices(features, self._added), strict=True):
                    matrices[place] = matrix
        return vectors, TokenVectors.of(matrices, self.dim)

    @cached_property
    def _added(self) -> frozenset[int]:
        """Numbers of the tokens that the model puts around every text."""
        tokenizer = self._model.tokenizer
        return frozenset(set(tokenizer.all_special_ids) - {tokenizer.unk_token_id})

    def _require_tokens(self, features: Features) -> None:
        if features.get("token_embeddings") is None:
            raise InputError(
                f"The encoder {self.name!r} has no token vectors: it gives one vector a text without reading the tokens together. "
                "Expected a transformer, such as all-minilm-l6-v2. Use another encoder, or search without late interaction."
            )


def unit(vectors: object) -> Vectors:
    """A tensor as float32 vectors of length 1 on the CPU; the last axis is that of the numbers in a vector."""
    import torch

    assert isinstance(vectors, torch.Tensor)
    normal: Vectors = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return normal


def token_matrices(features: Features, added: frozenset[int] = frozenset()) -> list[Vectors]:
    """The token vectors of each text of a batch, of length 1, without padding.

    Args:
        features: Of the batch.
        added: Numbers of tokens that are left out, except in a text that has no others.
    """
    import numpy as np

    vectors, masks = unit(features["token_embeddings"]), features["attention_mask"].bool().cpu().numpy()
    if added:
        own = masks & ~np.isin(features["input_ids"].cpu().numpy(), list(added))
        masks = np.where(own.any(axis=1, keepdims=True), own, masks)
    return [matrix[mask] for matrix, mask in zip(vectors, masks, strict=True)]
