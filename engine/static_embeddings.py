"""Static embeddings: a sentence encoder boiled down to one vector a token, so that a text takes microseconds and no matrix products.

Knows no catalogue and no place. A text's vector is then the mean of those of its tokens.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_DIM = 256
_RARE = 1e-5
"""The share of all tokens at which a token counts half as much as the rarest; of the powers of ten the best in trials."""
_BATCH = 512


def write_static(encoder: Path, destination: Path) -> None:
    """Writes the static model of an encoder as sentence-transformers reads it. Heavy, half a minute on two cores: runs in the child.

    A token's vector is its last hidden state in a text of its own, on the main axes of all tokens, weighted by how rare it is; its place in
    the vocabulary stands for that, because vocabularies are in the order of frequency. This is Model2Vec's recipe, whose weights go back to
    smooth inverse frequency (Arora et al. 2017).
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    vectors = _own_vectors(AutoModel.from_pretrained(encoder, dtype=torch.float32).eval(), tokenizer.cls_token_id, tokenizer.sep_token_id)
    centred = vectors - vectors.mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    ranks = torch.arange(2, len(vectors) + 2, dtype=torch.float32)
    share = (1 / ranks) / (1 / ranks).sum()
    weighted = centred @ axes[:, -_DIM:].flip(1) * (_RARE / (_RARE + share))[:, None]
    weighted[tokenizer.all_special_ids] = 0
    save_file({"embedding.weight": weighted.contiguous()}, destination / "model.safetensors")
    shutil.copy(encoder / "tokenizer.json", destination / "tokenizer.json")
    _write_configuration(destination)


def _own_vectors(model: Any, first: int, last: int) -> torch.Tensor:
    """The last hidden state of every token of the vocabulary between the two that begin and end each text; shape `(n_tokens, hidden)`."""
    import torch

    count = int(model.config.vocab_size)
    found = []
    with torch.inference_mode():
        for start in range(0, count, _BATCH):
            tokens = torch.arange(start, min(count, start + _BATCH))
            texts = torch.stack([torch.full_like(tokens, first), tokens, torch.full_like(tokens, last)], dim=1)
            found.append(model(input_ids=texts, attention_mask=torch.ones_like(texts)).last_hidden_state[:, 1])
    return torch.cat(found)


def _write_configuration(destination: Path) -> None:
    module = "sentence_transformers.models.{}"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": module.format("StaticEmbedding")},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": module.format("Normalize")},
    ]
    (destination / "1_Normalize").mkdir()
    files = {
        "modules.json": modules,
        "config_sentence_transformers.json": {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"},
        "config.json": {"model_type": "static", "hidden_size": _DIM},
    }
    for name, values in files.items():
        (destination / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
