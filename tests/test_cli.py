"""Tests of the command line: what it prints, and the code it leaves with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from homefire import __main__ as command_line
from homefire import cli_models


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOMEFIRE_MODEL", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "home"


def run(*arguments: str) -> int | str | None:
    """Runs a command in this process and gives the code it leaves with."""
    with pytest.raises(SystemExit) as caught:
        command_line.main(list(arguments))
    return caught.value.code


def test_help_is_light_and_names_every_command() -> None:
    code = "import sys\nfrom homefire.__main__ import main\ntry:\n    main(['--help'])\nfinally:\n    print('LOADED', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.partition("LOADED")
    commands = ("doctor", "models", "demo", "index", "ask", "eval", "finetune", "adapters", "serve", "cache")
    assert all(command in text for command in commands)
    assert not {"torch", "vllm", "transformers", "numpy", "huggingface_hub", "datasets"} & set(loaded.split())


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "homefire", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("homefire ")


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    assert "Usage" in "".join(capsys.readouterr())


def test_a_wrong_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("modles") == 2
    assert "models" in capsys.readouterr().err


def test_an_error_is_one_paragraph(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "where", "smollm2-135m") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: The model 'smollm2-135m' is not on this machine yet. Fetch it once with: homefire models pull smollm2-135m\n"


def test_debug_shows_the_traceback(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--debug", "models", "where", "smollm2-135m") == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_is_one_line_with_a_hint(own_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli_models, "available", broken)
    assert run("models", "list") == 70
    assert capsys.readouterr().err == (
        "error: homefire broke: ZeroDivisionError: by zero. This is a defect; see where with: homefire --debug models list\n"
    )


def test_an_interrupt_leaves_with_130(own_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_models, "available", interrupted)
    assert run("models", "list") == 130
    assert "goes on from its last checkpoint" in capsys.readouterr().err


def test_doctor_without_the_model_names_the_command(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "homefire models pull smollm2-135m" in out
    assert "cannot run yet" in out


def test_doctor_with_a_model(smollm2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run("doctor") == 0
    out = capsys.readouterr().out
    for word in ("Machine", "Packages", "Settings", "kv_cache_gib", "prefix_caching", "can run on this machine"):
        assert word in out


def test_doctor_as_json_with_a_preset(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", "--config", "laptop", "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["context"] == 4096
    assert record["settings"]["reasons"]["context"] == "You set it."
    assert [gap["command"] for gap in record["gaps"] if gap["blocks"]] == ["homefire models pull smollm2-135m"]
    assert record["machine"]["cores"]


def test_doctor_with_a_wrong_configuration_lists_all(own_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("engine:\n  contxt: 1\n  max_batch: many\nmodle: x\n", encoding="utf-8")
    assert run("doctor", "--config", str(path)) == 2
    err = capsys.readouterr().err
    assert "has 3 problems" in err
    assert [word in err for word in ("'context'", "a whole number", "'model'")] == [True] * 3


def test_models_list(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["models", "list"])
    assert "smollm2-135m" in capsys.readouterr().out
    assert run("models", "list", "--json") in (0, None)
    assert json.loads(capsys.readouterr().out)[0]["pulled"] is False


def test_models_pull_and_where_print_the_folder(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("pull", "where"):
        assert run("models", word, "smollm2-135m") in (0, None)
        assert capsys.readouterr().out == f"{smollm2}\n"


def test_a_pull_into_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "file" / "home"))
    assert run("models", "pull", "smollm2-135m") == 1
    assert "HOMEFIRE_HOME=" in capsys.readouterr().err
