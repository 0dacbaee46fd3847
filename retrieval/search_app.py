"""The web application of the index server: its paths, its API key, and its errors as JSON.

Knows no socket and no index: it is handed a function that answers a search. Needs starlette, so `index_server` imports it when it starts.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from homefire.configs.address import is_loopback
from homefire.errors import HomefireError, InputError
from homefire.retrieval.search_requests import Refused, SearchRequest, from_address, from_json

MAX_BODY = 256 * 1024
"""Bytes of a body that are read."""
MAX_WAITING = 256
"""Searches that may wait at once; more are told to come again."""
_PATHS = {"/api/search": ("GET", "HEAD", "POST"), "/api/stats": ("GET", "HEAD"), "/health": ("GET", "HEAD")}
_TYPES = {400: "bad_request", 401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

_log = logging.getLogger(__name__)

Search = Callable[[SearchRequest], Awaitable[dict[str, Any]]]
Facts = Callable[[], Awaitable[dict[str, Any]]]


class JsonText(JSONResponse):
    """JSON in UTF-8 that can carry any text: half a surrogate pair, which no bytes stand for, becomes a question mark."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def search_app(search: Search, stats: Facts, health: Facts, *, api_key: str | None, own_names_only: bool) -> ASGIApp:
    """Makes the application.

    Args:
        search: Answers `/api/search`.
        stats: Answers `/api/stats`.
        health: Answers `/health`, to everybody.
        api_key: What clients must send as `Authorization: Bearer KEY`; None asks for none.
        own_names_only: Whether to answer only requests for this machine's own names, so that no web page can reach a server that asks for
            no key by a name of its own that leads here.
    """
    waiting = 0

    async def searched(request: Request) -> Response:
        nonlocal waiting
        asked = from_address(request.scope["query_string"]) if request.method != "POST" else from_json(await _body(request))
        if waiting >= MAX_WAITING:
            return _error(503, f"{waiting} searches are waiting; try again in a second.", {"Retry-After": "1"})
        waiting += 1
        try:
            return JsonText(await search(asked))
        finally:
            waiting -= 1

    async def told(facts: Facts) -> Response:
        return JsonText(await facts())

    routes = [
        Route("/api/search", _answering(searched), methods=["GET", "POST"]),
        Route("/api/stats", _answering(lambda _: told(stats))),
        Route("/health", _answering(lambda _: told(health))),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused_by_router})
    app.router.redirect_slashes = False
    return _Door(app, api_key, own_names_only)


class _Door:
    """What stands before the application: names and keys."""

    def __init__(self, app: ASGIApp, api_key: str | None, own_names_only: bool) -> None:
        self._app = app
        self._key = None if api_key is None else f"bearer {api_key}".encode()
        self._own_names_only = own_names_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value for name, value in scope["headers"] if name in (b"host", b"authorization")}
        app = self._refusal(headers, scope["path"]) or self._app
        await app(scope, receive, send)

    def _refusal(self, headers: Mapping[bytes, bytes], path: str) -> Response | None:
        if self._own_names_only and not is_loopback(_name(headers.get(b"host", b"localhost").decode("latin-1"))):
            return _error(
                403,
                "This server asks for no key, so it answers only requests to this machine's own names, such as 127.0.0.1 and localhost. "
                "Start it with an API key to reach it by another name.",
            )
        if self._key is None or path == "/health":
            return None
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if hmac.compare_digest(scheme.lower() + b" " + key.strip(), self._key):
            return None
        return _error(401, "This server wants its API key: send the header 'Authorization: Bearer KEY'.", {"WWW-Authenticate": "Bearer"})


def _name(host: str) -> str:
    """The host without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _answering(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler, with everything that goes wrong in it as JSON."""

    async def answering(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refused:
            return _error(refused.status, str(refused))
        except ClientDisconnect:
            return Response(status_code=400)
        except InputError as error:
            return _error(400, str(error))
        except HomefireError as error:
            return _error(500, str(error))
        except asyncio.CancelledError:
            return _error(503, "The server is ending.")
        except Exception:
            _log.exception("A request to %s failed.", request.url.path)
            return _error(500, "The search failed; the server's log says why.")

    return answering


async def _body(request: Request) -> bytes:
    """The body, if it is not too long.

    Raises:
        Refused: it is.
    """
    body = bytearray()
    if int(request.headers.get("content-length", "0")) <= MAX_BODY:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY:
                break
        else:
            return bytes(body)
    raise Refused(413, f"The body has more than {MAX_BODY} bytes; a query and its filter need fewer.")


async def _refused_by_router(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = _PATHS[path]
        return _error(405, f"{path} does not take {request.method}; expected {' or '.join(allowed)}.", {"Allow": ", ".join(allowed)})
    return _error(error.status_code, f"There is nothing at {path[:80]!a}. This server answers at {', '.join(_PATHS)}.")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JsonText({"error": _TYPES.get(status, "server_error"), "message": message}, status, headers)
