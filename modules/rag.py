"""RAG: a call of a language model on the passages that fit the question best (Lewis et al., arXiv 2005.11401), which says which it used.

Knows no encoder and no optimizer; which passages are good is the retriever's business.

An answer names its sources by the numbers that the passages have in the prompt. The grammar allows no other numbers, so every citation is
of a passage that was found for this question (what Gao et al., arXiv 2305.14627, ask for and check afterwards).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin
from weakref import WeakKeyDictionary

from annotated_types import MaxLen

from homefire.errors import InputError, SignatureError
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.retrieve import Retrieve
from homefire.modules.retriever import Retriever
from homefire.modules.signature import Declared, Signature
from homefire.retrieval.found import Found
from homefire.retrieval.passage import Passage

CITATIONS = "citations"
"""The output that names passages."""
_WORDS = "numbers of the passages in the context that the answer is taken from"
_SEARCH = frozenset({"k", "method", "where", "rerank"})


class RAG(Module):
    """Searches for the question and predicts with the passages found as the input `context`.

    The prediction has the passages as `passages`, the best one first, and those that the answer names as its sources as `citations`.
    Where nothing is found the context is empty and nothing is cited.

    Args:
        retriever: An `Index` or its folder, or any function `retriever(query, k=3)`; copies of the program share it.
        signature: Has an input `context: list[str]`, which is filled here, and an input to search with: `question`, or the only other one.
        k: Passages for one question.
        citations: Whether the answer names its sources. The signature then gets an output `citations` behind the others, unless it has
            one already, whose place and description stay.
        method: How to search, where the retriever takes that: `dense`, `bm25`, `late`, `fused`.
        where: Which passages to search, by their metadata, where the retriever takes that: `{"year": {"ge": 2020}}`.
        rerank: How to rank what was found anew, where the retriever takes that.
        config: Sampling, as for `Predict`.

    Raises:
        SignatureError: there is no input `context`, it is not clear what to search with, or an output `citations` is no list.
        InputError: `k` is below 1, or the retriever cannot be called.
    """

    def __init__(
        self,
        retriever: Retriever | Path | str,
        signature: str | type[Signature] = "context: list[str], question -> answer",
        k: int = 3,
        *,
        citations: bool = True,
        method: str | None = None,
        where: Mapping[str, Any] | None = None,
        rerank: Any = None,
        **config: Any,
    ) -> None:
        options = {"method": method, "where": where, "rerank": rerank}
        self.retrieve = Retrieve(k, retriever=retriever, **{name: value for name, value in options.items() if value is not None})
        self.citations = citations
        self.predict = Predict(_cited(Signature(signature), k) if citations else signature, **config)
        self._query = _query(self.predict.signature)

    @property
    def index(self) -> Any:
        """Whom it asks: an index, for the most part."""
        return self.retrieve.retriever

    @property
    def k(self) -> int:
        """Passages for one question."""
        return self.retrieve.k

    @k.setter
    def k(self, k: int) -> None:
        self.retrieve.k = k

    @property
    def task(self) -> type[Signature]:
        """What users give and want: the signature without the context and the citations."""
        signature = self.predict.signature.delete("context")
        return signature.delete(CITATIONS) if self.citations else signature

    def forward(self, **inputs: Any) -> Prediction:
        """The prediction, with the passages it had as `passages` and those that it names as `citations`.

        Args:
            inputs: Those of the signature but `context`. For this call only: `search`, a mapping of `k`, `method`, `where` and `rerank`
                over the program's own; and what every predictor takes.

        Raises:
            InputError: an input is missing, or `context` is given.
        """
        inputs, search = self._split(inputs)
        hits: Found = self.retrieve(str(inputs[self._query]), **search).hits
        return self._made(self.predict(**self._asked(inputs, hits)), hits)

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        inputs, search = self._split(inputs)
        hits: Found = (await self.retrieve.acall(str(inputs[self._query]), **search)).hits
        return self._made(await self.predict.acall(**self._asked(inputs, hits)), hits)

    def _split(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Inputs of the predictor, and options of the search."""
        inputs = dict(given)
        if self._query not in inputs or "context" in inputs:
            wanted = ", ".join(name for name in self.predict.signature.input_fields if name != "context")
            raise InputError(f"RAG takes the inputs {wanted} and finds the context itself; it got {', '.join(inputs) or 'nothing'}.")
        search: Any = {} if "search" in self.predict.signature.input_fields else inputs.pop("search", None) or {}
        if not isinstance(search, Mapping) or not _SEARCH.issuperset(search):
            known = ", ".join(sorted(_SEARCH))
            raise InputError(f"search is {search!r}; expected a mapping of {known}, as in search={{'where': {{'year': 2024}}}}.")
        return inputs, search

    def _asked(self, inputs: Mapping[str, Any], hits: Found) -> dict[str, Any]:
        """What the predictor is called with: these passages, and a signature in which only they can be cited."""
        asked = {**inputs, "context": hits.passages}
        base = asked.get("signature")
        signature = self.predict.signature if base is None else Signature(base)
        if self.citations and (base is not None or _number_in(signature) != len(hits)):
            asked["signature"] = _cited(signature, len(hits))
            demos = asked.get("demos")
            asked["demos"] = [_within(demo, len(hits)) for demo in (self.predict.demos if demos is None else demos)]
        return asked

    def _made(self, prediction: Prediction, hits: Found) -> Prediction:
        passages = [hit.passage for hit in hits]
        made = self._with_passages(prediction, passages)
        if len(prediction.completions) > 1:
            made._completions = tuple(self._with_passages(one, passages) for one in prediction.completions)
        return made

    def _with_passages(self, prediction: Prediction, passages: list[Passage]) -> Prediction:
        if not self.citations:
            return prediction.copy(passages=passages)
        numbers = dict.fromkeys(prediction.get(CITATIONS) or ())
        return prediction.copy(passages=passages, citations=[passages[number - 1] for number in numbers])


