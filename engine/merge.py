"""A base model and a LoRA adapter made into one checkpoint, for engines that serve LoRA slowly.

Knows no engine. The sum W + (alpha / r) B A (arXiv 2106.09685, section 4.1) is computed in float32, one matrix at a time, so that a merge
needs the memory of one weight file; names, shapes, number format and shared embeddings stay those of the base.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from homefire.configs.home import atomic_directory, home, require_directory
from homefire.engine.adapters import CONFIG, WEIGHTS, AdapterStore
from homefire.engine.fingerprint import base_fingerprint, file_hash
from homefire.engine.request import AdapterRef
from homefire.errors import AdapterError, MissingExtra

if TYPE_CHECKING:
    import torch

KEPT = 3
"""Merged checkpoints that stay on the disk; the one used longest ago goes first."""
_SPARED = 3600.0
"""Seconds for which a merged checkpoint is not removed after its last use."""
_PREFIX = "base_model.model."
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, {}, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
}
"""What the configuration of an adapter has to say for W + (alpha / r) B A to be all there is to it."""


def merged_checkpoint(base: Path, adapter: AdapterRef, *, root: Path | None = None) -> Path:
    """The checkpoint folder of the base model with the adapter in its weights, made on the first call and kept for the next.

    Args:
        base: Checkpoint folder of the base model, in safetensors files.
        adapter: What to merge.
        root: Where merged checkpoints are kept; none is `merged` in homefire's own folder.

    Raises:
        AdapterError: the adapter is damaged, is more than plain LoRA, or was trained for another base model.
        DiskError: no space for the copy.
    """
    if not (adapter.path / WEIGHTS).is_file():
        raise AdapterError(
            f"The adapter {adapter} is damaged: {adapter.path / WEIGHTS} is missing. Train it again or restore it from a copy."
        )
    if (adapter.path / "version.json").is_file():
        AdapterStore(adapter.path.parents[1]).check_base(adapter, base)
    folder = root or home() / "merged"
    target = folder / f"{base_fingerprint(base)[:16]}-{file_hash(adapter.path / WEIGHTS)[:16]}"
    require_directory(folder, "merged models")
    with FileLock(folder / ".lock"):
        if not target.is_dir():
            size = sum(file.stat().st_size for file in base.iterdir() if file.is_file())
            require_directory(folder, f"the merged model of {adapter}", free_bytes=size + 2**26)
            with atomic_directory(target) as new:
                _merge(base, adapter, new)
        os.utime(target)
        _remove_oldest(folder, target)
    return target


def _remove_oldest(folder: Path, in_use: Path) -> None:
    recent = time.time() - _SPARED  # another process may be reading them
    old = [path for path in folder.iterdir() if path.is_dir() and path != in_use and path.stat().st_mtime < recent]
    copies = sorted(old, key=lambda path: path.stat().st_mtime)
    for path in copies[: max(0, len(copies) + 1 - KEPT)]:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Update:
    """What is added to one weight matrix."""

    down: torch.Tensor
    """A, (rank, n_in), float32."""
    up: torch.Tensor
    """B, (n_out, rank), float32."""
    scale: float

    def added_to(self, weight: torch.Tensor) -> torch.Tensor:
        """The sum, in the number format of `weight` (n_out, n_in)."""
        import torch

        return torch.addmm(weight.float(), self.up, self.down, alpha=self.scale).to(weight.dtype)


def _merge(base: Path, adapter: AdapterRef, new: Path) -> None:
    try:
        from safetensors import safe_open
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", "transformers", "Merging an adapter") from error
    updates = _updates(adapter)
    for file in sorted(base.iterdir()):
        if file.suffix != ".safetensors":
            if file.is_file() and file.suffix not in {".bin", ".gguf", ".pt", ".pth"}:
                shutil.copyfile(file, new / file.name)
            continue
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
            metadata = opened.metadata()
        for name in tensors.keys() & updates.keys():
            update, shape = updates.pop(name), tuple(tensors[name].shape)
            if shape != (update.up.shape[0], update.down.shape[1]):
                raise _other_base(adapter, base, f"{name} has the shape {shape}")
            tensors[name] = update.added_to(tensors[name])
        save_file(tensors, new / file.name, metadata=metadata or {"format": "pt"})
    if updates:
        raise _other_base(adapter, base, f"it has no {min(updates)}")


def _updates(adapter: AdapterRef) -> dict[str, _Update]:
    """The updates by the name of the base's tensor."""
    from safetensors.torch import load_file

    try:
        config: dict[str, Any] = json.loads((adapter.path / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(adapter.path / WEIGHTS)
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except Exception as error:
        raise AdapterError(
            f"The adapter {adapter} in {adapter.path} cannot be read: {error}. Train it again or restore it from a copy."
        ) from error
    for key, plain in _PLAIN.items():
        if config.get(key, plain[0]) not in plain:
            raise AdapterError(
                f"The adapter {adapter} cannot be merged: its {key} is {config[key]!r}, expected {plain[0]!r}, as in plain LoRA."
            )
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    updates = {}
    for key, down in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        up = tensors[key.replace(".lora_A.", ".lora_B.")]
        updates[key.removeprefix(_PREFIX).removesuffix(".lora_A.weight") + ".weight"] = _Update(down.float(), up.float(), scale)
    if 2 * len(updates) != len(tensors):
        raise AdapterError(f"The adapter {adapter} cannot be merged: it holds other tensors than the pairs of plain LoRA.")
    return updates


def _other_base(adapter: AdapterRef, base: Path, what: str) -> AdapterError:
    return AdapterError(
        f"The adapter {adapter} does not fit the model in {base}: {what}. It was trained for another base model; use it with that one."
    )
