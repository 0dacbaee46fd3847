"""What a decoder may write under a grammar: random walks over single bytes, as of a model that knows nothing."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

xgrammar = pytest.importorskip("xgrammar")
END = 256


@cache
def _compiler() -> Any:
    vocabulary = [*(bytes([byte]) for byte in range(256)), b"</s>"]
    return xgrammar.GrammarCompiler(xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[END]), max_threads=1, cache_enabled=False)


@cache
def _compiled(gbnf: str) -> Any:
    return _compiler().compile_grammar(gbnf)


def accepts(gbnf: str, text: str) -> bool:
    """Whether the grammar has the whole text."""
    matcher = xgrammar.GrammarMatcher(_compiled(gbnf), terminate_without_stop_token=True)
    return bool(matcher.accept_string(text) and matcher.is_terminated())


def walk(gbnf: str, source: random.Random, most: int, begin: str = "") -> tuple[bytes, bool]:
    """Bytes drawn one by one among those that the grammar allows, and whether they reached its end.

    Args:
        gbnf: The grammar.
        source: Draws.
        most: Bytes after which the walk is cut off.
        begin: Text that is written first.
    """
    matcher = xgrammar.GrammarMatcher(_compiled(gbnf))
    assert matcher.accept_string(begin)
    mask = xgrammar.allocate_token_bitmask(1, END + 1)
    written = bytearray()
    while len(written) <= most:
        matcher.fill_next_token_bitmask(mask)
        words = [int(word) & 0xFFFFFFFF for word in mask[0]]
        allowed = [token for token in range(END + 1) if words[token // 32] >> token % 32 & 1]
        plain = [token for token in allowed if token == END or 32 <= token < 127]
        token = source.choice(plain if plain and source.random() < 0.8 else allowed)
        assert matcher.accept_token(token)
        if token == END:
            return bytes(written), True
        written.append(token)
    return bytes(written[:most]), False
