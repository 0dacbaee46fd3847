"""Small LoRA adapters for any model, written without loading it, in the adapter store of this process."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from homefire.engine.adapters import CONFIG, WEIGHTS, AdapterStore, Lineage
from homefire.engine.fingerprint import base_fingerprint, weight_shapes
from homefire.engine.request import AdapterRef


def store_adapter(base: Path, folder: Path, name: str, seed: int, rank: int = 4) -> AdapterRef:
    """Adds a version with random weights, large enough to change what the model says, to the store."""
    shapes = {layer: shape for layer, shape in weight_shapes(base).items() if layer.endswith("q_proj.weight")}
    made, tensors = torch.Generator().manual_seed(seed), {}
    for layer, (rows, columns) in shapes.items():
        prefix = f"base_model.model.{layer.removesuffix('.weight')}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, columns, generator=made) * 0.2
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(rows, rank, generator=made) * 0.2
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "bias": "none",
        "target_modules": ["q_proj"],
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
    return AdapterStore().add(name, folder, lineage(base))


def lineage(base: Path) -> Lineage:
    return Lineage(
        base_model="small",
        base_fingerprint=base_fingerprint(base),
        data_hash="d" * 64,
        rows=1,
        settings={},
        seed=0,
        program="text: str -> area: str",
        scores={},
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )
