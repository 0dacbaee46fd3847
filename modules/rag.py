"""RAG: a call of a language model on the passages of an index that fit the question best (Lewis et al., arXiv 2005.11401).

Knows no encoder and no optimizer; which passages are good is the index's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from homefire.errors import InputError, SignatureError
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import Signature

if TYPE_CHECKING:
    from homefire.retrieval.index import Index
    from homefire.retrieval.passage import Passage


class RAG(Module):
    """Searches an index for the question and predicts with the passages found as the input `context`.

    Args:
        index: Where the passages come from; copies of the program share it.
        signature: Has an input `context: list[str]`, which is filled here, and an input to search with: `question`, or the only other one.
        k: Passages for one question.
        config: Sampling, as for `Predict`.

    Raises:
        SignatureError: there is no input `context`, or it is not clear what to search with.
    """

    def __init__(
        self, index: Index, signature: str | type[Signature] = "context: list[str], question -> answer", k: int = 3, **config: Any
    ) -> None:
        self.index = index
        self.k = k
        self.predict = Predict(signature, **config)
        self._query = _query(self.predict.signature)

    def forward(self, **inputs: Any) -> Prediction:
        """The prediction, with the passages it had as `passages`, the best one first.

        Raises:
            InputError: an input is missing, or `context` is given.
        """
        passages = self._passages(inputs)
        prediction = self.predict(**inputs, context=[passage.text for passage in passages])
        return prediction.copy(passages=passages)

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        passages = await asyncio.to_thread(self._passages, inputs)
        prediction = await self.predict.acall(**inputs, context=[passage.text for passage in passages])
        return prediction.copy(passages=passages)

    def _passages(self, inputs: Mapping[str, Any]) -> list[Passage]:
        if self._query not in inputs or "context" in inputs:
            wanted = ", ".join(name for name in self.predict.signature.input_fields if name != "context")
            raise InputError(f"RAG takes the inputs {wanted} and finds the context itself; it got {', '.join(inputs) or 'nothing'}.")
        return [hit.passage for hit in self.index.search([str(inputs[self._query])], self.k)[0]]


def _query(signature: type[Signature]) -> str:
    """The input to search with."""
    others = [name for name in signature.input_fields if name != "context"]
    if "context" not in signature.input_fields or not ("question" in others or len(others) == 1):
        raise SignatureError(
            f"RAG cannot use a signature with the inputs {', '.join(signature.input_fields) or '(none)'}. "
            "It needs `context: list[str]` for the passages and `question`, or one other input, to search with."
        )
    return "question" if "question" in others else others[0]
