"""Facts about a model that can be read from its checkpoint folder without loading it.

Knows no engine and no machine.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from homefire.errors import UnknownModel

_BYTES: dict[str, int] = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the choice of settings needs to know of a model."""

    parameters: int
    """Number of weights."""
    layers: int
    kv_heads: int
    head_dim: int
    max_position: int
    """Most tokens that the model was made for."""
    dtype: str
    """Type of the weights on disk."""

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of the weights once loaded in this type."""
        return self.parameters * _BYTES[dtype]

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * _BYTES[dtype]


def model_facts(path: Path) -> ModelFacts:
    """Reads the facts from a checkpoint folder.

    Raises:
        UnknownModel: the folder has no `config.json` of a language model, or no weights.
    """
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config = {**config, **config.get("text_config", {})}
        heads = int(config["num_attention_heads"])
        facts = ModelFacts(
            parameters=_parameters(path, str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")),
            layers=int(config["num_hidden_layers"]),
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            max_position=int(config.get("max_position_embeddings") or 2048),
            dtype=str(config.get("dtype") or config.get("torch_dtype") or "bfloat16"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnknownModel(
            f"{path} is not a checkpoint of a language model: its files cannot be used ({type(error).__name__}: {error}). "
            "Give a folder with config.json, the tokenizer's files and *.safetensors, as `save_pretrained` writes it."
        ) from error
    if facts.parameters == 0:
        raise UnknownModel(f"{path} has no weights. Give a folder with *.safetensors files, or fetch the model again.")
    return facts


def _parameters(path: Path, dtype: str) -> int:
    """Counts weights in the headers of the safetensors files, and by size in older formats."""
    count = 0
    for file in path.glob("*.safetensors"):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > file.stat().st_size:
                raise ValueError(f"{file.name} is damaged")
            header = json.loads(stream.read(length))
        count += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return count or sum(file.stat().st_size for file in path.glob("*.bin")) // _BYTES.get(dtype, 2)
