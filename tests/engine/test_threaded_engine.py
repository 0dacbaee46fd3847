"""The engine's thread over a backend whose steps the test holds in its hand: order, cancelling, swapping weights, failing, closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import homefire.engine.threaded_engine as threaded
from homefire.engine.request import AdapterRef, Completion, Delta, Message, Request, Sampling
from homefire.engine.settings import ChosenSettings
from homefire.engine.thinking import Tags, Thinking
from homefire.engine.threaded_engine import Emit, Ended, ThreadedEngine
from homefire.errors import ContextTooLong, EngineError

OLD = AdapterRef("old", 1, Path("old"))


def settings(mode: Any = "merged", context: int = 64, device: Any = "cpu") -> ChosenSettings:
    return ChosenSettings(
        backend="vllm", device=device, dtype="bfloat16", context=context, max_batch=4, kv_cache_gib=1.0, cores="0", eager=True,
        prefix_caching=True, gpu_memory_fraction=None, tensor_parallel=1, adapter_mode=mode, seed=0,
    )  # fmt: skip


class HeldBackend:
    """Answers a request with its weights and its last message, once the test lets it step."""

    def __init__(self, path: Path, chosen: ChosenSettings) -> None:
        if path == Path("unloadable"):
            raise EngineError("cannot load")
        self.go = threading.Event()
        self.batch: dict[str, Request] = {}
        self.streamed: set[str] = set()
        self.scored: dict[str, list[list[int]]] = {}
        self.weights = "base"
        self.log: list[str] = []
        self.batches: list[int] = []

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request, stream: bool) -> None:
        if request.messages[-1].content == "refuse":
            raise ValueError("no such thing")
        self.batch[request_id] = request
        if stream:
            self.streamed.add(request_id)

    def score(self, request_id: str, prompt_ids: list[int], tails: list[list[int]], request: Request) -> None:
        self.log.append(f"prompt {''.join(map(chr, prompt_ids))}")
        self.batch[request_id] = request
        self.scored[request_id] = tails

    def step(self, emit: Emit) -> list[tuple[str, Ended]]:
        if not self.go.wait(0.02):
            return []
        if any(request.messages[-1].content == "break" for request in self.batch.values()):
            raise RuntimeError("out of memory")
        self.batches.append(len(self.batch))
        ended: list[tuple[str, Ended]] = []
        for request_id, request in self.batch.items():
            if request_id in self.scored:
                ended.append((request_id, [-float(len(tail)) for tail in self.scored[request_id]]))
                continue
            ids = tuple(map(ord, f"{self.weights}: {request.messages[-1].content}"))
            if request_id in self.streamed:
                for token in ids:
                    emit(request_id, 0, [token])
            ended.append((request_id, [Completion(text="", token_ids=ids, finish_reason="stop", prompt_tokens=1)]))
        self.batch.clear()
        return ended

    def abort(self, request_id: str) -> None:
        self.log.append("abort")
        del self.batch[request_id]

    def load_weights(self, path: Path) -> None:
        assert not self.batch
        self.weights = path.name
        self.log.append(f"load {path.name}")

    def sleep(self) -> None:
        self.log.append("sleep")

    def wake(self) -> None:
        self.log.append("wake")

    def close(self) -> None:
        self.log.append("close")


class CharacterEncoder:
    """A token is a character."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def encode(self, messages: Sequence[Message], thinking: bool | None = None) -> list[int]:
        return self.encode_text(messages[-1].content)

    def encode_text(self, text: str) -> list[int]:
        return [ord(char) for char in text]

    def encode_request(self, request: Request) -> list[int]:
        return self.encode_text(request.messages[-1].content + request.prefill)

    def prepared(self, request: Request) -> tuple[list[int], Thinking | None]:
        block = Thinking(Tags("<think>", "</think>"), begun=False) if request.thinking else None
        return self.encode_request(request), block

    def decode(self, token_ids: tuple[int, ...]) -> str:
        return "".join(map(chr, token_ids))

    def room(self, request: Request, prompt_tokens: int, context: int, model: str) -> int:
        from homefire.engine.prompt import PromptEncoder

        return PromptEncoder.room(self, request, prompt_tokens, context, model)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "PromptEncoder", CharacterEncoder)
    monkeypatch.setattr(threaded, "identity", lambda path, settings: f"{path}:{settings.dtype}")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedEngine]:
    monkeypatch.setattr(threaded, "merged_checkpoint", lambda base, adapter: Path(str(adapter)))
    made = ThreadedEngine("model", Path("base"), settings(), HeldBackend)
    yield made
    made._backend.go.set()  # type: ignore[attr-defined]
    made.close()


