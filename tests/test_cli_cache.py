"""`homefire cache`: counts and removes the answers on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from homefire.cli_cache import app
from homefire.engine.response_files import ResponseFiles


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_counts_and_clears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "answers"
    monkeypatch.setenv("HOMEFIRE_CACHE", str(folder))
    assert "0 answers" in said("stats")
    assert not folder.exists()
    files = ResponseFiles(folder, 10**9)
    for number in range(3):
        files.write_later(f"{number:064x}", lambda: b"x" * 1_000_000)
    files.close()
    assert f"{folder}: 3 answers, 3 MB of at most 4.0 GB" in said("stats")
    assert "Removed 3 answers, 3 MB." in said("clear")
    assert "0 answers" in said("stats")


def test_says_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEFIRE_CACHE", "off")
    assert "not kept on disk" in said("stats")
    assert "Removed 0 answers" in said("clear")
