"""Streaming: tokens as they come, told to a listener as pieces of text that together are exactly the completion's text.

Knows no backend. Half a character, and what may become a stop word, is held back until more is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from homefire.engine.request import Delta, Listener
from homefire.engine.thinking import Thinking

Decode = Callable[[Sequence[int]], str]
_HALF = "\N{REPLACEMENT CHARACTER}"
_log = logging.getLogger(__name__)


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text as far as the first stop word."""
    return text[: min((place for word in stop if (place := text.find(word)) >= 0), default=len(text))]


class GrowingText:
    """The text of a list of tokens that grows; decoding costs the same for each token, however long the text is.

    Only a window of the last tokens is decoded again: those that the text of new ones may depend on.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = 0
        self._settled = 0
        self.text = ""
        """Whole characters so far."""

    def add(self, token_ids: Sequence[int]) -> None:
        self._ids += token_ids
        before = self._decode(self._ids[self._start : self._settled])
        now = self._decode(self._ids[self._start :])
        if len(now) > len(before) and not now.endswith(_HALF):
            self.text += now[len(before) :]
            self._start, self._settled = self._settled, len(self._ids)


class Pieces:
    """What one request's listener has heard of each of its completions.

    Args:
        listener: Who hears; when it raises, that is logged once and it hears nothing more.
        decode: Token ids to text.
        n: Completions of the request.
        stop: Words that end a completion and are not part of it.
        thinking: The block of thoughts that a completion may begin with.
    """

    def __init__(self, listener: Listener, decode: Decode, n: int, stop: Sequence[str], thinking: Thinking | None) -> None:
        self._listener: Listener | None = listener
        self._stop = stop
        self._held_back = max((len(word) for word in stop), default=1) - 1
        self._texts = [GrowingText(decode) for _ in range(n)]
        self._told = [""] * n
        self._blocks = None if thinking is None else [thinking.stream() for _ in range(n)]

    def add(self, index: int, token_ids: Sequence[int]) -> None:
        """Tells what new tokens make certain."""
        growing = self._texts[index]
        growing.add(token_ids)
        text = before_stop(growing.text, self._stop)
        if len(text) == len(growing.text) and self._held_back:
            text = text[: -self._held_back]
        self._tell(index, text)

    def finish(self, texts: Sequence[str]) -> None:
        """Tells the rest of every text; the texts are whole, thoughts included."""
        for index, text in enumerate(texts):
            self._tell(index, text)
            if self._blocks is not None:
                self._send(index, self._blocks[index].finish())

    def _tell(self, index: int, text: str) -> None:
        told = self._told[index]
        if len(text) > len(told) and text.startswith(told):
            self._told[index] = text
            piece = text[len(told) :]
            self._send(index, [(piece, False)] if self._blocks is None else self._blocks[index].feed(piece))

    def _send(self, index: int, pieces: Sequence[tuple[str, bool]]) -> None:
        for text, thought in pieces:
            if self._listener is None:
                return
            try:
                self._listener(Delta(index, text, thought))
            except Exception:
                self._listener = None
                _log.exception("A listener of streamed text raised an error; it hears nothing more of this request.")
