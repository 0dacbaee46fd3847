"""A server's adapters: what it is told to load and unload when the store changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from homefire.engine.adapters import WEIGHTS, AdapterStore
from homefire.engine.server_adapters import KEPT, ServedAdapters, adapted_layers
from homefire.engine.server_guard import ALIASES, LOAD, UNLOAD
from homefire.errors import AdapterError
from tests.engine.lora_files import store_adapter


class Told:
    """Notes what a server is told to do; refuses what it is told to refuse."""

    def __init__(self, *refused: str) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.refused = refused

    def __call__(self, path: str, record: Mapping[str, Any]) -> None:
        self.calls.append((path, dict(record) if path == ALIASES else record["lora_name"]))
        if record.get("lora_name") in self.refused:
            raise AdapterError("the server answered 400: too large")

    def since(self) -> list[tuple[str, Any]]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AdapterStore:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    return AdapterStore()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base", 1.0)


def make_base(folder: Path, value: float) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    save_file({"layer.q_proj.weight": torch.full((4, 4), value)}, folder / "model.safetensors")
    return folder


def test_what_is_served_follows_promotion_and_rollback(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    told, served = Told(), ServedAdapters(store, base)
    served.update(told)
    assert (told.since(), served.rank()) == ([], 0)
    for seed in (1, 2):
        store_adapter(base, tmp_path / f"made{seed}", "area", seed, rank=12)
    store_adapter(make_base(tmp_path / "other", 2.0), tmp_path / "made3", "stranger", 3)
    store.promote("stranger", 1)
    served.update(told)
    assert told.since() == []
    store.promote("area", 1)
    served.update(told)
    assert told.since() == [(LOAD, "area@1"), (ALIASES, {"area": "area@1"})]
    assert served.rank() == 16
    store.promote("area", 2)
    served.update(told)
    served.update(told)
    assert told.since() == [(LOAD, "area@2"), (ALIASES, {"area": "area@2"})]
    store.rollback("area")
    served.update(told)
    assert told.since() == [(ALIASES, {"area": "area@1"})]
    store.rollback("area")
    served.update(told)
    assert told.since() == [(ALIASES, {})]
    served.forget()
    served.update(told)
    assert told.since() == [(LOAD, "area@1"), (LOAD, "area@2")]


def test_old_versions_make_room(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    told, served = Told(), ServedAdapters(store, base)
    for seed in range(1, KEPT + 2):
        store_adapter(base, tmp_path / f"made{seed}", "area", seed)
        store.promote("area", seed)
        served.update(told)
    assert told.since()[-3:] == [(LOAD, f"area@{KEPT + 1}"), (ALIASES, {"area": f"area@{KEPT + 1}"}), (UNLOAD, "area@1")]


def test_only_what_is_wanted_and_what_can_be_loaded(
    store: AdapterStore, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("area", "area", "mood", "other")):
        store_adapter(base, tmp_path / f"made{seed}", name, seed)
    for name in ("area", "mood", "other"):
        store.promote(name, 1)
    told, served = Told("mood@1"), ServedAdapters(store, base, ["area@2", "mood", "area"])
    served.update(told)
    served.update(told)
    assert told.since() == [(LOAD, "area@2"), (LOAD, "mood@1"), (LOAD, "area@1"), (ALIASES, {"area": "area@1"})]
    assert capsys.readouterr().err.count("mood@1 is not served: the server answered 400") == 1
    with pytest.raises(AdapterError, match="trained for"):
        ServedAdapters(store, make_base(tmp_path / "stranger", 2.0), ["area"])


def test_what_is_damaged_in_the_store_is_served_on(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    ref = store_adapter(base, tmp_path / "made", "area", 1)
    store.promote("area", 1)
    told, served = Told(), ServedAdapters(store, base)
    served.update(told)
    (ref.path / WEIGHTS).unlink()
    told.since()
    served.update(told)
    assert told.since() == []


def test_an_adapter_does_not_take_the_name_of_the_model(store: AdapterStore, base: Path, tmp_path: Path) -> None:
    store_adapter(base, tmp_path / "made", "small", 1)
    store.promote("small", 1)
    told, served = Told(), ServedAdapters(store, base, model="small")
    served.update(told)
    assert told.since() == [(LOAD, "small@1")]


def test_a_server_without_room_says_so_once(store: AdapterStore, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    served = ServedAdapters(store, base)
    store_adapter(base, tmp_path / "made", "area", 1)
    store.promote("area", 1)
    served.update(None)
    served.update(None)
    assert capsys.readouterr().err.count("was started without adapters") == 1


def test_without_a_gpu_only_layers_inside_the_blocks_are_adapted(
    store: AdapterStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "blocks"
    base.mkdir()
    (base / "config.json").write_text("{}", encoding="utf-8")
    names = ("model.layers.0.q_proj", "model.layers.1.q_proj", "model.layers.0.up_proj", "lm_head", "model.embed_tokens")
    tensors = {f"{name}.weight": torch.zeros(4, 4) for name in names} | {"model.layers.0.norm.weight": torch.zeros(4)}
    save_file(tensors, base / "model.safetensors")
    assert adapted_layers(base) == ["q_proj", "up_proj"]
    store_adapter(base, tmp_path / "made", "area", 1)
    store.promote("area", 1)
    told = Told()
    ServedAdapters(store, base, layers=["up_proj"]).update(told)
    assert told.since() == []
    assert "adapts q_proj" in capsys.readouterr().err
    save_file({"model.layers.0.experts.0.up_proj.weight": torch.zeros(4, 4)}, base / "model.safetensors")
    assert adapted_layers(base) is None
