"""Rerankers: how well some passages answer a query, read together or token by token; slow for many passages, good for a few.

Knows no index: texts in, scores out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from homefire.errors import InputError
from homefire.retrieval.encoder import TokenEncoder
from homefire.retrieval.hit import Hit
from homefire.retrieval.model_batches import ModelBatches
from homefire.retrieval.model_loading import Dtype, find_folder, load_pair_model

if TYPE_CHECKING:
    from homefire.retrieval.dense import Scores


class Reranker(Protocol):
    """Scores passages for queries; higher is better. Scores of different rerankers cannot be compared.

    Methods may be called from any thread.
    """

    @property
    def name(self) -> str:
        """Says which scores these are; shown with them."""
        ...

    def score(self, queries: Sequence[str], passages: Sequence[Sequence[str]]) -> list[Scores]:
        """For each query one score for each of its passages, in their order; float32 of shape `(n_passages,)`."""
        ...


class CrossEncoderReranker:
    """A cross-encoder: a model that reads query and passage together (Nogueira and Cho 2019, arXiv 1901.04085).

    Args:
        model: A folder or a Hugging Face id in the local cache, as `cross-encoder/ms-marco-MiniLM-L6-v2`. Nothing is downloaded.
        device: `cpu`, `cuda`, ...; none takes the best there is.
        batch_size: Pairs read at once; none takes 32, or 256 on a GPU.
        dtype: `float32`, `bfloat16`, or `auto` for what the machine is good at.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, its folder cannot be loaded, or it gives several scores a pair.
    """

    def __init__(self, model: Path | str, *, device: str | None = None, batch_size: int | None = None, dtype: Dtype = "auto") -> None:
        self._model = load_pair_model(str(model), find_folder(model), device, dtype)
        self.name = Path(model).resolve().name if Path(model).is_dir() else str(model)
        self.batches = ModelBatches(self._model, batch_size)

    def score(self, queries: Sequence[str], passages: Sequence[Sequence[str]]) -> list[Scores]:
        """For each query one score for each of its passages; as the model's own last step gives them, most often between 0 and 1."""
        import numpy as np

        pairs = [(query, passage) for query, own in zip(queries, passages, strict=True) for passage in own]
        scores = self.batches.where_it_is_fastest(pairs, lambda: self._scores(pairs))
        return np.split(scores, np.cumsum([len(own) for own in passages])[:-1]) if passages else []

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        import numpy as np

        scores, last_step = np.zeros(len(pairs), dtype=np.float32), self._model.activation_fn
        for places, features in self.batches.run(pairs, "pairs"):
            given = features["scores"].float()
            scores[places] = (last_step(given) if last_step else given).reshape(-1).cpu().numpy()
        return scores


class TokenReranker:
    """Late interaction over passages that are encoded when they are asked for.

    For each token of the query the best inner product with a token of the passage, summed. An index that stores token vectors does the
    same without encoding anything but the query.

    Args:
        encoder: Makes the token vectors.
    """

    def __init__(self, encoder: TokenEncoder) -> None:
        self.encoder = encoder

    @cached_property
    def name(self) -> str:
        """That of the encoder."""
        return self.encoder.name

    def score(self, queries: Sequence[str], passages: Sequence[Sequence[str]]) -> list[Scores]:
        """For each query one score for each of its passages, between plus and minus the number of tokens of the query."""
        import numpy as np

        asked = self.encoder.encode_queries(queries)
        distinct = {text: place for place, text in enumerate(dict.fromkeys(text for own in passages for text in own))}
        tokens = self.encoder.encode_passages(list(distinct))
        scores = []
        for number, own in enumerate(passages):
            found = [(asked[number] @ tokens[distinct[text]].T).max(axis=1, initial=-1).sum() for text in own]
            scores.append(np.array(found, dtype=np.float32))
        return scores


DEPTH = 50
"""Passages that are looked at more closely, where fewer are wanted."""


def reranked(found: Sequence[Sequence[Hit]], queries: Sequence[str], reranker: Reranker, k: int) -> list[list[Hit]]:
    """The `k` best of what was found for each query, in the order of a reranker; its score joins the others under `rerank`.

    Raises:
        InputError: the reranker does not give one finite score for each passage.
    """
    texts = [[hit.passage.text for hit in hits] for hits in found]
    scores = reranker.score(queries, texts)
    require_reranker_scores(scores, texts, reranker.name)
    return [_best(hits, own.tolist(), k) for hits, own in zip(found, scores, strict=True)]


def _best(hits: Sequence[Hit], scores: Sequence[float], k: int) -> list[Hit]:
    order = sorted(range(len(hits)), key=lambda place: -scores[place])[:k]
    return [
        Hit(hits[place].passage, scores[place], rank, {"rerank": scores[place]} | dict(hits[place].scores))
        for rank, place in enumerate(order, start=1)
    ]


def require_reranker_scores(scores: Sequence[Scores], passages: Sequence[Sequence[str]], name: str) -> None:
    """Checks what a reranker gave.

    Raises:
        InputError: there is not one finite score for each passage.
    """
    import numpy as np

    shapes, wanted = [np.shape(own) for own in scores], [(len(own),) for own in passages]
    if shapes != wanted or not all(np.isfinite(own).all() for own in scores):
        raise InputError(
            f"The reranker {name!r} gave scores of the shapes {shapes}; expected finite numbers of the shapes {wanted}. "
            "Repair the reranker."
        )
