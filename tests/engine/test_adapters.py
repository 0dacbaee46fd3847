"""The adapter store: versions that never change, the pointer to the one in service, and clear words when something is broken."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from homefire.cli_adapters import app
from homefire.engine.adapters import CONFIG, WEIGHTS, AdapterStore, Lineage
from homefire.engine.fingerprint import base_fingerprint
from homefire.errors import AdapterError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base", 1)


def make_base(folder: Path, seed: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + bytes([seed]) * 100)
    return folder


def make_adapter(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text('{"r": 4}')
    (folder / WEIGHTS).write_bytes(bytes([seed]) * 64)
    return folder


def lineage(base: Path, **changes: Any) -> Lineage:
    given: dict[str, Any] = {
        "base_model": "small",
        "base_fingerprint": base_fingerprint(base),
        "data_hash": "d" * 64,
        "rows": 24,
        "settings": {"rank": 4, "target_modules": "all-linear"},
        "seed": 0,
        "program": "text: str -> area: str",
        "scores": {"before": 0.25},
        "versions": {"homefire": "0"},
        "created": "2026-01-01T00:00:00+00:00",
    }
    return Lineage(**{**given, **changes})


@pytest.fixture
def store(tmp_path: Path, base: Path) -> AdapterStore:
    """Three versions of `triage`, none in service."""
    store = AdapterStore(tmp_path / "store")
    for seed in (1, 2, 3):
        store.add("triage", make_adapter(tmp_path / f"source{seed}", seed), lineage(base))
    return store


def test_versions_count_up_and_are_listed(store: AdapterStore) -> None:
    assert store.names() == ["triage"]
    listed = store.versions("triage")
    assert [str(version.ref) for version in listed] == ["triage@1", "triage@2", "triage@3"]
    assert [version.ref.path.name for version in listed] == ["v0001", "v0002", "v0003"]
    assert (listed[1].ref.path / WEIGHTS).read_bytes() == bytes([2]) * 64
    assert not any(version.in_service for version in listed)


def test_equal_weights_keep_their_version(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    assert str(store.add("triage", tmp_path / "source2", lineage(base))) == "triage@2"
    assert str(store.add("other", tmp_path / "source2", lineage(base))) == "other@1"


def test_writers_at_once_get_different_versions(base: Path, tmp_path: Path) -> None:
    sources = [make_adapter(tmp_path / f"many{seed}", seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(lambda source: AdapterStore(tmp_path / "store").add("many", source, lineage(base)), sources))
    assert sorted(ref.version for ref in refs) == list(range(1, 9))
    assert {(ref.path / WEIGHTS).read_bytes() for ref in refs} == {bytes([seed]) * 64 for seed in range(8)}


def test_resolve(store: AdapterStore) -> None:
    assert str(store.resolve("triage@2")) == "triage@2"
    assert str(store.resolve("triage@latest")) == "triage@3"
    with pytest.raises(AdapterError, match="homefire adapters promote triage@3"):
        store.resolve("triage")
    store.promote("triage", 1)
    assert str(store.resolve("triage")) == "triage@1"


@pytest.mark.parametrize("text", ["triage@9", "triage@0", "triage@one", "triage@"])
def test_unknown_version(store: AdapterStore, text: str) -> None:
    with pytest.raises(AdapterError, match=r"has no version .* it has 1, 2, 3"):
        store.resolve(text)


def test_unknown_name_and_bad_name(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="known adapters: triage"):
        store.resolve("triagee@1")
    for name in ("Triage", "../up", "", ".hidden", "a b"):
        with pytest.raises(AdapterError, match="cannot name an adapter"):
            store.add(name, tmp_path / "source1", lineage(base))


def test_promote_and_roll_back_through_the_history(store: AdapterStore) -> None:
    store.promote("triage", 1, scores={"after": 0.5}, note="first")
    store.promote("triage", 2)
    store.promote("triage", 2)
    store.promote("triage", 3)
    assert [str(store.rollback("triage")), str(store.rollback("triage"))] == ["triage@2", "triage@1"]
    assert store.rollback("triage") is None
    assert store.in_service("triage") is None
    with pytest.raises(AdapterError, match="nothing to roll back"):
        store.rollback("triage")
    assert [entry.version for entry in store.history("triage")] == [1, 2, 3, 2, 1, None]
    assert (store.history("triage")[0].scores, store.history("triage")[0].note) == ({"after": 0.5}, "first")
    store.promote("triage", 3)
    assert store.rollback("triage") is None


def test_promotion_after_a_rollback_goes_back_to_what_served_then(store: AdapterStore) -> None:
    store.promote("triage", 1)
    store.promote("triage", 2)
    store.rollback("triage")
    store.promote("triage", 3)
    assert str(store.rollback("triage")) == "triage@1"
    assert store.rollback("triage") is None


def test_scores_are_added_to_the_lineage(store: AdapterStore, base: Path) -> None:
    ref = store.resolve("triage@1")
    assert store.lineage(ref) == lineage(base)
    store.record_scores(ref, {"after": 0.75})
    assert store.record_scores(ref, {"p": 0.01}).scores == {"before": 0.25, "after": 0.75, "p": 0.01}


def test_other_base_model(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    ref = store.resolve("triage@1")
    store.check_base(ref, base)
    with pytest.raises(AdapterError, match="was trained for 'small'"):
        store.check_base(ref, make_base(tmp_path / "finetuned", 2))


def test_source_without_an_adapter(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    (tmp_path / "source1" / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="holds no adapter"):
        store.add("triage", tmp_path / "source1", lineage(base))


def test_missing_weights(store: AdapterStore) -> None:
    ref = store.resolve("triage@1")
    (ref.path / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=r"triage@1 is damaged: .*safetensors is missing"):
        store.resolve("triage@1")


def test_changed_weights_are_not_promoted(store: AdapterStore) -> None:
    ref = store.resolve("triage@1")
    (ref.path / WEIGHTS).write_bytes(bytes(64))
    with pytest.raises(AdapterError, match="changed after they were stored"):
        store.promote("triage", 1)
    (ref.path / WEIGHTS).write_bytes(bytes(10))
    with pytest.raises(AdapterError, match="its weights have 10 bytes, 64 were stored"):
        store.resolve("triage@1")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_broken_record(store: AdapterStore, text: str) -> None:
    (store.resolve("triage@1").path / "version.json").write_text(text)
    with pytest.raises(AdapterError, match=r"version\.json"):
        store.resolve("triage@1")


@pytest.mark.parametrize("text", ["{", "{}", '[{"version": 1}]', '[{"version": 1, "at": "", "spelt": 1}]'])
def test_broken_pointer(store: AdapterStore, text: str) -> None:
    (store.root / "triage" / "service.json").write_text(text)
    with pytest.raises(AdapterError, match=r"service\.json"):
        store.resolve("triage")


def test_command_line(store: AdapterStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    assert "no adapters yet" in runner.invoke(app, ["list"]).output
    (tmp_path / "home").mkdir()
    store.root.rename(tmp_path / "home" / "adapters")
    assert "triage@2 is in service" in runner.invoke(app, ["promote", "triage@2", "--note", "better"]).output
    listed = [line for line in runner.invoke(app, ["list"]).output.splitlines() if "triage@" in line]
    assert [line.startswith("*") for line in listed] == [False, True, False]
    shown = runner.invoke(app, ["show", "triage"]).output
    assert all(part in shown for part in ("triage@2", "text: str -> area: str", "before 0.25", "rank=4", "better"))
    assert "base model is in service for triage again" in runner.invoke(app, ["rollback", "triage"]).output
    assert isinstance(runner.invoke(app, ["promote", "triage"]).exception, Exception)
    assert json.loads((tmp_path / "home" / "adapters" / "triage" / "service.json").read_text())[-1]["version"] is None
