"""Merged checkpoints: the numbers PEFT gives, the base's names and form, and a small cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from homefire.engine.adapters import CONFIG, WEIGHTS
from homefire.engine.merge import KEPT, merged_checkpoint
from homefire.engine.request import AdapterRef
from homefire.errors import AdapterError, DiskError

LAYER = "model.layers.0.mlp.up_proj"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base", 0)


def make_base(folder: Path, seed: int, rows: int = 6) -> Path:
    folder.mkdir()
    weight = torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)).bfloat16()
    save_file({f"{LAYER}.weight": weight, "model.norm.weight": torch.ones(4)}, folder / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "tokenizer.json", "generation_config.json"):
        (folder / name).write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def make_adapter(folder: Path, seed: int = 0, layer: str = LAYER, **changes: Any) -> AdapterRef:
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", **changes}))
    made = torch.Generator().manual_seed(100 + seed)
    pair = {"lora_A": torch.randn(2, 4, generator=made), "lora_B": torch.randn(6, 2, generator=made)}
    save_file({f"base_model.model.{layer}.{half}.weight": tensor for half, tensor in pair.items()}, folder / WEIGHTS)
    return AdapterRef("area", seed + 1, folder)


def test_adds_the_product_and_keeps_the_rest(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    merged = merged_checkpoint(base, adapter, root=tmp_path / "merged")
    before, pair, after = load_file(base / "model.safetensors"), load_file(adapter.path / WEIGHTS), load_file(merged / "model.safetensors")
    a, b = (pair[f"base_model.model.{LAYER}.lora_{half}.weight"] for half in "AB")
    assert torch.equal(after[f"{LAYER}.weight"], (before[f"{LAYER}.weight"].float() + 4 * b @ a).bfloat16())
    assert torch.equal(after["model.norm.weight"], before["model.norm.weight"])
    assert {path.name for path in merged.iterdir()} == {path.name for path in base.iterdir()}


def test_second_call_finds_the_copy(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    merged = merged_checkpoint(base, adapter, root=tmp_path / "merged")
    (merged / "mark").touch()
    assert merged_checkpoint(base, adapter, root=tmp_path / "merged") == merged
    assert (merged / "mark").exists()


def test_copies_used_longest_ago_go_first(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.engine.merge._SPARED", 0.0)
    adapters = [make_adapter(tmp_path / f"adapter{seed}", seed) for seed in range(KEPT + 1)]
    first, second, *_ = [merged_checkpoint(base, adapter, root=tmp_path / "merged") for adapter in adapters[:KEPT]]
    merged_checkpoint(base, adapters[0], root=tmp_path / "merged")
    last = merged_checkpoint(base, adapters[KEPT], root=tmp_path / "merged")
    assert (first.is_dir(), second.is_dir(), last.is_dir()) == (True, False, True)
    assert sum(path.is_dir() for path in (tmp_path / "merged").iterdir()) == KEPT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "its use_dora is True, expected False"),
        ({"peft_type": "IA3"}, "its peft_type is 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"layer": "model.layers.9.mlp.up_proj"}, r"it has no model\.layers\.9\.mlp\.up_proj"),
    ],
)
def test_what_cannot_be_merged(base: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    adapter = make_adapter(tmp_path / "adapter", **changes)
    with pytest.raises(AdapterError, match=message):
        merged_checkpoint(base, adapter, root=tmp_path / "merged")
    assert not any(path.is_dir() for path in (tmp_path / "merged").iterdir())


def test_base_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="trained for another base model"):
        merged_checkpoint(make_base(tmp_path / "large", 0, rows=8), make_adapter(tmp_path / "adapter"), root=tmp_path / "merged")


def test_damaged_adapter(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    (adapter.path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(AdapterError, match="cannot be read"):
        merged_checkpoint(base, adapter, root=tmp_path / "merged")
    (adapter.path / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="is missing"):
        merged_checkpoint(base, adapter, root=tmp_path / "merged")


def test_full_disk(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(DiskError, match="the merged model of area@1"):
        merged_checkpoint(base, adapter, root=tmp_path / "merged")


def test_real_model_merges_as_peft_does(smollm2: Path, tmp_path: Path) -> None:
    import peft
    import transformers

    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    expected = model.merge_and_unload()

    merged = merged_checkpoint(smollm2, AdapterRef("area", 1, tmp_path / "adapter"), root=tmp_path / "merged")
    before, after = load_file(smollm2 / "model.safetensors"), load_file(merged / "model.safetensors")
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in after.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in before.items()
    }
    parameters = dict(expected.named_parameters())
    for name, tensor in after.items():
        torch.testing.assert_close(tensor, parameters[name].to(tensor.dtype), rtol=2**-7, atol=1e-6)
    assert (merged / "config.json").read_bytes() == (smollm2 / "config.json").read_bytes()
