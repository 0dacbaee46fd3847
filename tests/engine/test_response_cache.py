"""The response cache: which calls share answers, where they are kept, and what happens when the disk misbehaves."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from homefire.engine import response_cache as caches
from homefire.engine import response_files
from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.remote import close_remote_engines
from homefire.engine.request import Completion, Delta, Message, Request
from homefire.engine.response_cache import ResponseCache, configure_cache, response_cache
from homefire.engine.scripted_engine import ScriptedEngine
from homefire.errors import ConfigError, EngineError
from tests.engine.fake_server import FakeServer

KEY = "ab" + "0" * 62


class Known(ScriptedEngine):
    """A scripted engine that says what it is, so that its answers are cached; every answer is another one."""

    def __init__(self, identity: str = "weights-1", **options: int) -> None:
        super().__init__(lambda request: f"answer {len(self.requests)}", **options)
        self.identity = identity

    @property
    def info(self) -> EngineInfo:
        return replace(super().info, identity=self.identity)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Every test has a cache of its own, and its process the one it had."""
    monkeypatch.delenv("HOMEFIRE_CACHE", raising=False)
    monkeypatch.delenv("HOMEFIRE_CACHE_LIMIT", raising=False)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    before = caches._Process.cache
    caches._Process.cache = None
    yield
    if caches._Process.cache is not None:
        caches._Process.cache.close()
    caches._Process.cache = before


def cache() -> ResponseCache:
    found = response_cache()
    assert found is not None
    return found


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fresh_process() -> None:
    """Forgets what is in memory, as another process would not know it."""
    cache().close()
    caches._Process.cache = None


def test_an_equal_call_gets_the_answer_at_once() -> None:
    lm = LM(engine=Known())
    first, second = lm.complete("hello")[0], lm.complete("hello")[0]
    assert (first.text, first.from_cache) == ("answer 1", False)
    assert second == replace(first, from_cache=True, seconds=0.0)
    assert lm("other") == ["answer 2"]
    assert lm.copy(cache=False)("hello") == ["answer 3"]


def test_several_samples_and_logprobs_come_back_whole() -> None:
    configure_cache(enable_memory_cache=False)
    line = Completion(
        text='té\ud800 "x"', token_ids=(1, 2), finish_reason="stop", prompt_tokens=3, logprobs=(-0.25, float("-inf")), thinking="hm"
    )
    engine = Known()
    engine._script = lambda request: line
    lm = LM(engine=engine)
    first = lm.complete("hello", n=2, temperature=0.5)
    cache().files.flush()  # type: ignore[union-attr]
    second = lm.complete("hello", n=2, temperature=0.5)
    assert [one.from_cache for one in second] == [True, True]
    assert second == [replace(one, from_cache=True, seconds=0.0) for one in first]


def request(**changes: object) -> Request:
    return replace(Request(messages=(Message("user", "hello"),)), **changes)  # type: ignore[arg-type]


def test_nothing_is_on_disk_before_the_first_answer(tmp_path: Path) -> None:
    lm = LM(engine=Known())
    assert cache().in_memory(KEY) is None and cache().on_disk(KEY) is None
    assert cache().stats().on_disk.entries == 0
    assert not (tmp_path / "home").exists()
    lm("hello")
    cache().files.flush()  # type: ignore[union-attr]
    assert [path.parent.parent for path in files(tmp_path / "home")] == [tmp_path / "home" / "cache" / "responses"]


def test_engines_that_do_not_say_what_they_are_are_not_cached(tmp_path: Path) -> None:
    lm = LM(engine=Known(identity=""))
    assert [lm("hello"), lm("hello")] == [["answer 1"], ["answer 2"]]
    assert not (tmp_path / "home").exists()


def test_rollouts_have_answers_of_their_own() -> None:
    lm = LM(engine=Known())
    assert lm("hello", rollout_id=1) == ["answer 1"]
    assert lm("hello", rollout_id=2) == ["answer 2"]
    assert lm("hello", rollout_id=1) == ["answer 1"]
    assert lm.copy(rollout_id=2)("hello") == ["answer 2"]


def test_answers_that_were_cut_off_by_the_context_are_not_stored() -> None:
    lm = LM(engine=Known(context=8))
    assert lm("hello") == ["ans"]
    assert not lm.complete("hello")[0].from_cache
    assert lm("hello", max_tokens=2) == ["an"]
    assert lm.complete("hello", max_tokens=2)[0].from_cache


