"""A trace store in trouble: bounds, full and locked disks, foreign and damaged files, several processes, kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.modules import trace_database, trace_writer
from homefire.modules.trace_store import TraceStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    made = TraceStore(tmp_path / "traces.db")
    yield made
    made.close()


def answering() -> homefire.Predict:
    made = homefire.Predict("question -> answer")
    made.lm = homefire.ScriptedLM(lambda request: '{"answer": "yes"}')
    return made


def test_old_runs_go_and_the_file_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_writer, "_BATCH", 20)
    store = TraceStore(tmp_path / "traces.db", max_bytes=400_000)
    program = answering()
    with store.recording():
        for number in range(400):
            program(question=f"{number} " + "x" * 2000)
    store.close()
    stats = store.stats()
    assert stats.bytes < 800_000
    assert 20 < stats.traces < 300
    newest = store.find(limit=1)[0]
    assert newest.inputs["question"].startswith("399 ")
    assert stats.steps == stats.traces
    assert (stats.dropped, stats.lost) == (0, 0)


def test_runs_of_long_ago_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TraceStore(tmp_path / "traces.db", max_days=1)
    with store.recording():
        made = answering()(question="old")
        store.flush()
        connection = sqlite3.connect(store.path)
        with connection:
            connection.execute("UPDATE traces SET started = started - 90000")
        connection.close()
        store.feedback(made.trace_id or "", score=1)
        monkeypatch.setattr(trace_writer, "_SWEEP_SECONDS", 0.0)
        answering()(question="new")
    assert [one.inputs for one in store.find()] == [{"question": "new"}]
    assert (store.stats().steps, store.stats().feedback) == (1, 0)
    store.close()


def test_a_full_disk_costs_traces_but_not_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    connect = trace_database.connect

    def small(path: Path, *, make: bool = True) -> sqlite3.Connection:
        made = connect(path, make=make)
        made.execute("PRAGMA max_page_count = 20")
        return made

    monkeypatch.setattr(trace_writer, "connect", small)
    store = TraceStore(tmp_path / "traces.db")
    with store.recording():
        answering()(question="fits")
        store.flush()
        for _ in range(3):
            assert answering()(question="x" * 60_000).answer == "yes"
    stats = store.stats()
    assert (stats.traces, stats.lost) == (1, 3)
    assert "full" in (stats.problem or "")
    assert capsys.readouterr().err.count("Traces:") == 1
    store.close()


@pytest.mark.parametrize("content", [b"no database at all " * 100, b""], ids=["garbage", "empty"])
def test_what_stands_at_the_path_already(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "traces.db"
    path.write_bytes(content)
    store = TraceStore(path)
    with store.recording():
        assert answering()(question="q").answer == "yes"
    store.close()
    if content:
        assert path.read_bytes() == content
        assert "not a database" in capsys.readouterr().err
        with pytest.raises(homefire.InputError, match="damaged"):
            store.find()
    else:
        assert len(store.find()) == 1


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    connection.close()
    store = TraceStore(path)
    with store.recording():
        answering()(question="q")
    store.close()
    with pytest.raises(homefire.InputError, match="something else"):
        store.find()


def test_tables_of_a_newer_version_are_left_alone(store: TraceStore) -> None:
    with store.recording():
        answering()(question="q")
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(homefire.InputError, match="newer homefire"):
        store.find()


def test_tables_of_an_older_version_are_brought_up(store: TraceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.recording():
        answering()(question="before")
    store.close()
    monkeypatch.setattr(
        trace_database, "MIGRATIONS", (*trace_database.MIGRATIONS, "CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('made')")
    )
    assert len(store.find()) == 1
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("SELECT text FROM notes").fetchall() == [("made",)]
    connection.close()


def test_a_locked_file_does_not_stop_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_database, "_BUSY_SECONDS", 0.05)
    store = TraceStore(tmp_path / "traces.db", max_waiting=5)
    with store.recording():
        answering()(question="first")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    homefire.configure(callbacks=[store])
    try:
        for number in range(50):
            assert answering()(question=str(number)).answer == "yes"
        assert len(homefire_find(store.path)) == 1
    finally:
        homefire.configure(callbacks=None)
        other.execute("COMMIT")
        other.close()
    stats = store.stats()
    assert stats.dropped + stats.lost + stats.traces == 51
    assert stats.dropped > 0
    store.close()


def homefire_find(path: Path) -> list[Any]:
    """Reads without waiting for what is being written."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT id FROM traces").fetchall()
    finally:
        connection.close()


WRITER = """
    import sys, os, signal
    import homefire
    from homefire.modules.trace_store import TraceStore
    program = homefire.Predict("question -> answer")
    program.lm = homefire.ScriptedLM(lambda request: '{"answer": "yes"}')
    store = TraceStore(sys.argv[1])
    homefire.configure(callbacks=[store])
    for number in range(int(sys.argv[2])):
        program(question=f"{sys.argv[3]} {number}")
    if sys.argv[3] == "killed":
        store.flush()
        program(question="on its way")
        os.kill(os.getpid(), signal.SIGKILL)
"""


def start(path: Path, count: int, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(count), name])


def test_several_processes_write_and_one_that_is_killed_loses_what_was_on_its_way(store: TraceStore) -> None:
    processes = [start(store.path, 60, name) for name in ("a", "b", "killed")]
    assert [process.wait(120) for process in processes] == [0, 0, -signal.SIGKILL]
    found = [one.inputs["question"] for one in store.find()]
    assert sorted(found) == sorted(f"{name} {number}" for name in ("a", "b", "killed") for number in range(60))
    connection = sqlite3.connect(store.path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_records_too(store: TraceStore) -> None:
    with store.recording():
        answering()(question="parent")
        child = os.fork()
        if child == 0:
            answering()(question="child")
            os._exit(0 if store.flush() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert sorted(one.inputs["question"] for one in store.find()) == ["child", "parent"]


def test_reading_where_there_is_nothing(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "none.db")
    with pytest.raises(homefire.InputError, match="There is no trace store"):
        store.find()
    assert store.stats().traces == 0
    assert not store.path.exists()
