"""The README's Python is run: its blocks one after the other, as a reader would type them, on the scripted engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.modules.constraints import enforcement_table
from homefire.modules.settings import current

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def answer(request: Request) -> str:
    if "days of leave" in request.messages[-1].content:
        return '{"answer": "thirty", "citations": [1]}'
    if "sky" in request.messages[-1].content:
        return '{"reasoning": "light", "answer": "blue"}'
    if "next_tool_calls" in request.messages[0].content:
        name, args = ("finish", {}) if "Thursday" in request.messages[-1].content else ("weekday", {"day": "2024-02-29"})
        return json.dumps({"next_thought": "I look.", "next_tool_calls": [{"name": name, "args": args}]})
    if "29 February" in request.messages[-1].content:
        return '{"reasoning": "a Thursday", "answer": "weekday"}'
    return '{"mood": "mixed", "stars": 3}'


def test_the_blocks_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("homefire.modules.settings._settings.process", current())  # put back at the end
    monkeypatch.setattr("homefire.LM", lambda: ScriptedLM(answer, scores=lambda request, text: -len(text)), raising=False)
    monkeypatch.setattr("homefire.SentenceEncoder", homefire.HashEncoder, raising=False)
    monkeypatch.setattr(homefire.BootstrapFinetune, "compile", lambda self, program, trainset: program)  # a journey trains for real
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "leave.md").write_text("Everyone has thirty days of leave a year.")
    scope: dict[str, Any] = {"__name__": "readme"}
    assert len(BLOCKS) == 7
    for block in BLOCKS:
        exec(compile(block, str(README), "exec", dont_inherit=True), scope)
    said = capsys.readouterr().out
    assert said.startswith("mixed 3\n")
    assert "'good':" in said
    assert "lightblue{'scripted':" in said
    assert "thirty" in said and "leave.md" in said
    assert "'observation_0': 'Thursday'" in said
    assert (tmp_path / "evaluation.html").is_file() and (tmp_path / "traces.db").is_file()


def test_the_table_of_types_is_the_one_that_is_tested() -> None:
    assert enforcement_table() in README.read_text(encoding="utf-8")
