"""What stands before vLLM's server: the API key on every path, and names of adapters that mean the version in service.

Knows no adapter store and none of vLLM's code: it is an ASGI middleware, which vLLM loads by its name in the server's process.

vLLM's own check covers only some paths: without this one `/invocations` would answer without a key, and who has the key could have any
folder of the machine loaded as an adapter. A name without a version is replaced in each request by the version in service at that time, so
that an answer is never begun by one version and ended by another, and cached prefixes belong to one version.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

ALIASES = "/homefire/aliases"
"""Path that takes the names and the versions they mean."""
LOAD = "/v1/load_lora_adapter"
UNLOAD = "/v1/unload_lora_adapter"
KEY = "VLLM_API_KEY"
SECRET = "HOMEFIRE_SERVER_SECRET"
"""Environment variable with what only the process knows that started the server."""
SECRET_HEADER = "x-homefire-secret"
_OWNERS = (LOAD, UNLOAD, ALIASES, "/adapters")
_OPEN = ("/health", "/ping")

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Event, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI middleware.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._key = os.environ.get(KEY, "")
        self._secret = os.environ[SECRET]
        self._aliases: dict[str, str] = {}

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answers what is not allowed, and passes on the rest."""
        path, headers = scope.get("path", ""), _headers(scope)
        if scope["type"] == "lifespan" or scope.get("method") == "OPTIONS" or path in _OPEN:
            await self._app(scope, receive, send)
        elif path.startswith(_OWNERS):
            await self._owner(scope, receive, send, path, headers)
        elif self._key and not _is_bearer(headers.get("authorization", ""), self._key):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await _refuse(send, 401, "This server wants its API key: send the header 'Authorization: Bearer KEY'.", "invalid_api_key")
        elif scope.get("method") == "POST" and self._aliases:
            await self._renamed(scope, receive, send)
        elif scope.get("method") == "GET" and path == "/v1/models":
            await self._listed(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _owner(self, scope: Event, receive: Receive, send: Send, path: str, headers: dict[str, str]) -> None:
        if not _same(headers.get(SECRET_HEADER, ""), self._secret):
            what = "Adapters are changed by homefire alone; use: homefire adapters promote, homefire adapters rollback"
            await _refuse(send, 403, what, "forbidden")
        elif path == ALIASES:
            self._aliases = json.loads(await _body(receive) or b"{}")
            await _answer(send, 200, {})
        else:
            await self._app(scope, receive, send)

    async def _renamed(self, scope: Event, receive: Receive, send: Send) -> None:
        """Passes a request on with the version that its model's name means now."""
        body = await _body(receive)
        if body is None:
            return
        changed = _with_version(body, self._aliases)
        lengths = [(b"content-length", str(len(changed)).encode())]
        scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"content-length"] + lengths
        given = False

        async def replay() -> Event:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": changed, "more_body": False}

        await self._app(scope, replay, send)

    async def _listed(self, scope: Event, receive: Receive, send: Send) -> None:
        """The list of models, with the names that have no version."""
        start: Event = {}
        parts: list[bytes] = []

        async def collect(event: Event) -> None:
            if event["type"] == "http.response.start":
                start.update(event)
                return
            parts.append(event.get("body", b""))
            if not event.get("more_body"):
                body = _with_aliases(b"".join(parts), self._aliases) if start["status"] == 200 else b"".join(parts)
                headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
                await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
                await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, collect)


def _with_version(body: bytes, aliases: dict[str, str]) -> bytes:
    try:
        record = json.loads(body)
    except ValueError:
        return body
    if not isinstance(record, dict) or not isinstance(record.get("model"), str) or record["model"] not in aliases:
        return body
    return json.dumps({**record, "model": aliases[record["model"]]}).encode()


def _with_aliases(body: bytes, aliases: dict[str, str]) -> bytes:
    listing = json.loads(body)
    cards = {card["id"]: card for card in listing["data"]}
    listing["data"] += [{**cards[target], "id": name} for name, target in aliases.items() if target in cards]
    return json.dumps(listing).encode()


async def _body(receive: Receive) -> bytes | None:
    """The whole body; none when the client went away."""
    parts: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        parts.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(parts)


def _headers(scope: Event) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}


def _is_bearer(given: str, key: str) -> bool:
    scheme, _, token = given.partition(" ")
    return scheme.lower() == "bearer" and _same(token.strip(), key)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


async def _refuse(send: Send, status: int, message: str, code: str) -> None:
    await _answer(send, status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


async def _answer(send: Send, status: int, record: dict[str, Any]) -> None:
    body = json.dumps(record).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
