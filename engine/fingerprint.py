"""Which model a checkpoint folder holds: fingerprints of weights and tokenizer, and the shapes of the weights, without loading anything.

Knows no adapters and no engines.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from homefire.errors import InputError

_SAMPLES = 64
"""Places in each weight file that are read for the fingerprint."""
_SAMPLE_BYTES = 4096
_CHANGING = ("_name_or_path", "_model_name_or_path", "transformers_version")
"""Keys of a model's configuration that say nothing about the model."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja", "vocab.json", "merges.txt")


def base_fingerprint(path: Path) -> str:
    """SHA-256 over a model's configuration and, of each weight file, its size, its header and bytes from 64 places.

    It tells finetuned copies of one architecture apart and takes milliseconds, where a hash of all weights would take seconds to minutes.

    Raises:
        InputError: the folder holds no model.
    """
    config_path = path / "config.json"
    if not config_path.is_file():
        raise InputError(
            f"The folder {path} holds no model: config.json is missing. Expected a checkpoint folder, as `homefire models where` shows."
        )
    config = {key: value for key, value in json.loads(config_path.read_text(encoding="utf-8")).items() if key not in _CHANGING}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for file in _weight_files(path):
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        for sample in _samples(file):
            digest.update(sample)
    return digest.hexdigest()


def tokenizer_fingerprint(path: Path) -> str:
    """SHA-256 over the files of a tokenizer and its chat template."""
    digest = hashlib.sha256()
    for name in _TOKENIZER_FILES:
        if (path / name).is_file():
            digest.update(f"{name}:{file_hash(path / name)}".encode())
    return digest.hexdigest()


def weight_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in the safetensors files of a checkpoint, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(path.glob("*.safetensors")):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(length))
        shapes |= {name: tuple(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"}
    return shapes


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _weight_files(path: Path) -> list[Path]:
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
    if not files:
        raise InputError(
            f"The folder {path} holds no model: there are no *.safetensors files. Pull the model again, or name another folder."
        )
    return files


def _samples(file: Path) -> list[bytes]:
    """The header, where a safetensors file has one, then bytes from places spread evenly over the file, its end included."""
    size, samples = file.stat().st_size, []
    with file.open("rb") as stream:
        if file.suffix == ".safetensors":
            (length,) = struct.unpack("<Q", stream.read(8))
            samples.append(stream.read(min(length, size)))
        for index in range(_SAMPLES):
            stream.seek(max(0, size - _SAMPLE_BYTES) * index // (_SAMPLES - 1))
            samples.append(stream.read(_SAMPLE_BYTES))
    return samples
