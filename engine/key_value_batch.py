"""Sequences that a transformers model computes together, over one cache of keys and values; rows join and leave between two tokens.

Knows no requests and no sampling: token ids in, logits out.

Rows are padded on the left, so that the next token of all of them stands in one column; a mask hides the padding and positions count as if
each row stood alone.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any


class KeyValueBatch:
    """Rows in the middle of being generated.

    Args:
        model: A causal language model of transformers.
        device: Where it computes.
    """

    def __init__(self, model: Any, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._model = model
        self._device = device
        takes = inspect.signature(model.forward).parameters
        self._positions = "position_ids" in takes
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
        self._cache: Any = None
        self._mask: Any = None
        """(n_rows, n_tokens), 1 for what is no padding."""

    def __len__(self) -> int:
        return 0 if self._mask is None else int(self._mask.shape[0])

    @property
    def can_grow(self) -> bool:
        """Whether rows can join those there are: any model can start a batch, but only plain caches can be put together."""
        from transformers.cache_utils import DynamicLayer

        return self._cache is None or all(type(layer) is DynamicLayer for layer in self._cache.layers)

    def join(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> Any:
        """Computes prompts and adds `copies[i]` rows for each.

        Returns:
            Logits (sum(copies), n_vocabulary) of the tokens behind the prompts, in float32.
        """
        torch = self._torch
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts], device=self._device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=self._device)
        output = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), None, **self._last_only)
        logits, cache = output.logits[:, -1].float(), output.past_key_values
        if sum(copies) > len(prompts):
            rows = torch.tensor([row for row, count in enumerate(copies) for _ in range(count)], device=self._device)
            cache.reorder_cache(rows)
            logits, mask = logits[rows], mask[rows]
        self._merge(cache, mask)
        return logits

    def forward(self, tokens: Sequence[int]) -> Any:
        """Appends a token to each row.

        Returns:
            Logits (n_rows, n_vocabulary) of the tokens behind them, in float32.
        """
        torch = self._torch
        ids = torch.tensor(tokens, device=self._device)[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        output = self._forward(ids, self._mask, self._mask.sum(-1, keepdim=True) - 1, self._cache, **self._last_only)
        self._cache = output.past_key_values
        return output.logits[:, -1].float()

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all other rows, and padding that none of those that stay needs."""
        if not rows:
            self._cache = self._mask = None
            return
        if len(rows) == len(self):
            return
        chosen = self._torch.tensor(rows, device=self._device)
        self._cache.reorder_cache(chosen)
        self._mask = self._mask[chosen]
        spare = int(self._mask.argmax(-1).min())
        if spare and self.can_grow:
            self._mask = self._mask[:, spare:]
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[:, :, spare:], layer.values[:, :, spare:]

    def score(self, prompt: Sequence[int], tails: Sequence[Sequence[int]], limit: int) -> list[float]:
        """The log-probability of each tail behind the prompt, which is computed once; `limit` tails are computed together."""
        torch = self._torch
        ids = torch.tensor([list(prompt)], device=self._device)
        output = self._forward(ids, torch.ones_like(ids), torch.arange(len(prompt), device=self._device)[None], None, **self._last_only)
        first = output.logits[0, -1].float().log_softmax(-1)

        def some(group: Sequence[Sequence[int]]) -> list[float]:
            return self._score_together(output.past_key_values, len(prompt), first, group)

        return [value for at in range(0, len(tails), limit) for value in halving(some, tails[at : at + limit])]

    def _score_together(self, cache: Any, before: int, first: Any, tails: Sequence[Sequence[int]]) -> list[float]:
        """Every tail is a row, padded on the right, over copies of the prompt's keys and values."""
        torch = self._torch
        scores = [float(first[tail[0]]) if tail else 0.0 for tail in tails]
        longest = max(map(len, tails)) - 1
        if longest < 1:
            return scores
        ids = torch.tensor([[*tail[:-1], *[0] * (longest + 1 - max(len(tail), 1))] for tail in tails], device=self._device)
        wanted = torch.tensor([[*tail[1:], *[0] * (longest + 1 - max(len(tail), 1))] for tail in tails], device=self._device)
        real = torch.tensor([[1] * max(len(tail) - 1, 0) + [0] * (longest + 1 - max(len(tail), 1)) for tail in tails], device=self._device)
        cache = copy.deepcopy(cache)
        cache.reorder_cache(torch.zeros(len(tails), dtype=torch.long, device=self._device))
        mask = torch.cat([real.new_ones(len(tails), before), real], dim=-1)
        positions = torch.arange(before, before + longest, device=self._device).expand(len(tails), -1)
        logits = self._forward(ids, mask, positions, cache).logits.float()
        chosen = logits.gather(-1, wanted[:, :, None])[:, :, 0] - logits.logsumexp(-1)
        rest = torch.where(real.bool(), chosen, 0.0).sum(-1).tolist()
        return [score + more for score, more in zip(scores, rest, strict=True)]

    def _forward(self, ids: Any, mask: Any, positions: Any, cache: Any, **more: Any) -> Any:
        if self._positions:
            more["position_ids"] = positions
        with self._torch.no_grad():
            return self._model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **more)

    def _merge(self, cache: Any, mask: Any) -> None:
        """Puts new rows below those there are, the shorter ones padded."""
        if self._cache is None:
            self._cache, self._mask = cache, mask
            return
        torch = self._torch
        longest = max(self._mask.shape[1], mask.shape[1])
        old, new = longest - self._mask.shape[1], longest - mask.shape[1]

        def together(above: Any, below: Any, *blank: int) -> Any:
            return torch.cat([torch.nn.functional.pad(above, (*blank, old, 0)), torch.nn.functional.pad(below, (*blank, new, 0))])

        for layer, other in zip(self._cache.layers, cache.layers, strict=True):
            layer.keys = together(layer.keys, other.keys, 0, 0)
            layer.values = together(layer.values, other.values, 0, 0)
        self._mask = together(self._mask, mask)


def halving(compute: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]) -> list[Any]:
    """Computes items together, or in halves as long as the memory does not suffice."""
    try:
        return compute(items)
    except Exception as error:
        if len(items) == 1 or not is_out_of_memory(error):
            raise
    free_memory()
    middle = len(items) // 2
    return [*halving(compute, items[:middle]), *halving(compute, items[middle:])]


def is_out_of_memory(error: Exception) -> bool:
    """Whether a computation failed for want of memory, on a GPU or without one."""
    import torch

    words = str(error).lower()
    wanting = "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and wanting)


def free_memory() -> None:
    """Gives back what PyTorch keeps for later on a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
