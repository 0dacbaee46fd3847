"""Engines over the real small model for tests: in float32, with a small context, and a random adapter to serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from homefire.engine.adapters import CONFIG, WEIGHTS
from homefire.engine.choice import choose
from homefire.engine.machine import detect
from homefire.engine.model_facts import model_facts
from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import AdapterRef
from homefire.engine.settings import BackendName, ChosenSettings, EngineSettings
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.transformers_backend import TransformersBackend
from homefire.engine.vllm_backend import VllmBackend
from tests.engine.conformance import Subject


def small_settings(path: Path, backend: BackendName) -> ChosenSettings:
    memory = 0.25 if backend == "vllm" else None
    wish = EngineSettings(dtype="float32", context=512, max_batch=8, kv_cache_gib=memory)
    machine = detect()
    chosen = choose(wish, machine, model_facts(path), backend)
    one = str(machine.cores[0])  # one thread is as fast for so little, and quicker beside others
    return chosen if backend == "vllm" else replace(chosen, cores=one)


def random_adapter(base: Path, folder: Path, scale: float = 0.05) -> AdapterRef:
    """A LoRA adapter of rank 2 on one projection of one layer, which shifts every answer's probabilities a little."""
    target = folder / "adapter"
    target.mkdir()
    width = json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    source = torch.Generator().manual_seed(0)
    pair = {"lora_A": torch.randn(2, width, generator=source) * scale, "lora_B": torch.randn(width, 2, generator=source) * scale}
    layer = "base_model.model.model.layers.3.self_attn.o_proj"
    save_file({f"{layer}.{half}.weight": tensor for half, tensor in pair.items()}, target / WEIGHTS)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "bias": "none", "target_modules": ["o_proj"], "task_type": "CAUSAL_LM"}
    (target / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    return AdapterRef("random", 1, target)


@contextmanager
def subject_of(path: Path, backend: BackendName, folder: Path, adapter: AdapterRef | None = None) -> Iterator[Subject]:
    """A running engine; what it merges goes into `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMEFIRE_HOME", str(folder))
        encoder = PromptEncoder(path)
        load = VllmBackend if backend == "vllm" else TransformersBackend
        engine = ThreadedEngine("small", path, small_settings(path, backend), load)
        try:
            yield Subject(engine=engine, decode=encoder.decode, encode=encoder.encode_text, adapter=adapter)
        finally:
            engine.close()
