"""An index behind an address: an HTTP server that speaks ColBERTv2's protocol, `GET /api/search?query=...&k=3`, and tells its state.

Knows no command line and no encoder. Any client of that protocol can ask it: `ColBERTv2(url="http://127.0.0.1:8893/api/search")`.

Searches run on one thread beside the one that talks to clients: libraries use all cores for one search, and what comes in meanwhile is
answered by the next search, together.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from homefire.configs.address import checked_key, http_address, is_loopback, listening_port
from homefire.errors import EngineError, HomefireError, MissingExtra
from homefire.retrieval.search_batches import Together
from homefire.retrieval.search_requests import SearchRequest, answer

if TYPE_CHECKING:
    import uvicorn

    from homefire.retrieval.hit import Hit
    from homefire.retrieval.index import Index

PORT = 8893
_TOGETHER = 64
"""Searches that wait for the one thread at once, and queries in one search; more wait before them."""
_MAX_CONNECTIONS = 512
_REST_SECONDS = 15
"""How long a connection may rest between two requests."""
_END_SECONDS = 5
"""How long what is being answered may take when the server ends."""
_TRIAL = "The first query takes longest."

_log = logging.getLogger(__name__)


class IndexServer:
    """An index behind an address, as long as the block lasts. What other processes commit to it is found from the next search on.

    Args:
        index: Searched by this server alone, one search at a time.
        host: Address to listen on. Any but this machine's own needs an API key.
        port: 0 takes any that is free.
        api_key: What clients must send as `Authorization: Bearer KEY`; None asks for none.
        method: How to search where a client does not say: `dense`, `bm25`, `late`, `fused`. None is the index's own default.

    Raises:
        InputError: host, port or key cannot be used.
    """

    def __init__(
        self, index: Index, *, host: str = "127.0.0.1", port: int = PORT, api_key: str | None = None, method: str | None = None
    ) -> None:
        self.index = index
        self.host, self.port = host, port
        self.method = method
        self._api_key = checked_key(host, api_key)
        self._together = Together[str, SearchRequest, "list[Hit]"](self._on_one_thread, _TOGETHER)
        self._waiters = ThreadPoolExecutor(_TOGETHER, "homefire index requests")
        self._searcher = ThreadPoolExecutor(1, "homefire index searches")
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._told = ""

    @property
    def url(self) -> str:
        """The address, without a path."""
        return http_address(self.host, self.port)

    def start(self) -> None:
        """Starts the server, with the encoder loaded, and waits until it answers.

        Raises:
            MissingExtra: starlette or uvicorn is not installed.
            InputError: nothing can listen there, or the index cannot be searched.
            EngineError: the port is taken.
        """
        config = self._config()
        self.port = listening_port(self.host, self.port)
        listener = socket.create_server((self.host, self.port), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET, backlog=256)
        try:
            self._searcher.submit(self.index.search, [_TRIAL], 1, method=self.method).result()
        except BaseException:
            listener.close()
            raise
        import uvicorn

        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="homefire index server", daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive():
                raise EngineError(f"The server at {self.url} did not start; its log says why.")

    def wait(self) -> None:
        """Returns when another thread closes the server.

        Raises:
            EngineError: it ended by itself.
        """
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.5)
        if self._server is not None and not self._server.should_exit:
            raise EngineError(f"The server at {self.url} ended by itself; its log says why. Start it again.")

    def close(self) -> None:
        """Answers what is being answered, and ends; closing twice is allowed."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._waiters.shutdown(cancel_futures=True)
        self._searcher.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        """Starts it."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self.close()

    def _config(self) -> uvicorn.Config:
        try:
            import uvicorn

            from homefire.retrieval.patient_http import MAX_HEAD, PatientHttp
            from homefire.retrieval.search_app import search_app
        except ImportError as error:
            raise MissingExtra(error.name or "starlette", "serve", "The index server") from error
        bare = self._api_key is None and is_loopback(self.host)
        return uvicorn.Config(
            search_app(self._search, self._stats, self._health, api_key=self._api_key, own_names_only=bare),
            http=PatientHttp,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_REST_SECONDS,
            timeout_graceful_shutdown=_END_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD,
        )

    async def _search(self, request: SearchRequest) -> dict[str, Any]:
        hits = await asyncio.get_running_loop().run_in_executor(self._waiters, self._together, request.batch, request)
        return answer(request, hits)

    async def _stats(self) -> dict[str, Any]:
        stats = await asyncio.get_running_loop().run_in_executor(self._searcher, self.index.stats)
        return asdict(stats)

    async def _health(self) -> dict[str, Any]:
        return {"status": "ok", "passages": len(self.index)}

    def _on_one_thread(self, _: str, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        return self._searcher.submit(self._find, requests).result()

    def _find(self, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
        """The hits of requests that differ only in their queries."""
        self._refresh()
        first = requests[0]
        return self.index.search([one.query for one in requests], first.k, method=first.method or self.method, where=first.where)

    def _refresh(self) -> None:
        """Takes the newest state; while there is none that can be used, the one at hand goes on answering, and the log says so once."""
        try:
            self.index.refresh()
            self._told = ""
        except (HomefireError, OSError) as error:
            if str(error) == self._told:
                return
            self._told = str(error)
            if not self._opened_again():
                _log.warning("The index has a state that cannot be used, so the one before it still answers. %s", error)

    def _opened_again(self) -> bool:
        """Whether the index could be opened anew, as it must be when it was built with another encoder."""
        try:
            index = type(self.index).open(self.index.directory)
            index.search([_TRIAL], 1, method=self.method)
        except (HomefireError, OSError):
            return False
        self.index = index
        return True
