"""Retrievers: whatever finds passages for a query, an index or a function, and what it found as hits.

Knows no language model and no way of searching.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import Any, Protocol

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.retrieval.found import Found
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage


class Retriever(Protocol):
    """Finds passages for a query, the best one first: an `Index`, an `Embeddings`, or any function `retriever(query, k=3)`.

    It may give texts, passages, hits, mappings or objects with a `text` or `long_text`, or a prediction whose `passages` are these.
    """

    def __call__(self, query: str, *, k: int) -> Any: ...


def search(retriever: Retriever, query: str, k: int, options: Mapping[str, Any]) -> Found:
    """What a retriever finds, at most `k`.

    Args:
        retriever: Whom to ask.
        query: What to look for.
        k: How many.
        options: More arguments for it; an `Index` takes `method`, `where` and `rerank`.

    Raises:
        InputError: `k` is below 1, the query is no text, the retriever does not take these arguments, or it gave something that holds no
            passages.
    """
    if not isinstance(query, str):
        raise InputError(f"The query is {query!r}; expected a text. Search for several with several calls, as in program.batch([...]).")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise InputError(f"k is {k!r}; expected a whole number, 1 or more.")
    try:
        given = retriever(query, k=k, **options)
    except TypeError:
        _require_fitting(retriever, query, {"k": k, **options})
        raise
    return hits_of(given, _name(retriever), k)


def _require_fitting(retriever: Retriever, query: str, arguments: Mapping[str, Any]) -> None:
    """Python's own error would come from here, and not say who wants what.

    Raises:
        InputError: the retriever does not take these arguments.
    """
    try:
        inspect.signature(retriever).bind(query, **arguments)
    except ValueError:
        return  # one that does not say what it takes
    except TypeError as error:
        wanted = ", ".join(["query", *(f"{name}={value!r}" for name, value in arguments.items())])
        raise InputError(
            f"The retriever {_name(retriever)} cannot be asked: {error}. It is called as {_name(retriever)}({wanted}); give one that takes "
            "these arguments."
        ) from None


def hits_of(given: Any, giver: str, most: int | None = None) -> Found:
    """What a retriever gave, as hits.

    A passage without a score has the score NaN; one without an id has one made of its text.

    Args:
        given: See `Retriever`.
        giver: Name of the retriever, for errors.
        most: Hits to keep.

    Raises:
        InputError: it holds no passages.
    """
    if isinstance(given, Found):
        return given if most is None or len(given) <= most else Found(given[:most])
    items, scores = _listed(given, giver)
    items = items if most is None else items[:most]
    return Found(_hit(item, rank, scores, giver) for rank, item in enumerate(items, start=1))


def _listed(given: Any, giver: str) -> tuple[Sequence[Any], Sequence[float]]:
    """The single passages, and their scores where those are given beside them."""
    if isinstance(given, Example):
        inner = given.get("hits", given.get("passages"))
        if inner is None:
            raise InputError(f"{giver} gave a prediction with {', '.join(given) or 'no fields'}; expected one with `passages`.")
        items = _sequence(inner, giver)
        scores = given.get("scores")
        return items, list(scores) if scores is not None and len(scores) == len(items) else ()
    return _sequence(given, giver), ()


def _sequence(given: Any, giver: str) -> Sequence[Any]:
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()
        raise InputError(f"{giver} is asynchronous. Give a plain function: def {giver}(query, k=3): ...")
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"{giver} gave a {type(given).__name__}; expected a list of texts or passages, the best one first.")
    return list(given)


def _hit(item: Any, rank: int, scores: Sequence[float], giver: str) -> Hit:
    score = float(scores[rank - 1]) if scores else nan
    match item:
        case Hit():
            return item if item.rank == rank else Hit(item.passage, item.score, rank, item.scores)
        case Passage():
            return Hit(item, score, rank)
        case str():
            return Hit(_passage(item, None, giver), score, rank)
        case Mapping() | Example():
            text = item.get("long_text", item.get("text"))
            return _of_parts(text, item.get("pid", item.get("id")), item.get("score"), rank, giver, score)
        case _:  # somebody else's class
            text = getattr(item, "long_text", getattr(item, "text", None))
            return _of_parts(text, getattr(item, "pid", getattr(item, "id", None)), getattr(item, "score", None), rank, giver, score)


def _of_parts(text: Any, name: Any, own: Any, rank: int, giver: str, score: float) -> Hit:
    if not isinstance(text, str):
        raise InputError(f"Passage {rank} that {giver} gave has no text; expected a text, a Passage, or something with `text`.")
    number = float(own) if isinstance(own, int | float) and not isinstance(own, bool) else score
    return Hit(_passage(text, name, giver), number, rank)


def _passage(text: str, name: Any, giver: str) -> Passage:
    made = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16] if name is None else str(name)
    return Passage(id=made, text=text, source=giver)


def _name(retriever: object) -> str:
    return str(getattr(retriever, "__name__", type(retriever).__name__))
