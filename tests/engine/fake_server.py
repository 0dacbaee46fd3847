"""A model server for tests: a real HTTP server on a real port that says what it is told to say, also what no server should.

Knows no client. Replies are functions that write to the connection; what they have not answered, `say` answers.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from homefire.engine.http_engine import HttpEngine
from homefire.engine.remote import RemoteSettings, remote_engine
from homefire.engine.request import Message, Request

Reply = Callable[[socket.socket, "Seen"], bool]
"""Answers one request; whether the connection stays open."""


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    connection: int


@dataclass
class FakeServer:
    """Serves until the block ends.

    Args:
        replies: What the POSTs get, in order, whatever they ask for; then `otherwise`.
        owner: Who owns the models, by which clients tell servers apart; None has no list of models.
        context: What the list says of the context.
    """

    replies: list[Reply] = field(default_factory=list)
    owner: str | None = "somebody"
    context: int | None = None
    otherwise: Reply = field(default_factory=lambda: say())
    tokenizer: bool = False
    seen: list[Seen] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away from a reply that was still being written."""
    connections: int = 0
    dropping: bool = False
    """Whether a connection is closed by the server a moment after each answer, as busy proxies do."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for one in [self._listener, *self._sockets]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    @property
    def posts(self) -> list[Seen]:
        """Requests for completions, in order."""
        return [one for one in self.seen if one.method == "POST" and one.path.endswith("completions")]

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        reader = connection.makefile("rb")
        try:
            while (seen := _read(reader, number)) is not None:
                with self._lock:
                    self.seen.append(seen)
                    reply = self._reply(seen)
                if not reply(connection, seen) or self.dropping:
                    break
        except OSError:
            self.hung_up.set()
        finally:
            connection.close()
            reader.close()

    def _reply(self, seen: Seen) -> Reply:
        if seen.method == "GET":
            entry = {"id": "m", "object": "model", "owned_by": self.owner, "max_model_len": self.context}
            return status(404, {"error": {"message": "Not Found"}}) if self.owner is None else status(200, {"data": [entry]})
        if seen.path == "/tokenize":
            text = seen.body.get("prompt") or "".join(turn["content"] for turn in seen.body.get("messages", ()))
            return status(200, {"tokens": list(map(ord, text)), "count": len(text)}) if self.tokenizer else status(404, "Not Found")
        if seen.path == "/detokenize":
            text = "".join("\ufffd" if token > 255 else chr(token) for token in seen.body["tokens"])
            return status(200, {"prompt": text}) if self.tokenizer else status(404, "Not Found")
        return self.replies.pop(0) if self.replies else self.otherwise


def _read(reader: Any, number: int) -> Seen | None:
    start = reader.readline().decode().split()
    if len(start) < 2:
        return None
    headers = {}
    while line := reader.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    content = reader.read(int(headers.get("content-length", 0)))
    return Seen(start[0], start[1], headers, json.loads(content) if content else None, number)


def raw(*parts: bytes, keep: bool = False) -> Reply:
    """Exactly these bytes."""

    def reply(connection: socket.socket, _: Seen) -> bool:
        for part in parts:
            connection.sendall(part)
        return keep

    return reply


def status(code: int, body: object = "", headers: Mapping[str, str] | None = None, kind: str = "application/json") -> Reply:
    """An answer with a status; a text goes out as it is, anything else as JSON."""
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {code} X", f"Content-Type: {kind}", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + content, keep=True)


def choice(text: str | None, index: int = 0, finish: str | None = "stop", **message: object) -> dict[str, Any]:
    return {"index": index, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}


def answer(*choices: Mapping[str, Any], usage: Mapping[str, Any] | None = None) -> Reply:
    """A whole answer with these choices."""
    return status(200, {"id": "x", "object": "chat.completion", "choices": list(choices), "usage": usage})


def say(text: str = "hello") -> Reply:
    """A good answer in the form that was asked for: streamed or whole, `n` times, with usage."""

    def reply(connection: socket.socket, seen: Seen) -> bool:
        count = seen.body.get("n") or 1
        usage = {"prompt_tokens": 7, "completion_tokens": 3 * count, "prompt_tokens_details": {"cached_tokens": 4}}
        if not seen.body.get("stream"):
            key = "message" if "messages" in seen.body else "text"
            choices = [{"index": i, key: {"content": text} if key == "message" else text, "finish_reason": "stop"} for i in range(count)]
            return status(200, {"choices": choices, "usage": usage})(connection, seen)
        pieces = [{"choices": [{"index": i, "delta": {"content": char}}]} for char in text for i in range(count)]
        ends = [{"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]} for i in range(count)]
        return events([*pieces, *ends, {"choices": [], "usage": usage}])(connection, seen)

    return reply


def scripted(text_of: Callable[[Mapping[str, Any]], str]) -> Reply:
    """What a model would answer that says a text for each body, a character a token: cut at stop texts and at the limit of tokens."""

    def reply(connection: socket.socket, seen: Seen) -> bool:
        body = seen.body
        if "prompt_logprobs" in body:
            return status(200, logprobs_of(body["prompt"], lambda token: -0.01 if chr(token) in " Paris." else -1.0))(connection, seen)
        whole = text_of(body)
        said = whole[: min((whole.index(stop) for stop in body.get("stop", ()) if stop in whole), default=len(whole))]
        text, count = said[: body["max_tokens"]], body.get("n") or 1
        finish = "stop" if text == said else "length"
        marks = {"content": [{"token": char, "logprob": -0.5} for char in text]} if body.get("logprobs") else None
        prompt = sum(len(turn["content"]) for turn in body["messages"])
        usage = {"prompt_tokens": prompt, "completion_tokens": max(1, len(text)) * count}
        if not body.get("stream"):
            made = [{**choice(text, index, finish), "logprobs": marks} for index in range(count)]
            return answer(*made, usage=usage)(connection, seen)
        pieces = [{"choices": [{"index": index, "delta": {"content": char}}]} for char in text for index in range(count)]
        ends = [{"choices": [{"index": index, "delta": {}, "finish_reason": finish}]} for index in range(count)]
        return events([*pieces, *ends, {"choices": [], "usage": usage}])(connection, seen)

    return reply


def events(chunks: Iterable[object], *, done: bool = True, keep: bool = True) -> Reply:
    """A stream of server-sent events; without `done` it breaks off after the last chunk."""

    def reply(connection: socket.socket, _: Seen) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in [*chunks, *(["[DONE]"] if done else [])]:
            text = chunk if isinstance(chunk, str) else json.dumps(chunk)
            _chunk(connection, f"data: {text}\n\n".encode())
        if done:
            connection.sendall(b"0\r\n\r\n")
        return keep and done

    return reply


def hang(server: FakeServer) -> Reply:
    """Nothing, until the client goes away."""

    def reply(connection: socket.socket, _: Seen) -> bool:
        while not server._ended:
            if select.select([connection], [], [], 0.05)[0]:
                server.hung_up.set()
                return False
        return False

    return reply


def drip(server: FakeServer, *, stream: bool = False) -> Reply:
    """An answer that never ends, a little at a time."""

    def reply(connection: socket.socket, _: Seen) -> bool:
        kind = b"text/event-stream" if stream else b"application/json"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b'data: {"choices": [{"index": 0, "delta": {"content": "x"}}]}\n\n' if stream else b" "
        while not server._ended:
            if select.select([connection], [], [], 0.05)[0]:
                server.hung_up.set()
                return False
            _chunk(connection, piece)
        return False

    return reply


def reset(connection: socket.socket, _: Seen) -> bool:
    """The connection is torn down instead of an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def logprobs_of(prompts: Sequence[Sequence[int]], value: Callable[[int], float]) -> dict[str, Any]:
    """The answer to a request for the log-probabilities of prompts."""
    choices = []
    for index, prompt in enumerate(prompts):
        places = [None, *({str(token): {"logprob": value(token), "rank": 1, "decoded_token": chr(token)}} for token in prompt[1:])]
        choices.append({"index": index, "text": "x", "finish_reason": "length", "prompt_logprobs": places})
    return {"choices": choices}


def _chunk(connection: socket.socket, content: bytes) -> None:
    connection.sendall(f"{len(content):x}\r\n".encode() + content + b"\r\n")


ASK = Request(messages=(Message("user", "Hi"),))


def engine(server: FakeServer, name: str = "openai/m", **settings: Any) -> HttpEngine:
    """The engine of the server's model; its key is `secret-key`."""
    given = {"api_base": server.url, "api_key": "secret-key", "num_retries": 0, "timeout": 60.0, **settings}
    return remote_engine(name, RemoteSettings(**given))
