"""The client of ColBERTv2 servers, against real servers on real ports that behave and that do not."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import homefire
from homefire.errors import CallTimeout, ConfigError, InputError, ServerError
from homefire.modules.settings import context
from homefire.retrieval.colbert_client import ColBERTv2
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_server import IndexServer
from homefire.retrieval.passage import Passage

TOPK = [{"text": f"passage {rank}", "pid": 40 + rank, "rank": rank, "score": 30.0 - rank, "prob": 0.5**rank} for rank in range(1, 6)]
Reply = tuple[int, dict[str, str], bytes]


def answer(values: object, status: int = 200, **headers: str) -> Reply:
    return status, {"Content-Type": "application/json", **headers}, json.dumps(values).encode()


@dataclass
class Server:
    """Says what it is told to say, in order; then the first passages."""

    replies: list[Reply | Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(*replies: Reply | Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Server]:
    made = Server(list(replies))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.seen.append((self.path, dict(self.headers), body))
            reply = made.replies.pop(0) if made.replies else answer({"query": "q", "topk": TOPK})
            if callable(reply):
                return reply(self)
            status, headers, content = reply
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            return None

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}/wiki17_abstracts"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waits: list[float] = []
    monkeypatch.setattr("homefire.retrieval.colbert_client.time.sleep", waits.append)
    return waits


def test_a_search_as_dspys_users_write_it() -> None:
    with serving() as server:
        results = homefire.ColBERTv2(url=server.url)("What is a query & why?", k=3)
    query = parse_qs(urlsplit(server.seen[0][0]).query)
    assert (urlsplit(server.seen[0][0]).path, query) == ("/wiki17_abstracts", {"query": ["What is a query & why?"], "k": ["3"]})
    assert [found["text"] for found in results] == [found.long_text for found in results] == ["passage 1", "passage 2", "passage 3"]
    first = results[0]
    assert (first.text, first.pid, first.rank, first.score, first.prob) == ("passage 1", 41, 1, 29.0, 0.5)
    assert {**first} == {"text": "passage 1", "pid": 41, "rank": 1, "score": 29.0, "prob": 0.5, "long_text": "passage 1"}
    with pytest.raises(KeyError):
        first["title"]


def test_texts_only_posts_ports_and_keys() -> None:
    with serving() as server:
        host, _, port = server.url.removeprefix("http://").partition("/")[0].partition(":")
        texts = ColBERTv2(f"http://{host}", port=port, post_requests=True, api_key="secret")("é \ud800 q", k=2, simplify=True)
    path, headers, body = server.seen[0]
    assert texts == ["passage 1", "passage 2"]
    assert (path, json.loads(body)) == ("/", {"query": "é � q", "k": 2})
    assert headers["Authorization"] == "Bearer secret"


def test_an_address_with_a_query_of_its_own_keeps_it() -> None:
    with serving() as server:
        ColBERTv2(f"{server.url}?index=mine")("q")
    assert parse_qs(urlsplit(server.seen[0][0]).query) == {"index": ["mine"], "query": ["q"], "k": ["10"]}


def test_little_is_asked_of_a_passage() -> None:
    with serving(answer({"topk": [{"long_text": "a"}, {"text": "b", "pid": "x#1", "rank": True, "score": "high"}]})) as server:
        first, second = ColBERTv2(server.url)("q")
    assert (first.text, first.pid, first.rank) == ("a", None, 1) and math.isnan(first.score) and math.isnan(first.prob)
    assert (second.pid, second.rank) == ("x#1", 2) and math.isnan(second.score)


def test_a_busy_server_is_asked_again(_no_waits: list[float]) -> None:
    with serving(answer({}, 503), answer({}, 429, **{"Retry-After": "7"}), hang_up) as server:
        assert len(ColBERTv2(server.url)("q", k=5)) == 5
    assert len(server.seen) == 4 and _no_waits == [0.25, 7.0, 1.0]


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (answer({"message": "no such index"}, 400), r"refused the search \(400, tried once\): no such index"),
        (answer({"error": "nothing"}, 404), r"404.*nothing\. Is the path of the address right\?"),
        ((200, {}, b"<html><body>Welcome</body></html>"), r"not JSON: 'Welcome'.*Is it a ColBERTv2 server"),
        (answer([1, 2]), "without a list `topk`"),
        (answer({"topk": "none"}), "without a list `topk`"),
        (answer({"topk": [{"text": 7}]}), "a passage without a text, at rank 1"),
        (answer({"topk": ["text"]}), "a passage without a text, at rank 1"),
        (answer({"error": True, "message": "the index is gone"}), "something went wrong: the index is gone"),
    ],
)
def test_what_is_no_answer_says_so(reply: Reply, message: str) -> None:
    with serving(reply) as server, pytest.raises(ServerError, match=message):
        ColBERTv2(server.url)("q")


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.retrieval.colbert_client._MOST_BYTES", 100)
    with serving() as server, pytest.raises(ServerError, match="more than 100 bytes"):
        ColBERTv2(server.url)("q")


def test_a_redirect_to_another_host_is_not_followed() -> None:
    with serving() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        with serving((302, {"Location": elsewhere}, b"")) as server, pytest.raises(ServerError, match="302"):
            ColBERTv2(server.url)("q")
        assert other.seen == []
    with serving((302, {"Location": "/moved"}, b"")) as server:
        assert len(ColBERTv2(server.url)("q")) == 5
    assert [path for path, _, _ in server.seen][1].startswith("/moved")


def test_nobody_there_and_nobody_in_time(_no_waits: list[float]) -> None:
    with serving() as server:
        gone = server.url
    with pytest.raises(ServerError, match=r"could not be reached.*tried 2 times.*homefire index serve"):
        ColBERTv2(gone, num_retries=1)("q")
    silent = threading.Event()
    with serving(lambda handler: silent.wait(20) and None) as server:  # type: ignore[arg-type, return-value]
        with pytest.raises(CallTimeout, match=r"within 0\.1 s \(tried once\)"):
            ColBERTv2(server.url, timeout=0.1, num_retries=0)("q")
        silent.set()


def test_an_index_of_ones_own_behind_an_address(tmp_path: Path) -> None:
    passages = [Passage(id=f"p{place}", text=text, source="s") for place, text in enumerate(["Cats purr.", "Bread needs flour."])]
    index = Index.build(tmp_path / "index", passages, HashEncoder())
    with IndexServer(index, port=0, api_key="let-me-in") as server:
        address = f"{server.url}/api/search"
        client = ColBERTv2(address, api_key="let-me-in")
        (found,) = client("What is flour for?", k=1)
        assert (found.text, found.pid, found.rank) == ("Bread needs flour.", "p1", 1) and found.score > 0
        assert client("cats", k=2, simplify=True) == ["Cats purr.", "Bread needs flour."]
        with context(rm=client):
            hit = homefire.Retrieve(k=1)("flour").hits[0]
        assert (hit.passage.id, hit.text) == ("p1", "Bread needs flour.") and hit.score == client("flour", k=1)[0].score
        with pytest.raises(ServerError, match="401"):
            ColBERTv2(address)("cats")
        with pytest.raises(ServerError, match=r"404.*path of the address"):
            ColBERTv2(f"{server.url}/elsewhere", api_key="let-me-in")("cats")


@pytest.mark.parametrize("url", ["localhost:8893", "file:///etc/passwd", "http://", "http://a b/", "http://h:x/", 7])
def test_what_is_no_address(url: Any) -> None:
    with pytest.raises(ConfigError, match="expected one with http://"):
        ColBERTv2(url)


def test_wrong_arguments() -> None:
    for changes in ({"timeout": 0}, {"num_retries": -1}, {"api_key": "a\nb"}):
        with pytest.raises(ConfigError):
            ColBERTv2("http://localhost", **changes)  # type: ignore[arg-type]
    client = ColBERTv2("http://localhost")
    for query, k in (("q", 0), ("q", True), (["q"], 3), (None, 3)):
        with pytest.raises(InputError, match="expected a text"):
            client(query, k=k)  # type: ignore[call-overload]
