"""`homefire traces`: what it lists, shows, exports and notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import homefire
from homefire.__main__ import app
from homefire.modules.trace_store import TraceStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TraceStore:
    """Three runs in homefire's own folder: two of a classifier, and one that failed."""
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    made = TraceStore()
    program = homefire.Predict("text -> mood: Literal['good', 'bad']")
    lines = ['{"mood": "good"}', '{"mood": "bad"}', homefire.EngineError("the engine broke")]
    program.lm = homefire.ScriptedLM(lines)
    with made.recording():
        program(text="warm tea")
        program(text="cold [bold]rain")
        with pytest.raises(homefire.EngineError):
            program(text="nothing")
    made.close()
    return made


def said(*words: str) -> str:
    result = CliRunner().invoke(app, ["traces", *words])
    assert result.exit_code == 0, result.output
    return result.output


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def id_of(store: TraceStore, text: str) -> str:
    return next(one.id for one in store.find() if one.inputs["text"] == text)


def test_lists_runs_the_newest_first(store: TraceStore) -> None:
    output = said("list")
    rows = [line for line in output.splitlines() if "Predict(text -> mood)" in line]
    assert ["text=nothing" in rows[0], "text=cold [bold]rain" in rows[1], "text=warm tea" in rows[2]] == [True] * 3
    assert "EngineError: the engine broke" in rows[0]
    assert "mood=bad" in rows[1]
    assert "3 of 3 traces" in output
    assert "homefire traces show" in output


def test_lists_what_is_asked_for(store: TraceStore) -> None:
    assert "1 of 3 traces" in said("list", "--failed")
    assert "2 of 3 traces" in said("list", "--ok", "--since", "1h", "--program", "Predict")
    assert "1 of 3 traces" in said("list", "--limit", "1")
    assert "no such traces" in said("list", "--since", "2999-01-01")
    said("feedback", id_of(store, "warm tea")[:8], "--score", "0.9")
    assert "1 of 3 traces" in said("list", "--min-score", "0.5")


def test_shows_a_whole_run(store: TraceStore) -> None:
    trace = id_of(store, "cold [bold]rain")
    said("feedback", trace, "--score", "0", "--text", "should be good", "--label", "mood=good")
    output = said("show", trace[:10])
    for expected in (trace, "text: cold [bold]rain", "Step 1: self", 'answer: {"mood": "bad"}', "score 0, should be good", "mood: good"):
        assert expected in output
    assert "Failed: EngineError: the engine broke" in said("show", id_of(store, "nothing"))


def test_exports_chat_samples(store: TraceStore, tmp_path: Path) -> None:
    out = tmp_path / "chats.jsonl"
    assert "Wrote 2 chat samples" in said("export", str(out))
    first, second = lines_of(out)
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant"]
    assert "warm tea" in first["messages"][1]["content"]
    assert first["messages"][-1]["content"] == '{"mood": "good"}'
    assert second["messages"][-1]["content"] == '{"mood": "bad"}'
    assert first["path"] == "self"
    assert "Wrote 0 chat samples" in said("export", str(out), "--path", "other")


def test_exports_steps_whole(store: TraceStore, tmp_path: Path) -> None:
    out = tmp_path / "steps.jsonl"
    said("feedback", id_of(store, "warm tea"), "--score", "1")
    assert "Wrote 3 steps" in said("export", str(out), "--form", "steps")
    first, _, failed = lines_of(out)
    assert (first["inputs"], first["outputs"], first["score"]) == ({"text": "warm tea"}, {"mood": "good"}, 1.0)
    assert first["completions"][0]["token_ids"] == list(map(ord, '{"mood": "good"}'))
    assert failed["error"] == "EngineError: the engine broke"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["list", "--since", "soon"], "--since is 'soon'"),
        (["show", "nope"], "There is no trace 'nope'"),
        (["feedback", "nope", "--score", "1"], "There is no trace 'nope'"),
        (["list", "--store", "missing.db"], "There is no trace store at missing.db"),
    ],
    ids=["since", "show", "feedback", "store"],
)
def test_says_what_is_wrong(store: TraceStore, words: list[str], problem: str) -> None:
    result = CliRunner().invoke(app, ["traces", *words])
    assert isinstance(result.exception, homefire.InputError)
    assert problem in str(result.exception)


def test_a_label_needs_a_value(store: TraceStore) -> None:
    result = CliRunner().invoke(app, ["traces", "feedback", id_of(store, "warm tea"), "--label", "mood"])
    assert "FIELD=VALUE" in str(result.exception)
