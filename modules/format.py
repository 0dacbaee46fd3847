"""The protocol of a Format: how a signature becomes messages, and a completion becomes values.

Knows no engine. Other systems call this an adapter; here that word means LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from homefire.engine.grammar import Grammar
from homefire.engine.request import Message
from homefire.modules.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What an answer that was cut off still needs."""

    prefill: str
    """The whole part of the answer, ending where the next value begins or, when nothing is missing, at its end."""
    grammar: Grammar | None
    """Language of the rest, all of it short; None when `prefill` is the complete answer."""
    max_tokens: int
    """Enough tokens for the longest text of that language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The texts that stand for the values of an output that has a fixed set of them."""

    prefill: str
    """The answer up to where the value begins."""
    values: tuple[Any, ...]
    texts: tuple[str, ...]
    """Text of each value with what ends it, so that none is the beginning of another."""


class Format(Protocol):
    """A prompt dialect. For every signature and values x of its types, `parse(answer(x)) == x`."""

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        """The messages that ask for the outputs: instructions, demos as turns of the chat, inputs."""
        ...

    def grammar(self, signature: type[Signature]) -> Grammar | None:
        """The language of all answers; the same signature gives an equal grammar. None where what the model writes is free."""
        ...

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        """The text a model should have written for these outputs; it belongs to the grammar."""
        ...

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        """The typed outputs.

        Raises:
            ConstraintError: the text is an answer, but values break constraints that the grammar does not enforce.
            ParseError: the text is not an answer.
        """
        ...

    def close(self, signature: type[Signature], text: str) -> Closing:
        """What is whole of an answer that was cut off, and the grammar of what is missing."""
        ...

    def reserve(self, signature: type[Signature]) -> int:
        """Most tokens that closing an answer can take, kept free in the context."""
        ...

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        """The text so far of every output that has begun, in order, as a user would read it; for any beginning of an answer."""
        ...

    def choices(self, signature: type[Signature], name: str, outputs: Mapping[str, Any]) -> Choices | None:
        """How each value of a Literal, Enum or bool output would be written behind the outputs before it; None for other types."""
        ...

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        """What the user's turn says to a model whose answer broke constraints."""
        ...
