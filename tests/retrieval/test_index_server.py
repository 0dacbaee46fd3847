"""The index server on real sockets: what it answers, what it refuses and how, and that it lives on whatever comes."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from homefire.errors import EngineError, InputError
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_server import IndexServer
from homefire.retrieval.passage import Passage
from homefire.retrieval.patient_http import MAX_HEAD, PatientHttp
from homefire.retrieval.search_app import MAX_BODY
from homefire.retrieval.search_requests import MAX_QUERY

TEXTS = {"cats": "Cats sleep most of the day.", "dogs": "Dogs guard the house.", "größe": "Die Größe der Katze: 猫."}
KEY = "a-long-random-text"
PATIENCE = 60


def passage(name: str, text: str) -> Passage:
    return Passage(id=name, text=text, source=f"{name}.md", metadata={"line": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served") / "index"
    Index.build(made, [passage(name, text) for name, text in TEXTS.items()], HashEncoder())
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[IndexServer]:
    with IndexServer(Index.open(folder, HashEncoder()), port=0) as running:
        yield running
        assert [hit["pid"] for hit in search(running, "guard house")["topk"]][:1] == ["dogs"]  # it lives, whatever came


def call(
    server: IndexServer, path: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], Any]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, json.loads(text) if text else None
    finally:
        connection.close()


def search(server: IndexServer, query: str, more: str = "") -> Any:
    status, _, found = call(server, f"/api/search?query={quote(query)}{more}")
    assert status == 200, found
    return found


def raw(server: IndexServer, *pieces: bytes) -> tuple[int, Any]:
    """Sends these bytes, as far as the server takes them, and reads its answer: the status and the JSON."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with closing(http.client.HTTPResponse(connection)) as response:
            response.begin()
            return response.status, json.loads(response.read())


def test_it_speaks_the_protocol(server: IndexServer) -> None:
    status, headers, found = call(server, "/api/search?query=cats%20sleep&k=2")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert found["query"] == "cats sleep"
    best, second = found["topk"]
    assert (best["text"], best["long_text"], best["pid"], best["rank"]) == (TEXTS["cats"], TEXTS["cats"], "cats", 1)
    assert best["score"] > second["score"] and best["prob"] > second["prob"]
    assert best["prob"] + second["prob"] == pytest.approx(1)
    assert (best["source"], best["metadata"]["line"]) == ("cats.md", 1)
    assert set(best["scores"]) >= {"dense", "bm25"}


def test_it_takes_posts_filters_and_methods(server: IndexServer) -> None:
    body = json.dumps({"query": "cats", "k": 3, "method": "bm25", "where": {"source": ["dogs.md", "größe.md"]}}).encode()
    status, _, found = call(server, "/api/search", method="POST", body=body)
    assert status == 200
    assert {hit["pid"] for hit in found["topk"]} <= {"dogs", "größe"}
    assert search(server, "größe 猫", "&method=dense&k=1")["topk"][0]["text"] == TEXTS["größe"]
    assert len(search(server, "cats", "&k=1000")["topk"]) == len(TEXTS)


