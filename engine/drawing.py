"""The next token of a sequence from its logits: penalties, temperature, truncation and a random source of its own.

Knows no model and no grammar: what a grammar forbids comes as minus infinity. The order of the steps is vLLM's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from homefire.engine.request import Sampling


def random_source(seed: int, sample: int, device: str) -> Any:
    """The random source of one of a request's samples; the same numbers give the same tokens, whatever else is computed."""
    import torch

    digest = hashlib.blake2b(f"{seed}/{sample}".encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest) >> 1)


def penalize(logits: Any, seen: Iterable[int], penalty: float) -> None:
    """Makes tokens that there are already less likely, in place; logits (n_vocabulary,). From CTRL (arXiv 1909.05858, section 4.1)."""
    import torch

    ids = torch.tensor(sorted(set(seen)), dtype=torch.long, device=logits.device)
    chosen = logits[ids]
    logits[ids] = torch.where(chosen > 0, chosen / penalty, chosen * penalty)


def draw(logits: Any, sampling: Sampling, source: Any) -> Any:
    """A token, as a tensor without dimensions; logits (n_vocabulary,), temperature above 0."""
    import torch

    probabilities = (logits / sampling.temperature).softmax(-1)
    if sampling.min_p > 0:
        probabilities = torch.where(probabilities < sampling.min_p * probabilities.max(), 0.0, probabilities)
    if not sampling.top_k and sampling.top_p == 1:
        return torch.multinomial(probabilities, 1, generator=source)[0]
    count = min(sampling.top_k, len(probabilities)) or len(probabilities)
    ordered, tokens = probabilities.topk(count) if count < len(probabilities) else probabilities.sort(descending=True)
    ordered = ordered / ordered.sum()
    ordered = torch.where(ordered.cumsum(-1) - ordered >= sampling.top_p, 0.0, ordered)
    return tokens[torch.multinomial(ordered, 1, generator=source)[0]]