def test_tasks_and_threads_share_answers_and_a_batch_asks_only_for_what_is_missing() -> None:
    engine = Known()
    lm = LM(engine=engine)
    requests = [request(prefill=text) for text in "abc"]
    lm.generate([requests[1]])
    answers = asyncio.run(lm.agenerate(requests))
    assert [(answer[0].text, answer[0].from_cache) for answer in answers] == [("answer 2", False), ("answer 1", True), ("answer 3", False)]
    assert len(engine.requests) == 3


def test_what_was_computed_before_a_failure_is_kept() -> None:
    engine = Known()

    def answer(asked: Request) -> str:
        if asked.prefill == "b":
            raise EngineError("gone")
        return asked.prefill

    engine._script = answer
    lm = LM(engine=engine)
    with pytest.raises(EngineError, match="gone"):
        lm.generate([request(prefill=text) for text in "ab"])
    assert lm.generate([request(prefill="a")])[0][0].from_cache


def test_a_stream_of_a_known_answer_is_one_piece() -> None:
    lm = LM(engine=Known())
    assert len(list(lm.stream("hello"))) > 1
    assert list(lm.stream("hello")) == ["answer 1"]

    async def run() -> list[str]:
        return [piece async for piece in lm.astream("hello")]

    assert asyncio.run(run()) == ["answer 1"]
    heard: list[Delta] = []
    lm.generate([request()], listener=heard.append)
    assert heard == [Delta(0, "answer 1")]


def test_a_listener_that_fails_does_not_break_a_hit() -> None:
    def broken(delta: Delta) -> None:
        raise RuntimeError("deaf")

    lm = LM(engine=Known())
    lm("hello")
    assert lm.generate([request()], listener=broken)[0][0].from_cache


def test_the_next_process_finds_the_answer_on_disk() -> None:
    LM(engine=Known())("hello")
    fresh_process()
    lm = LM(engine=Known())
    assert lm.complete("hello")[0].from_cache
    assert asyncio.run(lm.acomplete("hello"))[0].from_cache
    assert cache().stats().in_memory == 1


def spoil(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    match how:
        case "truncated":
            data = data[:-5]
        case "empty":
            data = bytearray()
        case "bit flip":
            data[-10] ^= 1
        case "header":
            data[3] ^= 1
        case "other entry":
            data = bytearray(data.replace(b"a", b"b"))
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "bit flip", "header", "other entry"])
def test_damaged_entries_are_misses_and_go(tmp_path: Path, how: str) -> None:
    configure_cache(disk_cache_dir=tmp_path / "answers", enable_memory_cache=False)
    lm = LM(engine=Known())
    lm("hello")
    cache().files.flush()  # type: ignore[union-attr]
    spoil(*files(tmp_path / "answers"), how)
    assert lm("hello") == ["answer 2"]
    cache().files.flush()  # type: ignore[union-attr]
    assert lm("hello") == ["answer 2"]


def test_a_whole_entry_that_is_no_answer_is_a_miss(tmp_path: Path) -> None:
    configure_cache(disk_cache_dir=tmp_path)
    for body in (b"3", b'[{"text": 1}]', b"[[]]", b"nonsense", b'[{"unknown": 1}]'):
        cache().files.write_later(KEY, lambda body=body: body)  # type: ignore[union-attr,misc]
        cache().files.flush()  # type: ignore[union-attr]
        assert cache().on_disk(KEY) is None
        assert files(tmp_path) == []


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_memory_and_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_cache(disk_cache_dir=tmp_path)
    monkeypatch.setattr(response_files.os, "replace", full_disk)
    lm = LM(engine=Known())
    for text in "abc":
        lm(text)
    cache().files.flush()  # type: ignore[union-attr]
    assert all(lm.complete(text)[0].from_cache for text in "abc")
    assert files(tmp_path) == []
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("not cached on disk any more") == 1 and "No space left on device" in said


