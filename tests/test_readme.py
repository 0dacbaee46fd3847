"""The README's Python is run: its blocks one after the other, as a reader would type them, on the scripted engine."""

from __future__ import annotations

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
        return '{"answer": "thirty"}'
    if "sky" in request.messages[-1].content:
        return '{"reasoning": "light", "answer": "blue"}'
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
    assert len(BLOCKS) == 5
    for block in BLOCKS:
        exec(compile(block, str(README), "exec", dont_inherit=True), scope)
    said = capsys.readouterr().out
    assert said.startswith("mixed 3\n")
    assert "'good':" in said
    assert "lightblue{'scripted':" in said
    assert "thirty" in said and "leave.md" in said


def test_the_table_of_types_is_the_one_that_is_tested() -> None:
    assert enforcement_table() in README.read_text(encoding="utf-8")
