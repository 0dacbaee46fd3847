"""Where the tokens of a text are: what a chunker counts.

Knows no model: an encoder says where its own tokens are, and without one they are guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable

Spans: TypeAlias = list[tuple[int, int]]
"""First character of each token and the one after its last, in order."""

SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
"""Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese; for use in brackets."""

ANY_NUMBER = 1 << 30
"""Most tokens where there is no limit."""

_PIECE = re.compile(rf"[{SPACELESS}]|[^\W{SPACELESS}]{{1,6}}|[^\w\s]")
_WORD = re.compile(rf"[{SPACELESS}]|[^\s{SPACELESS}]{{1,40}}")


@runtime_checkable
class TokenSpans(Protocol):
    """What says how texts are cut into tokens: an encoder, or one of those below. Methods may be called from any thread."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of a passage that the encoder reads, without those that it adds itself."""
        ...

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        """For each text where its tokens are, all of them, without those that the encoder adds itself."""
        ...


class GuessedTokens:
    """About as many tokens as encoders make of a text, rather too many than too few: long words are several."""

    max_tokens = ANY_NUMBER

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        return [[piece.span() for piece in _PIECE.finditer(text)] for text in texts]


class Words:
    """Words; scripts without spaces count one a character, and an endless run without spaces is cut every 40 characters."""

    max_tokens = ANY_NUMBER

    def token_spans(self, texts: Sequence[str]) -> list[Spans]:
        return [[word.span() for word in _WORD.finditer(text)] for text in texts]