def held(engine: ThreadedEngine) -> HeldBackend:
    backend = engine._backend
    assert isinstance(backend, HeldBackend)
    return backend


def ask(text: str, adapter: AdapterRef | None = None) -> Request:
    return Request(messages=(Message("user", text),), adapter=adapter)


def test_requests_of_many_threads_share_a_batch(engine: ThreadedEngine) -> None:
    futures = [engine.submit(ask(f"q{i}")) for i in range(4)]
    held(engine).go.set()
    assert [future.result(5)[0].text for future in futures] == [f"base: q{i}" for i in range(4)]
    assert max(held(engine).batches) > 1


def test_other_weights_wait_until_the_batch_has_drained(engine: ThreadedEngine) -> None:
    futures = [engine.submit(ask("a")), engine.submit(ask("b", OLD)), engine.submit(ask("c"))]
    held(engine).go.set()
    assert [future.result(5)[0].text for future in futures] == ["base: a", "old@1: b", "base: c"]
    assert held(engine).log == ["load old@1", "load base"]


def test_a_cancelled_request_is_aborted(engine: ThreadedEngine) -> None:
    future = engine.submit(ask("a"))
    while not held(engine).batch:
        pass
    assert future.cancel()
    while held(engine).batch:
        pass
    assert held(engine).log == ["abort"]


def test_a_refused_request_fails_alone(engine: ThreadedEngine) -> None:
    bad, good = engine.submit(ask("refuse")), engine.submit(ask("a"))
    held(engine).go.set()
    with pytest.raises(EngineError, match="ValueError: no such thing"):
        bad.result(5)
    assert good.result(5)[0].text == "base: a"


def test_a_broken_engine_fails_everything_and_says_why(engine: ThreadedEngine) -> None:
    future = engine.submit(ask("break"))
    held(engine).go.set()
    with pytest.raises(EngineError, match="RuntimeError: out of memory"):
        future.result(5)
    engine._thread.join(5)
    with pytest.raises(EngineError, match="broke"):
        engine.submit(ask("a"))


def test_nothing_hangs_on_a_broken_engine(engine: ThreadedEngine) -> None:
    broken = engine.submit(ask("break"))
    held(engine).go.set()
    with pytest.raises(EngineError):
        broken.result(5)
    engine._thread.join(5)
    assert engine.closed
    for call in (engine.sleep, engine.wake):
        with pytest.raises(EngineError, match="broke"):
            call()


def test_weights_that_fail_half_way_are_loaded_again(engine: ThreadedEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    held(engine).go.set()

    def fail(path: Path) -> None:
        held(engine).weights = "half"
        raise OSError("disk")

    whole = held(engine).load_weights
    monkeypatch.setattr(held(engine), "load_weights", fail)
    with pytest.raises(EngineError, match="disk"):
        engine.submit(ask("a", OLD)).result(5)
    monkeypatch.setattr(held(engine), "load_weights", whole)
    assert engine.submit(ask("a")).result(5)[0].text == "base: a"


def test_a_prompt_that_does_not_fit_is_refused_at_once(engine: ThreadedEngine) -> None:
    with pytest.raises(ContextTooLong, match="70 tokens"):
        engine.submit(ask("x" * 70))


def test_asleep_it_waits_and_awake_it_goes_on() -> None:
    engine = ThreadedEngine("model", Path("base"), settings(device="cuda"), HeldBackend)
    running = engine.submit(ask("before"))
    while not held(engine).batch:
        pass
    held(engine).go.set()
    engine.sleep()
    assert running.result(5)[0].text == "base: before"
    future = engine.submit(ask("a"))
    assert not future.done()
    engine.wake()
    assert future.result(5)[0].text == "base: a"
    assert held(engine).log == ["sleep", "wake"]
    engine.close()


def test_without_an_accelerator_sleeping_is_nothing(engine: ThreadedEngine) -> None:
    engine.sleep()
    held(engine).go.set()
    assert engine.submit(ask("a")).result(5)[0].text == "base: a"
    assert held(engine).log == []


def test_closing_cancels_what_waits_and_may_be_done_twice(engine: ThreadedEngine) -> None:
    future = engine.submit(ask("a"))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="was closed before it answered"):
        future.result(5)
    with pytest.raises(EngineError, match="is closed"):
        engine.submit(ask("a"))
    assert held(engine).log[-1] == "close"


