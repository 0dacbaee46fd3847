"""What clients of the index server may ask: every request is read or refused in words, whatever it holds."""

from __future__ import annotations

import json
import math
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage
from homefire.retrieval.search_requests import MAX_K, MAX_QUERY, Refused, SearchRequest, answer, from_address, from_json

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3))


def refused(read: object, raw: bytes) -> str:
    with pytest.raises(Refused) as caught:
        (from_json if read == "json" else from_address)(raw)
    assert caught.value.status in (400, 413)
    return str(caught.value)


def test_an_address() -> None:
    assert from_address(b"query=two+words&k=3") == SearchRequest(query="two words", k=3)
    assert from_address(quote("query=größe 猫", safe="=").encode()) == SearchRequest(query="größe 猫")
    where = quote('{"lang": ["en", "de"]}')
    assert from_address(f"query=a&method=bm25&where={where}".encode()) == SearchRequest(
        query="a", method="bm25", where={"lang": ["en", "de"]}
    )


def test_a_body() -> None:
    assert from_json(b'{"query": "a\\u00e9", "k": 3, "method": null}') == SearchRequest(query="aé", k=3)
    assert from_json(b'{"query": "a", "k": "3", "where": {"year": {"ge": 2020}}}').where == {"year": {"ge": 2020}}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "The query is missing"),
        (b"query=", "empty"),
        (b"query=%20%0a", "empty"),
        (b"query=a&k=0", f"k is 0; expected a whole number from 1 to {MAX_K}"),
        (b"query=a&k=-1", "k is '-1'"),
        (b"query=a&k=1e3", "k is '1e3'"),
        (b"query=a&k=%D9%A3", "k is '\\u0663'"),
        (b"query=a&k=99999999999999999999", "k is"),
        (f"query=a&k={MAX_K + 1}".encode(), "k is"),
        (b"query=%ff", "no UTF-8"),
        (b"query=\xff", "no UTF-8"),
        (b"query=a&query=b", "'query' was given twice"),
        (b"query=a&quarry=b", "There is no parameter 'quarry'; did you mean query? Expected query, k, method and where."),
        (b"&".join(b"a%d=1" % number for number in range(30)), "more than 16 parameters"),
        (b"query=a&where=lang", "where is no JSON"),
        (b"query=a&where=3", "where is a number"),
        (b"query=" + b"a" * (MAX_QUERY + 1), f"{MAX_QUERY + 1} characters"),
    ],
)
def test_addresses_that_are_refused(raw: bytes, says: str) -> None:
    assert says in refused("address", raw)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "The body is no JSON"),
        (b"\xff{}", "not UTF-8 (byte 0)"),
        (b"[]", "The body is a list"),
        (b"null", "The body is null"),
        (b'{"query": 3}', "The query is a number"),
        (b'{"query": ["a"]}', "The query is a list"),
        (b'{"query": "\\ud800"}', "surrogate"),
        (b'{"query": "a", "where": {"b": "\\udfff"}}', "surrogate"),
        (b'{"query": "a", "k": true}', "k is True"),
        (b'{"query": "a", "k": 2.0}', "k is 2.0"),
        (b'{"query": "a", "k": ' + b"9" * 5000 + b"}", "no JSON"),
        (b'{"query": "a", "where": {"b": NaN}}', "NaN is no number"),
        (b'{"query": "a", "method": 1}', "method is a number"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"query": "a"', "no JSON"),
    ],
)
def test_bodies_that_are_refused(raw: bytes, says: str) -> None:
    assert says in refused("json", raw)


@settings(deadline=None, max_examples=60)
@given(values=st.dictionaries(st.sampled_from(["query", "k", "method", "where", "other"]) | st.text(max_size=3), VALUES))
def test_whatever_comes_is_read_or_refused(values: dict[str, object]) -> None:
    try:
        request = from_json(json.dumps(values).encode())
    except Refused as refusal:
        assert str(refusal)
    else:
        assert request.query.strip() and 1 <= request.k <= MAX_K


@settings(deadline=None, max_examples=60)
@given(values=st.dictionaries(st.sampled_from(["query", "k", "method", "where", "other"]), st.text()), raw=st.binary())
def test_whatever_stands_in_an_address_is_read_or_refused(values: dict[str, str], raw: bytes) -> None:
    for address in (urlencode(values, errors="replace").encode(), raw):
        try:
            assert from_address(address).query.strip()
        except Refused as refusal:
            assert str(refusal)


def test_an_answer_has_what_the_protocol_names() -> None:
    hits = [
        Hit(Passage(id=name, text=f"text {name}", source="a.md", metadata={"line": 3}), score, rank, {"bm25": 2.0, "dense": -math.inf})
        for rank, (name, score) in enumerate([("x", 900.0), ("y", 899.0)], 1)
    ]
    told = answer(SearchRequest(query="q", k=2), hits)
    assert told["query"] == "q"
    assert [(one["pid"], one["rank"], one["score"], one["text"], one["long_text"]) for one in told["topk"]] == [
        ("x", 1, 900.0, "text x", "text x"),
        ("y", 2, 899.0, "text y", "text y"),
    ]
    assert [one["prob"] for one in told["topk"]] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    assert told["topk"][0]["scores"] == {"bm25": 2.0, "dense": None}
    json.dumps(told, allow_nan=False)


def test_an_answer_without_hits() -> None:
    assert answer(SearchRequest(query="q"), []) == {"query": "q", "topk": []}


def test_only_like_requests_are_answered_together() -> None:
    one = SearchRequest(query="a", where={"x": 1, "y": 2})
    assert one.batch == SearchRequest(query="b", where={"y": 2, "x": 1}).batch
    assert one.batch != SearchRequest(query="a", where={"x": 1}).batch
    assert SearchRequest(query="a", k=3).batch != SearchRequest(query="a", k=4).batch