def test_a_read_only_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(path: str, data: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    configure_cache(disk_cache_dir=tmp_path)
    LM(engine=Known())("before")
    cache().files.flush()  # type: ignore[union-attr]
    monkeypatch.setattr(response_files, "_write_file", refused)
    configure_cache(disk_cache_dir=tmp_path)
    lm = LM(engine=Known())
    assert lm.complete("before")[0].from_cache
    lm("hello")
    cache().files.flush()  # type: ignore[union-attr]
    assert lm.complete("hello")[0].from_cache and len(files(tmp_path)) == 1
    assert "Read-only file system" in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_cannot_be_made_leaves_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    configure_cache(disk_cache_dir=tmp_path / "file")
    lm = LM(engine=Known())
    lm("hello")
    cache().files.flush()  # type: ignore[union-attr]
    assert lm.complete("hello")[0].from_cache
    assert "not cached on disk any more" in " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_caches_on_its_own(tmp_path: Path) -> None:
    code = """
        import os, sys
        from homefire.engine.response_cache import configure_cache, response_cache
        configure_cache(disk_cache_dir=sys.argv[1])
        parent = response_cache()
        parent.files.write_later("a" * 64, lambda: b"[]")
        child = os.fork()
        cache = response_cache()
        cache.files.write_later(("b" if child else "c") * 64, lambda: b"[]")
        cache.files.flush()
        assert (cache is parent) == bool(child)
        if child:
            assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=120)
    assert [path.parent.name for path in files(tmp_path)] == ["aa", "bb", "cc"]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_cache(enable_disk_cache=False, memory_max_entries=3)
    lm = LM(engine=Known())
    for text in "abcd":
        lm(text)
    assert [lm.complete(text)[0].from_cache for text in "bcda"] == [True, True, True, False]
    monkeypatch.setattr(caches, "_MEMORY_BYTES", 5000)
    configure_cache(enable_disk_cache=False)
    for number in range(100):
        lm(f"{number}")
    assert 0 < cache().stats().in_memory < 10


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMEFIRE_CACHE", "off")
    assert response_cache() is None
    lm = LM(engine=Known())
    assert [lm("hello"), lm("hello")] == [["answer 1"], ["answer 2"]]
    caches._Process.cache = None
    monkeypatch.setenv("HOMEFIRE_CACHE", "memory")
    assert cache().files is None
    caches._Process.cache = None
    monkeypatch.setenv("HOMEFIRE_CACHE", str(tmp_path / "here"))
    monkeypatch.setenv("HOMEFIRE_CACHE_LIMIT", "12345")
    assert cache().settings.folder == tmp_path / "here" and cache().settings.limit_bytes == 12345
    caches._Process.cache = None
    monkeypatch.setenv("HOMEFIRE_CACHE_LIMIT", "2 GB")
    with pytest.raises(ConfigError, match="HOMEFIRE_CACHE_LIMIT is '2 GB'"):
        lm("hello")


def test_settings_in_code_win(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMEFIRE_CACHE", "off")
    configure_cache(disk_cache_dir=tmp_path, disk_size_limit_bytes=5, enable_memory_cache=True)
    assert cache().settings == caches.CacheSettings(memory=True, folder=tmp_path, limit_bytes=5)
    configure_cache(enable_disk_cache=True)
    assert cache().settings.folder == tmp_path / "home" / "cache" / "responses"
    configure_cache(enable_memory_cache=False, enable_disk_cache=False)
    assert response_cache() is None
    for wrong in (0, -1, True, "5"):
        with pytest.raises(ConfigError, match="disk_size_limit_bytes is"):
            configure_cache(disk_size_limit_bytes=wrong)  # type: ignore[arg-type]


def test_clearing_removes_everything(tmp_path: Path) -> None:
    configure_cache(disk_cache_dir=tmp_path)
    lm = LM(engine=Known())
    for text in "abc":
        lm(text)
    assert cache().clear().entries == 3
    assert list(tmp_path.iterdir()) == []
    assert not lm.complete("a")[0].from_cache
    stats = cache().stats()
    assert (stats.misses, stats.hits, stats.in_memory) == (4, 0, 1)


def test_a_model_of_this_machine_need_not_run_for_a_known_answer(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.engine.engine_source.identity", lambda path, chosen: "weights-1")
    monkeypatch.setattr("homefire.engine.engine_source.engine_for", lambda *_: pytest.fail("it was started"))
    LM(engine=Known())("hello")
    lm = LM(str(smollm2))
    assert lm("hello") == ["answer 1"]
    assert asyncio.run(lm.acall("hello")) == ["answer 1"]


def test_a_server_is_not_asked_anything_for_a_known_answer() -> None:
    """Not even what kind of server it is."""
    with FakeServer() as server:

        def lm() -> LM:
            return LM("openai/m", api_base=server.url, api_key="")

        assert lm()("hello") == ["hello"]
        close_remote_engines()
        asked = len(server.seen)
        assert lm()("hello") == ["hello"] and asyncio.run(lm().acall("hello")) == ["hello"]
        close_remote_engines()
        assert len(server.seen) == asked