def _query(signature: type[Signature]) -> str:
    """The input to search with."""
    others = [name for name in signature.input_fields if name != "context"]
    if "context" not in signature.input_fields or not ("question" in others or len(others) == 1):
        raise SignatureError(
            f"RAG cannot use a signature with the inputs {', '.join(signature.input_fields) or '(none)'}. "
            "It needs `context: list[str]` for the passages and `question`, or one other input, to search with."
        )
    return "question" if "question" in others else others[0]


_made: WeakKeyDictionary[type[Signature], dict[int, type[Signature]]] = WeakKeyDictionary()


def _cited(signature: type[Signature], passages: int) -> type[Signature]:
    """The signature whose answers name passages of this number; the same one each time, so that its grammar is made once."""
    known = _made.setdefault(signature, {})
    if passages not in known:
        known[passages] = _with_citations(signature, passages)
    return known[passages]


def _with_citations(signature: type[Signature], passages: int) -> type[Signature]:
    old = signature.output_fields.get(CITATIONS)
    if not passages:
        return signature.delete(CITATIONS)
    numbers: Any = Annotated[list[Literal[tuple(range(1, passages + 1))]], MaxLen(passages)]  # type: ignore[misc]
    if old is None:
        return signature.append(CITATIONS, Declared("output", _WORDS, default=()), numbers)
    if get_origin(old.type.__origin__ if get_origin(old.type) is Annotated else old.type) is not list:
        raise SignatureError(
            f"The output `citations` is of the type {old.type!r}, but RAG fills it with passages. Write `citations: list[int]`, give the "
            "output another name, or switch the citations off: RAG(..., citations=False)."
        )
    return signature.with_updated_fields(CITATIONS, numbers, desc=old.description or _WORDS)


def _number_in(signature: type[Signature]) -> int | None:
    """Passages that can be cited in answers of a signature that `_cited` made; None for another, which somebody put in its place."""
    field = signature.output_fields.get(CITATIONS)
    limits = () if field is None or get_origin(field.type) is not Annotated else field.type.__metadata__
    return next((one.max_length for one in limits if isinstance(one, MaxLen)), None)


def _within(demo: Example | Mapping[str, Any], passages: int) -> Example | Mapping[str, Any]:
    """A demo that can be shown beside so many passages: one that cites others had more of them, and is shown without its citations."""
    cited = demo.get(CITATIONS)
    if not isinstance(cited, Sequence) or all(number <= passages for number in cited):
        return demo
    return Example(demo).without(CITATIONS)
