"""Models of every kind of sentence-transformers, with few random weights and the tokenizer of the real encoder: loaded in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

DIM = 32


def transformer(
    folder: Path, tokenizer: Path, kind: Any = BertModel, *, hidden: int = DIM, vocabulary: int = 30522, **settings: Any
) -> Path:
    """A checkpoint of transformers alone; a smaller vocabulary has the most frequent tokens."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": hidden, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    kind(BertConfig(vocab_size=vocabulary, **shape, **settings)).eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["model"]["vocab"] = {token: number for token, number in values["model"]["vocab"].items() if number < vocabulary}
    file.write_text(json.dumps(values), encoding="utf-8")
    return folder


def sentence_model(folder: Path, tokenizer: Path, **options: Any) -> Path:
    """One vector a text."""
    base = Transformer(str(transformer(folder / "base", tokenizer)), max_seq_length=64)
    model = SentenceTransformer(modules=[base, Pooling(DIM, "mean"), Normalize()], device="cpu", **options)
    model.save(str(folder / "model"))
    return folder / "model"


def colbert_model(folder: Path, tokenizer: Path, **options: Any) -> Path:
    """One vector a token, as sentence-transformers saves it."""
    base = Transformer(str(transformer(folder / "base", tokenizer)), max_seq_length=64, **options)
    torch.manual_seed(1)
    projection = Dense(
        in_features=DIM, out_features=16, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
    )
    mask, unit = MultiVectorMask(skiplist_words=[",", "."]), Normalize(module_input_name="token_embeddings")
    prompts = {"query": "[Q] ", "document": "[D] "}
    MultiVectorEncoder(modules=[base, projection, mask, unit], prompts=prompts, device="cpu").save(str(folder / "model"))
    return folder / "model"


def pair_model(folder: Path, tokenizer: Path, labels: int = 1) -> Path:
    """One score a pair of texts, or several."""
    base = transformer(folder / "base", tokenizer, BertForSequenceClassification, num_labels=labels)
    CrossEncoder(str(base), num_labels=labels, device="cpu", local_files_only=True).save(str(folder / "model"))
    return folder / "model"
