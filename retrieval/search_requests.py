"""Search requests: what a client of the index server may ask, read from an address or from JSON, and what it gets back.

Knows no server and no index: bytes in, a value or a refusal out. The form is that of ColBERTv2's server: `query` and `k` go in, and the
best passages come back as `topk`.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl

from homefire.retrieval.hit import Hit

DEFAULT_K = 10
MAX_K = 1000
MAX_QUERY = 20_000
"""Characters in a query; any encoder reads far fewer."""
_MAX_FIELDS = 16
_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_JSON_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}


class Refused(Exception):
    """A request that is not answered, with the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """One question to an index."""

    query: str
    k: int = DEFAULT_K
    method: str | None = None
    """None is the index's own default."""
    where: Mapping[str, Any] | None = None

    @property
    def batch(self) -> str:
        """Equal for requests that one search can answer together."""
        return json.dumps([self.k, self.method, self.where], sort_keys=True)


_NAMES = [field.name for field in fields(SearchRequest)]


def from_address(raw: bytes) -> SearchRequest:
    """Reads what stands after the question mark of an address: `query=...&k=3`. A `where` there is JSON.

    Raises:
        Refused: it cannot be read, or asks for what there is not.
    """
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, encoding="utf-8", errors="strict")
    except UnicodeError:
        raise Refused(400, "The address has bytes that are no UTF-8. Encode the query as UTF-8, then with percent signs.") from None
    except ValueError:
        raise Refused(400, f"The address has more than {_MAX_FIELDS} parameters; expected {_listed(_NAMES)}.") from None
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise Refused(400, f"The parameter {_short(name)} was given twice; give it once.")
        values[name] = value
    if "where" in values:
        values["where"] = _json(values["where"], "where")
    return _request(values)


def from_json(body: bytes) -> SearchRequest:
    """Reads a body such as `{"query": "...", "k": 3, "where": {"lang": "en"}}`.

    Raises:
        Refused: as `from_address`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, f"The body is not UTF-8 (byte {error.start}). Send JSON in UTF-8.") from None
    values = _json(text, "The body")
    if not isinstance(values, dict):
        raise Refused(400, f'The body is {_JSON_KINDS.get(type(values), "null")}; expected an object such as {{"query": "...", "k": 3}}.')
    return _request(values)


def answer(request: SearchRequest, hits: Sequence[Hit]) -> dict[str, Any]:
    """What the client gets: values of JSON, the best passage first. `prob` is the softmax of the scores of what is returned."""
    scores = [hit.score for hit in hits]
    best = max(scores, default=0.0)
    weights = [math.exp(score - best) for score in scores]
    total = sum(weights)
    return {
        "query": request.query,
        "topk": [
            {
                "text": hit.passage.text,
                "pid": hit.passage.id,
                "rank": hit.rank,
                "score": hit.score,
                "prob": weight / total,
                "long_text": hit.passage.text,
                "source": hit.passage.source,
                "position": hit.passage.position,
                "metadata": hit.passage.metadata,
                "scores": {name: score if math.isfinite(score) else None for name, score in hit.scores.items()},
            }
            for hit, weight in zip(hits, weights, strict=True)
        ],
    }


def _request(values: Mapping[str, Any]) -> SearchRequest:
    for name in values:
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, 1)
            guess = f"; did you mean {near[0]}?" if near else "."
            raise Refused(400, f"There is no parameter {_short(name)}{guess} Expected {_listed(_NAMES)}.")
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(400, "The request has half of a surrogate pair, which is no character. Send whole characters.") from None
    given = {name: value for name, value in values.items() if value is not None}
    return SearchRequest(
        query=_query(given.pop("query", None)),
        k=_k(given.pop("k", DEFAULT_K)),
        method=_method(given.pop("method", None)),
        where=_where(given.pop("where", None)),
    )


def _query(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(400, f"The query is {'missing' if value is None else _kind(value)}; expected a text, as in ?query=cats&k=3.")
    if len(value) > MAX_QUERY:
        raise Refused(413, f"The query has {len(value)} characters; at most {MAX_QUERY} are read. Ask a shorter question.")
    if not value.strip():
        raise Refused(400, "The query is empty; expected a text to search for.")
    return value


def _k(value: Any) -> int:
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_K:
        raise Refused(400, f"k is {_short(value)}; expected a whole number from 1 to {MAX_K}.")
    return value


def _method(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"method is {_kind(value)}; expected the name of a method, such as fused.")
    return value


def _where(value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise Refused(400, f'where is {_kind(value)}; expected an object such as {{"lang": "en"}}.')
    return value


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise Refused(400, f"{what} is nested too deeply; expected a flat object.") from None
    except ValueError as error:
        raise Refused(400, f"{what} is no JSON: {_short(str(error))}.") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _kind(value: Any) -> str:
    return _JSON_KINDS[type(value)]


def _short(value: Any) -> str:
    """A value of a client as it may stand in a message."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