def test_what_cannot_be_loaded_raises_where_it_was_asked_for() -> None:
    with pytest.raises(EngineError, match="cannot load"):
        ThreadedEngine("model", Path("unloadable"), settings(), HeldBackend)


def test_hot_adapters_share_the_batch() -> None:
    engine = ThreadedEngine("model", Path("base"), settings("hot"), HeldBackend)
    futures = [engine.submit(ask("a")), engine.submit(ask("b", OLD))]
    held(engine).go.set()
    assert [future.result(5)[0].text for future in futures] == ["base: a", "base: b"]
    assert held(engine).log == []
    engine.close()


def test_a_listener_hears_everything_before_the_answer_is_there(engine: ThreadedEngine) -> None:
    heard: list[tuple[Delta, bool]] = []
    future = engine.submit(ask("stream"), lambda delta: heard.append((delta, future.done())))
    held(engine).go.set()
    (completion,) = future.result(5)
    assert "".join(delta.text for delta, _ in heard) == completion.text == "base: stream"
    assert len(heard) == completion.completion_tokens == 12
    assert not any(done for _, done in heard)


def test_a_listener_that_raises_is_left_alone_and_the_engine_goes_on(engine: ThreadedEngine, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Delta] = []

    def listener(delta: Delta) -> None:
        heard.append(delta)
        raise OSError("the window is closed")

    future = engine.submit(ask("stream"), listener)
    held(engine).go.set()
    assert future.result(5)[0].text == "base: stream"
    assert len(heard) == 1
    assert [record.exc_text for record in caplog.records if "the window is closed" in (record.exc_text or "")] != []
    assert len(caplog.records) == 1
    assert engine.submit(ask("a")).result(5)[0].text == "base: a"


def test_thoughts_and_answer_are_told_apart(engine: ThreadedEngine) -> None:
    held(engine).weights = "<think>hm"
    held(engine).go.set()
    heard: list[Delta] = []
    request = replace(ask("</think>\n\nFour."), thinking=True)
    (completion,) = engine.submit(request, heard.append).result(5)
    assert (completion.thinking, completion.text) == ("hm:", "Four.")
    for thought, text in ((True, "hm:"), (False, "Four.")):
        assert "".join(delta.text for delta in heard if delta.thinking is thought) == text


def test_scores_come_in_the_order_of_the_texts(engine: ThreadedEngine) -> None:
    held(engine).go.set()
    request = replace(ask("prompt"), prefill=" is ")
    assert engine.score(request, ["red!", "blue!", "red!", ""]).result(5) == [-4.0, -5.0, -4.0, 0.0]
    assert held(engine).log == ["prompt prompt is "]


def test_texts_that_are_all_alike_need_no_engine(engine: ThreadedEngine) -> None:
    assert engine.score(ask("prompt"), []).result(1) == []
    assert engine.score(ask("prompt"), ["same", "same"]).result(1) == [0.0, 0.0]


def test_texts_that_do_not_fit_are_refused_at_once(engine: ThreadedEngine) -> None:
    with pytest.raises(ContextTooLong, match="66 tokens"):
        engine.score(ask("x" * 60), ["yes", "no, no"])


def test_what_changes_answers_is_in_the_identity(engine: ThreadedEngine) -> None:
    assert engine.info.identity == "base:bfloat16"
    assert (engine.info.structured, engine.info.scores) == ("grammar", True)