def test_it_tells_its_state(server: IndexServer) -> None:
    assert call(server, "/health")[2] == {"status": "ok", "passages": 3}
    status, _, stats = call(server, "/api/stats")
    assert (status, stats["passages"]) == (200, 3)
    assert call(server, "/health", method="HEAD")[::2] == (200, None)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/api/search", 400, "The query is missing"),
        ("/api/search?query=cats&k=0", 400, "from 1 to 1000"),
        ("/api/search?query=cats&k=many", 400, "k is 'many'"),
        ("/api/search?query=%FF%FE", 400, "UTF-8"),
        ("/api/search?query=cats&kk=1", 400, "There is no parameter 'kk'"),
        ("/api/search?query=cats&method=magic", 400, "magic"),
        ("/api/search?query=cats&where=" + quote('{"colour": 1}'), 400, "colour"),
        (f"/api/search?query={'a' * (MAX_QUERY + 1)}", 413, "characters"),
        ("/", 404, "This server answers at /api/search"),
        ("/api/search/", 404, "nothing at '/api/search/'"),
        ("/api/search/../../etc/passwd", 404, "nothing at"),
        ("/%00%ff", 404, "nothing at"),
    ],
)
def test_what_is_refused_is_told_as_json(server: IndexServer, path: str, status: int, says: str) -> None:
    found, headers, told = call(server, path)
    assert (found, headers["content-type"]) == (status, "application/json")
    assert says in told["message"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(server: IndexServer, method: str) -> None:
    status, headers, told = call(server, "/api/search", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD, POST")
    assert method in told["message"]
    assert call(server, "/health", method="POST")[0] == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"text"', b'{"query": "\\ud800"}', b'{"query": 1}', b'{"query": "a", "k": 1e999}'],
    ids=["empty", "half", "no text", "deep", "no object", "surrogate", "no query", "infinite"],
)
def test_bodies_that_are_no_requests(server: IndexServer, body: bytes) -> None:
    status, _, told = call(server, "/api/search", method="POST", body=body)
    assert (status, bool(told["message"])) == (400, True)


def test_long_bodies_are_refused(server: IndexServer) -> None:
    assert call(server, "/api/search", method="POST", body=b" " * (MAX_BODY + 1))[0] == 413
    status, told = raw(server, b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    assert (status, "at most" in str(told) or "more than" in str(told)) == (413, True)
    chunks = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert raw(server, chunks[0], *[chunks[1]] * (MAX_BODY // 65536 + 1))[0] == 413


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"\r\n",
        b"GET\r\n\r\n",
        b"GET /health HTTP/one\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET /h\xc3\xa4 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (5 * MAX_HEAD),
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * MAX_HEAD,
        b"GET /api/search?query=" + b"a" * (5 * MAX_HEAD),
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1" + b"0" * 5000 + b"\r\n\r\n",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n{}",
        b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: deflate\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_a_400(server: IndexServer, request_bytes: bytes) -> None:
    status, told = raw(server, request_bytes)
    assert (status // 100, bool(told["message"])) == (4, True)


def test_half_requests_leave_nothing_behind(server: IndexServer) -> None:
    for half in (b"", b"GET /api/sea", b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"):
        with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
            connection.sendall(half)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""


def test_slow_clients_are_given_up(server: IndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatientHttp, "request_seconds", 0.3)
    for slow in (b"", b"GET /health HTTP/1.1\r\nHo", b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"):
        status, told = raw(server, slow)
        assert (status, "0.3 seconds" in told["message"]) == (408, True)
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection, pytest.raises(OSError):
        for _ in range(600):  # a byte now and then does not count as a request
            connection.sendall(b"a")
            time.sleep(0.1)


def test_several_requests_on_one_connection(server: IndexServer) -> None:
    one = b"GET /api/search?query=cats&k=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        connection.sendall(one + one + b"nonsense\r\n\r\n")
        got = b""
        while piece := connection.recv(65536):
            got += piece
    assert got.count(b"200 OK") == 2 and got.count(b" 400 ") == 1


def test_many_at_once_get_their_own_answers(server: IndexServer) -> None:
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda name: search(server, TEXTS[name], "&k=1")["topk"][0]["pid"], [*TEXTS] * 40))
    assert found == [*TEXTS] * 40


def test_what_others_commit_is_found(tmp_path: Path) -> None:
    Index.build(tmp_path / "index", [passage("cats", TEXTS["cats"])], HashEncoder())
    with IndexServer(Index.open(tmp_path / "index", HashEncoder()), port=0) as server:
        assert [hit["pid"] for hit in search(server, "guard house")["topk"]] == ["cats"]
        Index.open(tmp_path / "index", HashEncoder()).add([passage("dogs", TEXTS["dogs"])])
        assert [hit["pid"] for hit in search(server, "guard house")["topk"]] == ["dogs", "cats"]
        assert call(server, "/health")[2]["passages"] == 2
        Index.build(tmp_path / "index", [passage("größe", TEXTS["größe"])], HashEncoder(64))  # another encoder
        assert [hit["pid"] for hit in search(server, "guard house")["topk"]] == ["größe"]
        (tmp_path / "index" / "manifest.json").write_text("{", encoding="utf-8")
        assert [hit["pid"] for hit in search(server, "guard house")["topk"]] == ["größe"]


def test_a_key_is_asked_for_everywhere_but_health(folder: Path) -> None:
    with IndexServer(Index.open(folder, HashEncoder()), port=0, api_key=KEY) as server:
        for path in ("/api/search?query=cats", "/api/stats", "/elsewhere"):
            status, headers, told = call(server, path)
            assert (status, headers["www-authenticate"], "Bearer KEY" in told["message"]) == (401, "Bearer", True)
            assert call(server, path, headers={"Authorization": "Bearer wrong"})[0] == 401
            assert call(server, path, headers={"Authorization": KEY})[0] == 401
        assert call(server, "/health")[0] == 200
        own = {"Authorization": f"bearer {KEY}", "Host": "search.example.org"}
        assert call(server, "/api/search?query=cats", headers=own)[0] == 200


def test_without_a_key_only_own_names_are_answered(server: IndexServer) -> None:
    """A web page whose name leads to this machine must not read the index."""
    for name, status in {"evil.example": 403, "evil.example:8893": 403, "localhost:1": 200, "127.0.0.1": 200, "[::1]:80": 200}.items():
        assert call(server, "/health", headers={"Host": name})[0] == status


def test_addresses_that_cannot_be_served(folder: Path, server: IndexServer) -> None:
    index = Index.open(folder, HashEncoder())
    with pytest.raises(InputError, match="needs an API key"):
        IndexServer(index, host="0.0.0.0")
    with pytest.raises(EngineError, match=f"Port {server.port} on 127.0.0.1 is taken"), IndexServer(index, port=server.port):
        pass
    with pytest.raises(InputError, match="magic"), IndexServer(index, port=0, method="magic"):
        pass


def test_it_ends_while_somebody_is_slow(folder: Path) -> None:
    with IndexServer(Index.open(folder, HashEncoder()), port=0) as server:
        waited = threading.Thread(target=server.wait)
        waited.start()
        with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHo")
            server.close()
        waited.join(PATIENCE)
        assert not waited.is_alive()
    with pytest.raises(OSError):
        socket.create_connection((server.host, server.port), timeout=5)
