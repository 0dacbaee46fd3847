"""Tests of homefire.configs.console."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from homefire.configs import console as module
from homefire.configs.console import note, progress


def test_without_a_terminal_there_is_one_line_at_the_start_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOMEFIRE_QUIET", raising=False)
    with progress("Counting", total=3) as task:
        for _ in range(3):
            task.advance()
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Counting ..."
    assert second.startswith("Counting: 3 of 3, ")


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEFIRE_QUIET", "1")
    with progress("Counting") as task:
        task.advance()
        note("something")
    assert capsys.readouterr() == ("", "")


def test_bars_of_several_threads_share_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOMEFIRE_QUIET", raising=False)
    screen = Console(file=io.StringIO(), force_terminal=True, force_jupyter=False, width=100)
    monkeypatch.setattr(module, "console", screen)

    def work(name: str) -> None:
        with progress(name, total=10) as task:
            for _ in range(10):
                task.advance()
            task.update(description=f"{name} ends", total=12, completed=12)
            assert (task.completed, task.total) == (12, 12)

    with progress("outer"):
        threads = [threading.Thread(target=work, args=(f"inner {index}",)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert module._display.bars == 1
    assert module._display.progress is None


_QUIET = """
import json, logging, os, sys
before = set(sys.modules)
from homefire.configs.console import quiet_libraries
quiet_libraries()
heavy = {"vllm", "torch", "transformers", "datasets", "huggingface_hub"} & set(sys.modules)
print(json.dumps([dict(os.environ), logging.getLogger("vllm").level, sorted(heavy)]))
"""


def _environment(**given: str) -> tuple[dict[str, str], int, list[str]]:
    base = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "VLLM_", "TRANSFORMERS_", "DO_NOT", "HOMEFIRE_"))
    }
    done = subprocess.run([sys.executable, "-c", _QUIET], env=base | given, capture_output=True, text=True, check=True)
    environment, level, heavy = json.loads(done.stdout)
    return environment, level, heavy


def test_libraries_are_quiet_and_private_and_not_imported() -> None:
    environment, level, heavy = _environment(VLLM_LOGGING_LEVEL="DEBUG")
    assert environment["VLLM_LOGGING_LEVEL"] == "DEBUG", "what the user set stays"
    assert environment["TRANSFORMERS_VERBOSITY"] == "error"
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert level == 40
    assert heavy == []


def test_verbose_leaves_the_logs_on_and_stays_private() -> None:
    environment, level, _ = _environment(HOMEFIRE_VERBOSE="1")
    assert "TRANSFORMERS_VERBOSITY" not in environment
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert level == 0
