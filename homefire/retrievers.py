"""Retrievers under the name that DSPy's users import them from: `from homefire.retrievers import Embeddings`.

Holds no code: names of `modules` and `retrieval`.
"""

from __future__ import annotations

from homefire.modules.embeddings import Embeddings, EmbeddingsWithScores
from homefire.modules.retrieve import Retrieve
from homefire.retrieval.colbert_client import ColBERTv2

__all__ = ["ColBERTv2", "Embeddings", "EmbeddingsWithScores", "Retrieve"]
