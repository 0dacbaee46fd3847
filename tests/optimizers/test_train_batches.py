"""Rows as tokens and as batches: what is trained is what serving sees, and sharing a beginning changes no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Message
from homefire.optimizers.train_batches import IGNORED, TokenRow, batch, encode, end_of_turn
from homefire.optimizers.train_spec import TrainRow

QUESTIONS = ["Name the area: sorting a list.", "Name the area: opening a socket and reading all of it.", "Name the area: dates.", "Name: x"]


def rows() -> list[TrainRow]:
    system = Message("system", "You say to which part of a library a text belongs. Answer in JSON.")
    return [
        TrainRow(prompt=(system, Message("user", question)), completion=f'{{"area": "{"ab" * (n + 1)}"}}')
        for n, question in enumerate(QUESTIONS)
    ]


def test_tokens_are_those_of_the_chat_template(smollm2: Path) -> None:
    encoder = PromptEncoder(smollm2)
    end = end_of_turn(encoder, smollm2)
    assert encoder.tokenizer.convert_ids_to_tokens(end) == "<|im_end|>"
    for row, tokens in zip(rows(), encode(encoder, rows(), end), strict=True):
        turns = [{"role": m.role, "content": m.content} for m in row.prompt] + [{"role": "assistant", "content": row.completion}]
        whole: str = encoder.tokenizer.apply_chat_template(turns, tokenize=False)
        assert encoder.tokenizer.decode([*tokens.prompt, *tokens.completion]) == whole.rstrip("\n")
        assert list(tokens.prompt) == encoder.encode(row.prompt)
        assert tokens.completion == (*encoder.encode_text(row.completion), end)


def test_layout_of_a_shared_sequence() -> None:
    first = TokenRow(prompt=(1, 2, 3, 4), completion=(5, 9))
    second = TokenRow(prompt=(1, 2, 7), completion=(8, 6, 9))
    made = batch([first, second], budget=100, share=True)
    assert made["input_ids"].tolist() == [[1, 2, 3, 4, 5, 7, 8, 6]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 4]]
    assert made["labels"].tolist() == [[IGNORED, 5, 9, 8, 6, 9]]
    sees = made["attention_mask"][0, 0].tolist()
    assert sees[4] == [True, True, True, True, True, False, False, False]
    assert sees[7] == [True, True, False, False, False, True, True, True]
    assert sees[1] == [True, True, False, False, False, False, False, False]


def test_rows_alone_are_padded_on_the_left() -> None:
    made = batch([TokenRow(prompt=(1, 2, 3), completion=(9,)), TokenRow(prompt=(4,), completion=(9,))], budget=100, share=False)
    assert made["input_ids"].tolist() == [[1, 2, 3], [0, 0, 4]]
    assert made["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert made["labels"].tolist() == [[IGNORED, 9], [IGNORED, 9]]


@pytest.mark.parametrize("budget", [1, 8, 12, 1000])
def test_every_completion_is_learnt_once_and_sequences_keep_to_the_budget(budget: int) -> None:
    given = [TokenRow(prompt=(1, 2, 3, 10 + n), completion=(20 + n, 30 + n)) for n in range(6)]
    made = batch(given, budget=budget, share=True)
    learnt = sorted(label for line in made["labels"].tolist() for label in line if label != IGNORED)
    assert learnt == sorted(token for row in given for token in row.completion)
    assert made["input_ids"].shape[1] <= max(budget, 5)


def test_sharing_changes_neither_loss_nor_gradient(smollm2: Path) -> None:
    import torch
    import transformers

    from homefire.optimizers.train_lora import _completion_loss

    encoder = PromptEncoder(smollm2)
    given = encode(encoder, rows()[:3], end_of_turn(encoder, smollm2))
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    model.requires_grad_(False)
    watched = model.model.layers[0].self_attn.v_proj.weight.requires_grad_(True)
    found = []
    for share, parts in ((False, [given]), (True, [given])):
        watched.grad = None
        loss = sum(_completion_loss(model, batch(part, budget=1000, share=share)) for part in parts)
        assert isinstance(loss, torch.Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((loss.detach(), watched.grad))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-3, atol=1e-3)
