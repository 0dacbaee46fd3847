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


def test_a_log_of_long_work_says_how_fast_it_goes_and_how_long_it_will_take(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOMEFIRE_QUIET", raising=False)
    now = iter([100.0, 101.0, 160.0, 161.0, 3820.0, 3820.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    with progress("Counting", total=1000) as task:
        for done in (10, 120, 130, 930):
            task.update(completed=done)
    assert capsys.readouterr().err.splitlines() == [
        "Counting ...",
        "Counting: 120 of 1000, 2.0/s, 7:20 left",
        "Counting: 930 of 1000, 0.2/s, 4:40 left",
        "Counting: 930 of 1000, 3720.0 s",
    ]


@pytest.mark.parametrize(
    ("total", "rate", "seconds", "shown"),
    [(3, 1.0, 2.0, ""), (None, 1.0, 2.0, ""), (100, 12.6, 61.2, "13/s, 1:01 left"), (9e6, 1234.5, 7261.0, "1,234/s, 2:01:01 left")],
)
def test_pace_in_words(total: float | None, rate: float, seconds: float, shown: str) -> None:
    assert module._pace(total, rate, seconds) == shown


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
