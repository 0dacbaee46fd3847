"""What the engine over HTTP makes of servers that misbehave: every fault ends in an error that says what happened, none hangs, and the
engine goes on."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

import tests.engine.fake_server as fake
from homefire import errors
from homefire.engine.remote import RemoteSettings, close_remote_engines, remote_engine
from homefire.errors import CallTimeout, EngineError, ServerError
from tests.engine.fake_server import ASK, FakeServer, answer, choice, engine, events, status

QUICK = {"retry-after-ms": "1"}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as one:
        yield one
        close_remote_engines()


GARBAGE = {
    "not JSON": (status(200, "not { json"), "answered with something that cannot be read"),
    "an HTML page": (status(200, "<html><h1>Welcome</h1></html>", kind="text/html"), "no completion: <html>.*ends in /v1"),
    "an empty body": (status(200, ""), "cannot be read|no completion"),
    "an empty object": (status(200, {}), "no completion: {}"),
    "a list": (status(200, []), "no completion"),
    "no choices": (answer(), "answered without any completion"),
    "choices of another kind": (status(200, {"choices": ["a"]}), "no completion"),
    "half a body of JSON": (status(200, '{"choices": [{"mess'), "cannot be read"),
    "a body shorter than it says": (
        fake.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{}"),
        "hung up",
    ),
    "a body longer than it says": (
        fake.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}   and more"),
        "no completion",
    ),
    "another protocol": (fake.raw(b"220 smtp.example.org ESMTP\r\n"), "hung up|could not be reached"),
    "nothing": (fake.raw(b""), "hung up"),
    "a reset": (fake.reset, "hung up"),
    "a server error": (status(500, {"error": {"message": "cuda is out of memory"}}), r"failed \(500, tried once\): cuda is out of memory"),
    "a gateway's page": (status(502, "<html><b>Bad Gateway</b></html>", kind="text/html"), r"failed \(502, tried once\): Bad Gateway"),
    "a wrong key": (
        status(401, {"error": {"message": "bad key secret-key"}}),
        r"key was not accepted \(401: bad key \*\*\*\). Set OPENAI_API_KEY",
    ),
    "no money": (status(402, {"error": {"message": "top up"}}), r"wants to be paid \(402\): top up"),
    "no quota": (status(429, {"error": {"message": "over", "code": "insufficient_quota"}}), r"wants to be paid \(429\): over"),
    "no such model": (status(404, {"error": {"message": "who?"}}), r"refused the request \(404\): who\?"),
    "too long a wait": (status(429, {"error": "slow down"}, {"retry-after": "600"}), r"has too much to do \(429.*slow down"),
}


KINDS = {
    "a server error": errors.ServerBroken,
    "a gateway's page": errors.ServerBroken,
    "a wrong key": errors.KeyRefused,
    "no money": errors.PaymentRefused,
    "no quota": errors.PaymentRefused,
    "no such model": errors.RequestRefused,
    "too long a wait": errors.TooManyRequests,
    "a reset": errors.ServerUnreachable,
    "nothing": errors.ServerUnreachable,
}


@pytest.mark.parametrize("fault", GARBAGE)
def test_garbage_is_an_error_and_the_engine_goes_on(server: FakeServer, fault: str) -> None:
    reply, says = GARBAGE[fault]
    server.replies = [reply]
    made = engine(server)
    with pytest.raises(KINDS.get(fault, ServerError), match=says) as caught:
        made.submit(ASK).result(60)
    assert "secret-key" not in str(caught.value) and caught.value.__cause__ is None
    assert made.submit(ASK).result(60)[0].text == "hello"


HALF = [{"choices": [{"index": 0, "delta": {"content": "half"}}]}]
STREAMS = {
    "half a stream, then the end of the connection": (events(HALF, done=False), "hung up|broke off"),
    "half a stream, well ended": (events(HALF), "broke off in the middle of an answer; it had said: half"),
    "an empty stream": (events([]), "before any completion began"),
    "an error in the stream": (events([*HALF, {"error": {"message": "out of memory"}}]), "in the middle of an answer: out of memory"),
    "a piece that is no JSON": (events([*HALF, "{oops"]), "cannot be read"),
    "a piece of another kind": (events([*HALF, {"choices": 3}]), "no piece of a completion"),
    "a page instead of a stream": (status(200, "<html>", kind="text/html"), "before any completion began"),
}


@pytest.mark.parametrize("fault", STREAMS)
def test_broken_streams_are_errors_and_the_engine_goes_on(server: FakeServer, fault: str) -> None:
    reply, says = STREAMS[fault]
    server.replies = [reply]
    made = engine(server)
    with pytest.raises(ServerError, match=says):
        made.submit(ASK, lambda delta: None).result(60)
    assert made.submit(ASK, lambda delta: None).result(60)[0].text == "hello"


def test_empty_content_is_an_empty_text(server: FakeServer) -> None:
    server.replies = [answer(choice(None)), answer(choice(None, refusal="I will not"))]
    made = engine(server)
    assert [made.submit(ASK).result()[0].text for _ in range(2)] == ["", "I will not"]


def test_what_fails_on_the_way_is_tried_again(server: FakeServer) -> None:
    server.replies = [status(429, "", QUICK), status(500, "", QUICK), status(503, "", QUICK)]
    assert engine(server, num_retries=3).submit(ASK).result()[0].text == "hello"
    assert len(server.posts) == 4
    server.replies = [status(500, {"error": "broken"}, QUICK) for _ in range(3)]
    with pytest.raises(ServerError, match="failed \\(500, tried 3 times\\): broken"):
        engine(server, num_retries=2).submit(ASK).result()
    assert len(server.posts) == 7


def test_a_wait_that_the_server_asks_for_is_kept(server: FakeServer) -> None:
    server.replies = [status(429, "", {"retry-after": "0.3"})]
    started = time.monotonic()
    engine(server, num_retries=1).submit(ASK).result()
    assert time.monotonic() - started >= 0.3


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = remote_engine("openai/m", RemoteSettings(api_base=f"http://127.0.0.1:{port}/v1", num_retries=1))
    with pytest.raises(ServerError, match=r"could not be reached.*tried 2 times.*homefire serve"):
        made.submit(ASK).result(60)
    close_remote_engines()


@pytest.mark.parametrize("kind", ["silence", "a slow drip", "a slow stream"])
def test_a_call_that_takes_too_long_is_given_up_and_its_connection_closed(server: FakeServer, kind: str) -> None:
    made = engine(server, timeout=2.0, num_retries=2)
    made.submit(ASK).result()
    server.replies = [fake.hang(server) if kind == "silence" else fake.drip(server, stream="stream" in kind)]
    with pytest.raises(CallTimeout, match=r"gave no whole answer in 2 seconds|did not answer in time"):
        made.submit(ASK, (lambda delta: None) if "stream" in kind else None).result(60)
    assert server.hung_up.wait(30)
    server.hung_up.clear()


def test_cancelling_closes_the_connection(server: FakeServer) -> None:
    server.replies = [fake.hang(server)]
    made = engine(server)
    future = made.submit(ASK)
    while not server.posts:
        time.sleep(0.01)
    future.cancel()
    assert server.hung_up.wait(30)
    with pytest.raises(CancelledError):
        future.result()
    assert made.submit(ASK).result()[0].text == "hello"


def test_connections_that_were_dropped_meanwhile_do_not_matter(server: FakeServer) -> None:
    server.dropping = True
    made = engine(server, num_retries=1)
    for _ in range(5):
        assert made.submit(ASK).result()[0].text == "hello"


def test_closing_ends_what_runs_and_every_thread(server: FakeServer) -> None:
    server.replies = [fake.hang(server)]
    made = engine(server)
    future = made.submit(ASK)
    while not server.posts:
        time.sleep(0.01)
    thread = made._thread
    made.close()
    made.close()
    with pytest.raises(EngineError, match="was closed before it answered"):
        future.result(30)
    assert thread is not None and not thread.is_alive() and made.closed
    with pytest.raises(EngineError, match="is closed"):
        made.submit(ASK)
    assert engine(server) is not made and engine(server).submit(ASK).result()[0].text == "hello"


def test_a_program_that_ends_with_calls_in_flight_ends_at_once_and_quietly(server: FakeServer) -> None:
    server.replies = [fake.hang(server)]
    code = (
        "import sys\nfrom homefire.engine.remote import *\nfrom homefire.engine.request import *\n"
        "made = remote_engine('hosted_vllm/m', RemoteSettings(api_base=sys.argv[1], api_key=''))\n"
        "made.submit(Request(messages=(Message('user', 'Hi'),)))\nwhile not made._looked: pass\n"
    )
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code, server.url], capture_output=True, check=False, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_many_threads_that_cancel_at_random_leave_the_engine_whole(server: FakeServer) -> None:
    made = engine(server)

    def work(number: int) -> None:
        future = made.submit(ASK)
        if number % 3 == 0:
            future.cancel()
        elif not future.cancelled():
            future.result(60)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert made.submit(ASK).result(60)[0].text == "hello"
