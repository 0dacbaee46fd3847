"""Loads sentence-transformers models of all kinds from this machine: one vector a text, one a token, or a score a pair of texts.

Knows nothing of what they are used for, and downloads nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from homefire.configs.console import quiet_libraries
from homefire.configs.home import home
from homefire.errors import InputError, MissingExtra, UnknownModel

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer

Dtype: TypeAlias = Literal["auto", "float32", "bfloat16"]
"""Type of the numbers a model computes with; `auto` takes what the machine is good at."""

_MIB = 2**20
_DESCRIBING = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "vocab.txt",
)


def find_folder(model: Path | str) -> Path | None:
    """The folder a name leads to: itself, the pulled model of that name, or the one in the Hugging Face cache; none when there is none."""
    if Path(model).is_dir():
        return Path(model)
    pulled = home() / "models" / str(model)
    if pulled.is_dir():
        return pulled
    quiet_libraries()
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        return Path(snapshot_download(str(model), local_files_only=True))
    except (OSError, HFValidationError):
        return None


def load_sentence_model(
    model: str, folder: Path | None, device: str | None, dtype: Dtype, prompts: Mapping[str, str]
) -> SentenceTransformer:
    """A model that gives one vector a text.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, or its folder cannot be loaded.
    """
    quiet_libraries()
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "retrieval", "SentenceEncoder") from error
    if folder is None:
        raise _unknown("encoder", model, folder, None)
    try:
        loaded = SentenceTransformer(str(folder), device=device, local_files_only=True, prompts=dict(prompts))
    except (OSError, ValueError) as error:
        raise _unknown("encoder", model, folder, error) from error
    loaded.to(_torch_dtype(dtype, loaded.device.type))
    return loaded.eval()


def load_token_model(model: str, folder: Path | None, device: str | None, dtype: Dtype, prompts: Mapping[str, str]) -> MultiVectorEncoder:
    """A model that gives one vector a token.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, its folder cannot be loaded, or it was not trained to give token vectors.
    """
    quiet_libraries()
    try:
        from sentence_transformers import MultiVectorEncoder
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "retrieval", "ColbertEncoder") from error
    if folder is None:
        raise _unknown("ColBERT model", model, folder, None)
    if not _gives_token_vectors(folder):
        raise UnknownModel(
            f"{model!r} is no ColBERT model: its folder {str(folder)!r} names no projection of token vectors, and a random one would find "
            "nothing. Expected a model made by sentence-transformers' MultiVectorEncoder, PyLate or Stanford's ColBERT. The token vectors "
            "of a plain encoder, untrained: SentenceTokenEncoder(SentenceEncoder(...)); trained on your passages: homefire index tune."
        )
    try:
        loaded = MultiVectorEncoder(str(folder), device=device, local_files_only=True, prompts=dict(prompts))
    except (OSError, ValueError) as error:
        raise _unknown("ColBERT model", model, folder, error) from error
    loaded.to(_torch_dtype(dtype, loaded.device.type))
    return loaded.eval()


def load_pair_model(model: str, folder: Path | None, device: str | None, dtype: Dtype) -> CrossEncoder:
    """A model that gives one score a pair of texts.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        UnknownModel: there is no such model on this machine, its folder cannot be loaded, or it gives several scores.
    """
    quiet_libraries()
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise MissingExtra("sentence-transformers", "retrieval", "CrossEncoderReranker") from error
    if folder is None:
        raise _unknown("cross-encoder", model, folder, None)
    try:
        loaded: CrossEncoder = CrossEncoder(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        raise _unknown("cross-encoder", model, folder, error) from error
    if loaded.num_labels != 1:
        raise UnknownModel(
            f"{model!r} gives {loaded.num_labels} scores for a pair of texts, so it classifies and does not rank; expected a cross-encoder "
            "with one."
        )
    loaded.to(_torch_dtype(dtype, loaded.device.type))
    loaded.eval()
    return loaded


def fingerprint(folder: Path, *settings: str) -> str:
    """Tells models apart: a hash of what describes the model, of the size, beginning and end of its weights, and of settings.

    Reads a few MB, so that it takes milliseconds.
    """
    digest = hashlib.sha256()
    parts = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name[:1].isdigit())]
    for part in parts:
        weights = sorted(part.glob("*.safetensors")) or sorted(part.glob("*.bin"))
        for file in [*(part / name for name in _DESCRIBING), *weights]:
            if file.is_file():
                digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
                with file.open("rb") as data:
                    digest.update(data.read(_MIB))
                    data.seek(max(data.tell(), file.stat().st_size - _MIB))
                    digest.update(data.read())
    digest.update("\0".join(settings).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _torch_dtype(dtype: Dtype, device: str) -> torch.dtype:
    """bfloat16 where the machine multiplies it in hardware made for that: NVIDIA GPUs since Ampere, CPUs with AMX; else float32."""
    import torch

    if dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}; expected 'auto', 'float32' or 'bfloat16'.")
    if dtype == "auto":
        fast = torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else device == "cpu" and _has_amx()
        return torch.bfloat16 if fast else torch.float32
    return torch.float32 if dtype == "float32" else torch.bfloat16


def _has_amx() -> bool:
    """Whether the processor has matrix units for bfloat16; with vector units alone it was slower than float32 in trials."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _gives_token_vectors(folder: Path) -> bool:
    """Whether a folder says that its model gives one vector a token."""
    kind = _json(folder / "config_sentence_transformers.json").get("model_type")
    architectures = _json(folder / "config.json").get("architectures") or []
    colbert = any(name == "HF_ColBERT" or name.endswith("ForRetrieval") for name in architectures)
    return colbert or kind in ("MultiVectorEncoder", "ColBERT")


def _json(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def _unknown(kind: str, model: str, folder: Path | None, error: Exception | None) -> UnknownModel:
    place = f"the folder {str(folder)!r} cannot be loaded: {error}" if folder else "it is no folder and not in the local Hugging Face cache"
    return UnknownModel(
        f"There is no {kind} {model!r} on this machine: {place}. Expected the folder of a sentence-transformers model, the name of a "
        f"pulled model or a Hugging Face id. Fetch one with: homefire models pull {'all-minilm-l6-v2' if kind == 'encoder' else 'NAME'}"
    )
