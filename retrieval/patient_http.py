"""HTTP for the index server: uvicorn's own protocol, with a deadline for each request and errors as JSON.

Knows no application. Needs uvicorn, so `index_server` imports it when it starts.

uvicorn waits without end for a request that was begun. Here a request must have come whole some seconds after its first byte, or, the
first one of a connection, after the connection was made.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS = 30.0
MAX_HEAD = 64 * 1024
"""Bytes of a request before its body."""


class PatientHttp(H11Protocol):
    """One connection."""

    request_seconds = REQUEST_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing():
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Says that this is no HTTP; where an answer has gone out already, the connection is closed without a word."""
        self._refuse(400, f"This is no HTTP request, or its head has more than {MAX_HEAD} bytes.")

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self._refuse(408, f"The request did not come whole within {self.request_seconds:g} seconds.")

    def _refuse(self, status: int, message: str) -> None:
        body = json.dumps({"error": "bad_request", "message": message}).encode()
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        response = h11.Response(status_code=status, headers=headers)
        with suppress(h11.LocalProtocolError):
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
