"""What goes into an engine and what comes out: messages, sampling, requests, completions.

Knows no engine: every backend takes these values and returns these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homefire.engine.grammar import Grammar
from homefire.errors import InputError

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "aborted"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Raises:
        InputError: a value is out of its range.
    """

    temperature: float = 0.0
    """0 takes the likeliest token every time; 1 draws from the model's own distribution."""
    top_p: float = 1.0
    max_tokens: int = 512
    """Most tokens of one completion."""
    n: int = 1
    """Completions per request, drawn in one batch on one shared prefix."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    """Whether completions carry the log-probability of each of their tokens."""

    def __post_init__(self) -> None:
        for name, value in (("temperature", self.temperature), ("top_p", self.top_p), ("max_tokens", self.max_tokens), ("n", self.n)):
            whole = name in ("max_tokens", "n")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise InputError(f"{name} is {value!r}; it must be a {'whole number' if whole else 'number'}.")
        if self.temperature < 0:
            raise InputError(f"temperature is {self.temperature}; it must be 0 or more.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.max_tokens < 1:
            raise InputError(f"max_tokens is {self.max_tokens}; it must be at least 1.")
        if self.n < 1:
            raise InputError(f"n is {self.n}; it must be at least 1.")
        if self.n > 1 and self.temperature == 0:
            raise InputError(f"n={self.n} with temperature 0 would give the same completion {self.n} times; set a temperature above 0.")


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """One version of a LoRA adapter on disk, as the adapter store resolves it.

    Equal references mean equal weights: a version is never changed once it is written.
    """

    name: str
    version: int
    path: Path
    """Folder with `adapter_config.json` and `adapter_model.safetensors`."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt for one model."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    grammar: Grammar | None = None
    """Language that the completion must belong to; none leaves the text free."""
    adapter: AdapterRef | None = None
    generated: tuple[int, ...] = ()
    """Token ids of an answer so far, as an engine generated them; the completion goes on behind them, and does not repeat them."""
    prefill: str = ""
    """Text behind `generated` that the assistant's answer is made to have next; not repeated in the completion either."""
    reserve: int = 0
    """Tokens to keep free behind the completion, for a continuation that closes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer to a request."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    """`length`: the completion reached `max_tokens` or the end of the context and may be incomplete."""
    prompt_tokens: int
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the engine's cache."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each token in `token_ids`, when asked for."""
    seconds: float = 0.0
    """From submission to the last token."""
