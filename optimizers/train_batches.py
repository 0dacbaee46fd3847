"""Rows made into tokens and tokens into batches: the exact tokens that serving sees, and a beginning that rows share computed once.

Knows no model and no trainer: it is handed the engine's prompt encoder and returns tensors.

Rows of one program begin with the same instructions. A batch therefore holds sequences of the form: the shared beginning, the rest of each
prompt, and the end of each row; a mask lets every row see the beginning and itself, and positions count as if it stood alone. Loss and
gradients are those of separate rows. The ends come last and in line, so that only they need be projected onto the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from homefire.engine.prompt import PromptEncoder
from homefire.optimizers.train_spec import TrainRow

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""Label of a token that is not learnt, as the loss functions of PyTorch have it."""
_PADDING = -1
_SHARED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A row in tokens."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    """Ends with the token that ends the assistant's turn."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def encode(encoder: PromptEncoder, rows: Sequence[TrainRow], end: int) -> list[TokenRow]:
    """The tokens of each row: the prompt as the engine renders it for an answer without thoughts, then the completion and `end`."""
    made = []
    for row in rows:
        prompt = tuple(encoder.encode(row.prompt, thinking=False))
        made.append(TokenRow(prompt=prompt, completion=(*encoder.encode_text(row.completion), end)))
    return made


def end_of_turn(encoder: PromptEncoder, checkpoint: Path) -> int:
    """The token that ends an assistant's turn: the one the chat template writes after an answer, if engines stop at it.

    Engines stop at the tokenizer's end token and at those of `generation_config.json`; where the template writes none of them, it is the
    tokenizer's.
    """
    tokenizer, answer = encoder.tokenizer, "An answer."
    stops = set(encoder.eos_ids)
    generation = checkpoint / "generation_config.json"
    if generation.is_file():
        declared = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")
        stops.update(declared if isinstance(declared, list) else [declared])
    turns = [{"role": "user", "content": "A question."}, {"role": "assistant", "content": answer}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    after = encoder.encode_text(text[text.rindex(answer) + len(answer) :])
    return next((token for token in after if token in stops), int(tokenizer.eos_token_id))


def batch(rows: Sequence[TokenRow], *, budget: int, share: bool) -> dict[str, torch.Tensor]:
    """Lays rows out as one batch for a causal language model.

    Args:
        rows: At least one row.
        budget: Tokens of one sequence; a longer row has a sequence of its own.
        share: Whether several rows share a sequence; if not, every row has one to itself.

    Returns:
        `input_ids` and `position_ids` (n_sequences, n_tokens), padded on the left; `attention_mask` (n_sequences, n_tokens) of 0 and 1,
        or (n_sequences, 1, n_tokens, n_tokens) of booleans where rows share; `labels` (n_sequences, 1 + n_last), a first column of
        `IGNORED`, since the libraries never count the first, then the token that follows each of the last n_last positions, or `IGNORED`.
    """
    import torch

    lines = [_line(group) for group in (_groups(rows, budget) if share else [[row] for row in rows])]
    width, last = max(len(line.tokens) for line in lines), max(len(line.labels) for line in lines)
    tokens = torch.tensor([[0] * (width - len(line.tokens)) + line.tokens for line in lines])
    positions = torch.tensor([[0] * (width - len(line.tokens)) + line.positions for line in lines])
    owners = torch.tensor([[_PADDING] * (width - len(line.tokens)) + line.owners for line in lines])
    labels = torch.tensor([[IGNORED] * (1 + last - len(line.labels)) + line.labels for line in lines])
    if not share:
        return {"input_ids": tokens, "position_ids": positions, "attention_mask": (owners != _PADDING).long(), "labels": labels}
    query, key = owners[:, :, None], owners[:, None, :]
    sees = ((query == key) | (key == _SHARED)) & (positions[:, :, None] >= positions[:, None, :])
    return {"input_ids": tokens, "position_ids": positions, "attention_mask": sees[:, None], "labels": labels}


@dataclass(frozen=True, slots=True)
class _Line:
    """One sequence of a batch before padding."""

    tokens: list[int]
    positions: list[int]
    owners: list[int]
    """Number of the row that each token belongs to, from 1; `_SHARED` for the shared beginning."""
    labels: list[int]


def _line(rows: Sequence[TokenRow]) -> _Line:
    """The shared beginning, the rest of each prompt but its last token, then that token and the completion but its last."""
    shared = _common(rows)
    line = _Line(list(rows[0].prompt[:shared]), list(range(shared)), [_SHARED] * shared, [])
    for owner, row in enumerate(rows, start=1):
        _extend(line, row.prompt[shared:-1], shared, owner)
    for owner, row in enumerate(rows, start=1):
        _extend(line, (row.prompt[-1], *row.completion[:-1]), len(row.prompt) - 1, owner)
        line.labels.extend(row.completion)
    return line


def _extend(line: _Line, tokens: Sequence[int], start: int, owner: int) -> None:
    line.tokens.extend(tokens)
    line.positions.extend(range(start, start + len(tokens)))
    line.owners.extend([owner] * len(tokens))


def _common(rows: Sequence[TokenRow]) -> int:
    """Tokens that all prompts begin with, short of the last token of the shortest."""
    first, most = rows[0].prompt, min(len(row.prompt) for row in rows) - 1
    for index in range(most):
        if any(row.prompt[index] != first[index] for row in rows):
            return index
    return most


def _groups(rows: Sequence[TokenRow], budget: int) -> list[list[TokenRow]]:
    """Rows in an order that puts equal beginnings side by side, cut into groups of even size whose sequence keeps to the budget."""
    ordered = sorted(rows, key=lambda row: row.prompt)
    for count in range(1, len(ordered)):
        groups = [ordered[index * len(ordered) // count : (index + 1) * len(ordered) // count] for index in range(count)]
        if all(_length(group) <= budget for group in groups):
            return groups
    return [[row] for row in ordered]


def _length(rows: Sequence[TokenRow]) -> int:
    shared = _common(rows)
    return shared + sum(len(row) - 1 - shared for row in rows)
