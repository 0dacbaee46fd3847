"""The demo at its small size, as a user runs it: the whole job, its table and its report."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from homefire.engine.adapters import AdapterStore


@pytest.mark.slow
def test_quick(smollm2: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "HOMEFIRE_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    (tmp_path / "home" / "models").mkdir(parents=True)
    (tmp_path / "home" / "models" / "smollm2-135m").symlink_to(smollm2)
    command = [sys.executable, "-m", "homefire", "demo", "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    before, after = (float(value) for value in re.findall(r"│\s+(\d+\.\d)% │", said)[:2])
    assert after >= before + 15, said
    assert said.count("60/60") == 2, "every output has its type, before and after"
    report = (tmp_path / "out" / "report.html").read_text()
    assert "demo-quick@1" in report and "<svg" in report
    assert not re.search(r'(src|href)="?http|url\(', report), "it loads nothing"
    assert str(AdapterStore(tmp_path / "home" / "adapters").in_service("demo-quick")) == "demo-quick@1"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "none.csv", "--text", "a", "--label", "b"], "none.csv"),
        (["--data", "none.csv"], "--text COLUMN --label COLUMN"),
        (["--model", "no-such-model", "--quick"], "no-such-model"),
    ],
)
def test_wrong_arguments_are_one_clear_paragraph(arguments: list[str], says: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOMEFIRE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "homefire", "demo", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
