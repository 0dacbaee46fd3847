"""What stands before vLLM's server: who may ask what, and which version a name means."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from homefire.engine.server_guard import ALIASES, KEY, LOAD, SECRET, SECRET_HEADER, UNLOAD, Guard

API_KEY = "a-long-random-text"


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that tells what it was asked."""
    parts: list[bytes] = []
    while scope["method"] == "POST":
        event = await receive()
        parts.append(event["body"])
        if not event["more_body"]:
            break
    body = b"".join(parts)
    assert int(dict(scope["headers"]).get(b"content-length", len(body))) == len(body)
    told = {"data": [{"id": "small"}, {"id": "area@2", "parent": "small"}]} if scope["path"] == "/v1/models" else {"got": body.decode()}
    answer = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer[:5], "more_body": True})
    await send({"type": "http.response.body", "body": answer[5:], "more_body": False})


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setenv(KEY, API_KEY)
    monkeypatch.setenv(SECRET, "owner")
    return Guard(behind)


def ask(guard: Guard, method: str, path: str, *pieces: bytes, **headers: str) -> tuple[int, Any]:
    """Status and answer."""
    waiting, events = list(pieces), list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": waiting.pop(0) if waiting else b"", "more_body": bool(waiting)}

    async def send(event: Any) -> None:
        events.append(event)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send))
    answer = b"".join(event["body"] for event in events[1:])
    assert dict(events[0]["headers"])[b"content-length"] == str(len(answer)).encode()
    return events[0]["status"], json.loads(answer)


BEARER = {"authorization": f"Bearer {API_KEY}"}
OWNER = {SECRET_HEADER: "owner"}


def test_every_path_but_the_health_check_wants_the_key(guard: Guard) -> None:
    for path in ("/v1/chat/completions", "/invocations", "/metrics", "/tokenize", "/v1/models", "/"):
        for wrong in ({}, {"authorization": "Bearer "}, {"authorization": f"Bearer {API_KEY}x"}, {"authorization": API_KEY}):
            status, answer = ask(guard, "POST", path, b"{}", **wrong)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
        assert ask(guard, "GET", path, **BEARER)[0] == 200
    assert ask(guard, "GET", "/health")[0] == 200


def test_only_the_owner_changes_adapters(guard: Guard) -> None:
    for path in (LOAD, UNLOAD, ALIASES, "/adapters", "/adapters/area"):
        assert ask(guard, "POST", path, b"{}", **BEARER)[0] == 403
        assert ask(guard, "POST", path, b"{}", **OWNER)[0] == 200


def test_a_name_means_the_version_in_service(guard: Guard) -> None:
    listed = ["small", "area@2"]
    assert [card["id"] for card in ask(guard, "GET", "/v1/models", **BEARER)[1]["data"]] == listed
    ask(guard, "POST", ALIASES, b'{"area": "area@2", "gone": "gone@1"}', **OWNER)
    cards = ask(guard, "GET", "/v1/models", **BEARER)[1]["data"]
    assert cards == [{"id": "small"}, {"id": "area@2", "parent": "small"}, {"id": "area", "parent": "small"}]
    asked = b'{"model": "area", "n": 1}'
    for pieces in ([asked], [asked[:9], asked[9:]]):
        given = ask(guard, "POST", "/v1/completions", *pieces, content_length=str(len(asked)), **BEARER)[1]["got"]
        assert json.loads(given) == {"model": "area@2", "n": 1}
    for other in (b'{"model": "area@1"}', b'{"model": ["area"]}', b"[]", b"no json", b""):
        assert ask(guard, "POST", "/v1/completions", other, **BEARER)[1]["got"].encode() == other
