"""Pieces of streamed text: with the tokenizer of the small model, whose tokens cut characters in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.engine.prompt import PromptEncoder
from homefire.engine.request import Delta
from homefire.engine.streaming import Pieces, before_stop


@pytest.fixture(scope="module")
def encoder(smollm2: Path) -> PromptEncoder:
    return PromptEncoder(smollm2)


def characters(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, token_ids))


def told(decode: Callable[[Sequence[int]], str], tokens: Sequence[Sequence[int]], stop: Sequence[str] = ()) -> tuple[list[str], str]:
    """The pieces that are told of tokens that come in these portions, and the whole text."""
    heard: list[Delta] = []
    pieces = Pieces(heard.append, decode, 1, stop, None)
    for portion in tokens:
        pieces.add(0, portion)
    whole = before_stop(decode([token for portion in tokens for token in portion]), stop)
    pieces.finish([whole])
    return [delta.text for delta in heard], whole


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40), width=st.integers(1, 4))
def test_pieces_are_the_text_and_no_character_is_halved(encoder: PromptEncoder, text: str, width: int) -> None:
    ids = encoder.encode_text(text)
    pieces, whole = told(encoder.decode, [ids[start : start + width] for start in range(0, len(ids), width)])
    assert "".join(pieces) == whole


@settings(max_examples=150, deadline=None)
@given(ids=st.lists(st.integers(0, 49151), max_size=30))
def test_pieces_of_any_tokens_are_the_text(encoder: PromptEncoder, ids: list[int]) -> None:
    pieces, whole = told(encoder.decode, [[token] for token in ids])
    assert "".join(pieces) == whole


def test_an_emoji_of_several_tokens_comes_whole(encoder: PromptEncoder) -> None:
    ids = encoder.encode_text("🦊")
    assert len(ids) > 1
    assert told(encoder.decode, [[token] for token in ids])[0] == ["🦊"]


def test_what_may_become_a_stop_word_is_held_back() -> None:
    pieces, whole = told(characters, [[ord(char)] for char in "one EN two END three"], ["END"])
    assert whole == "one EN two "
    assert "".join(pieces) == whole
    assert pieces[0] == "o"


def test_samples_are_told_apart() -> None:
    heard: list[Delta] = []
    pieces = Pieces(heard.append, characters, 2, (), None)
    pieces.add(1, [ord("b")])
    pieces.add(0, [ord("a")])
    pieces.finish(["ac", "bd"])
    assert [(delta.index, delta.text) for delta in heard] == [(1, "b"), (0, "a"), (0, "c"), (1, "d")]
