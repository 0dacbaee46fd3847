"""The embedder: functions, encoders and servers give the same kind of array, in batches, and nothing is computed twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import homefire
from homefire.engine.remote import close_remote_engines
from homefire.engine.response_cache import configure_cache, response_cache
from homefire.errors import ConfigError, InputError, ServerError, UnknownModel
from homefire.modules.embedder import Embedder
from homefire.retrieval.encoder import HashEncoder
from tests.engine.fake_server import FakeServer, Reply, Seen, status


@pytest.fixture(autouse=True)
def _cache_off_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    monkeypatch.undo()
    configure_cache()


def vectors(count: int, dim: int = 3, *, turned: bool = False) -> Reply:
    """What a server answers: each text's vector is its place, the last one first where that is asked for."""
    data = [{"object": "embedding", "index": place, "embedding": [float(place)] * dim} for place in range(count)]
    return status(200, {"object": "list", "data": data[::-1] if turned else data})


def posts(server: FakeServer) -> list[Seen]:
    return [seen for seen in server.seen if seen.method == "POST"]


class Counted:
    """A function of texts that knows how often it was called."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str], factor: float = 1.0) -> list[list[float]]:
        self.calls.append(texts)
        return [[factor * len(text), 1.0] for text in texts]


def test_one_text_and_several() -> None:
    embedder = homefire.Embedder(Counted())
    one, several = embedder("abc"), embedder(["a", "bb"])
    assert one.shape == (2,) and several.shape == (2, 2) and one.dtype == several.dtype == np.float32
    assert several.tolist() == [[1, 1], [2, 1]]
    assert asyncio.run(embedder.acall(["a", "bb"])).tolist() == several.tolist()
    assert asyncio.run(embedder.acall("abc")).tolist() == [3, 1]


def test_batches_options_and_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    function = Counted()
    embedder = Embedder(function, batch_size=2, factor=2.0)
    assert embedder(["a", "bb", "ccc"])[:, 0].tolist() == [2, 4, 6]
    assert function.calls == [["a", "bb"], ["ccc"]]
    again = embedder(["a", "bb", "ccc"])
    again[0, 0] = 99
    assert embedder(["a", "bb", "ccc"])[0, 0] == 2 and len(function.calls) == 2
    embedder(["a", "bb"], caching=False)
    embedder(["a", "bb"], factor=3.0)
    embedder(["a", "bb", "ccc"], batch_size=3)
    assert function.calls[2:] == [["a", "bb"], ["a", "bb"], ["a", "bb", "ccc"]]
    Embedder(function, caching=False)(["x"])
    Embedder(function)(["x"])
    assert function.calls[5:] == [["x"], ["x"]], "one embedder does not answer for another's function"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    monkeypatch.setattr("homefire.modules.embedder._MEMORY_BYTES", 20)
    function = Counted()
    embedder = Embedder(function)
    for text in ("a", "b", "c", "c", "a"):
        embedder(text)
    assert function.calls == [["a"], ["b"], ["c"], ["a"]]


def test_with_the_cache_off_nothing_is_kept() -> None:
    function = Counted()
    embedder = Embedder(function)
    embedder("a"), embedder("a")
    assert len(function.calls) == 2 and response_cache() is None


def test_an_encoder_and_its_queries() -> None:
    encoder = HashEncoder(32)
    embedder = Embedder(encoder, batch_size=1)
    assert np.array_equal(embedder(["a b", "c"]), encoder.encode_passages(["a b", "c"]))
    assert np.array_equal(embedder.encode(["a b", "c"], queries=True), encoder.encode_queries(["a b", "c"]))


def test_a_model_of_this_machine_by_its_folder(minilm: Path) -> None:
    embedder = Embedder(minilm)
    near, far = embedder(["A cat sleeps.", "Bread needs flour."]) @ embedder("Kittens nap.")
    assert near > far and embedder("x").shape == (384,)


def test_a_model_that_is_not_here() -> None:
    with pytest.raises(UnknownModel, match="homefire models pull"):
        Embedder("no-such-encoder")
    with pytest.raises(ConfigError, match="no dimensions"):
        Embedder(HashEncoder(), dimensions=3)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as one:
        yield one
        close_remote_engines()


def test_a_model_on_a_server(server: FakeServer) -> None:
    server.replies += [vectors(2, turned=True), vectors(1)]
    embedder = Embedder("openai/small", batch_size=2, api_base=server.url, api_key="secret-key", dimensions=3)
    assert server.connections == 0, "nothing is contacted before the first call"
    assert embedder(["a", "b", "c"]).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    first, second = posts(server)
    assert first.path == "/v1/embeddings" and first.headers["authorization"] == "Bearer secret-key"
    assert first.body == {"model": "small", "input": ["a", "b"], "encoding_format": "float", "dimensions": 3}
    assert second.body["input"] == ["c"]


def test_batches_of_an_awaited_call_are_under_way_at_the_same_time(server: FakeServer) -> None:
    server.otherwise = vectors(1)
    embedder = Embedder("openai/small", batch_size=1, api_base=server.url, api_key="k")
    assert asyncio.run(embedder.acall(["a", "b", "c"])).shape == (3, 3)
    assert sorted(post.body["input"][0] for post in posts(server)) == ["a", "b", "c"]


def test_what_was_paid_for_is_kept_on_disk(server: FakeServer, tmp_path: Path) -> None:
    configure_cache(disk_cache_dir=tmp_path)
    server.replies += [vectors(1), vectors(1, dim=2)]
    make = lambda **changes: Embedder("openai/small", api_base=server.url, api_key="k", **changes)  # noqa: E731
    assert make()("a").tolist() == [0, 0, 0]
    cache = response_cache()
    assert cache is not None and cache.files is not None and cache.files.flush()
    assert make()("a").tolist() == [0, 0, 0] and asyncio.run(make().acall("a")).tolist() == [0, 0, 0]
    assert len(posts(server)) == 1
    assert make(dimensions=2)("a").tolist() == [0, 0] and len(posts(server)) == 2


BAD: list[tuple[Reply, str]] = [
    (status(200, {"data": []}), "no numbers for text 0 of 2"),
    (status(200, {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]}), "different lengths"),
    (status(200, {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ["x"]}]}), "no numbers for text 1"),
    (status(200, {"data": "none"}), "no numbers for text 0"),
    (status(404, {"error": {"message": "no such model"}}), "no such model"),
    (status(401, {"error": {"message": "bad key"}}), "the key was not accepted"),
]


@pytest.mark.parametrize(("reply", "message"), BAD)
def test_what_is_no_answer_says_so(server: FakeServer, reply: Reply, message: str) -> None:
    server.otherwise = reply
    with pytest.raises(ServerError, match=message):
        Embedder("openai/small", api_base=server.url, api_key="k", num_retries=0)(["a", "b"])


@pytest.mark.parametrize("inputs", [[], [1], None, 7, ["a", None], {"a": "b"}])
def test_what_are_no_texts(inputs: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        Embedder(Counted())(inputs)


def test_numbers_out_of_range_and_missing_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        Embedder(Counted(), batch_size=0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="needs a key"):
        Embedder("openai/small")
