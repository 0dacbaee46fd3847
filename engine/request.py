"""What goes into an engine and what comes out: messages, sampling, requests, completions.

Knows no engine: every backend takes these values and returns these values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from homefire.engine.grammar import Grammar
from homefire.errors import InputError

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "aborted"]
MediaKind = Literal["image", "audio", "file"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image, a sound or a file in a message."""

    kind: MediaKind
    url: str
    """The bytes as a data URL; of an image also an address, which the model's server fetches."""
    name: str = ""
    """Of the file."""
    source: str = field(default="", compare=False)
    """The input that it came with, for errors."""

    @property
    def media_type(self) -> str:
        """`image/png`; empty where only an address is known."""
        return self.url[len("data:") :].partition(";")[0] if self.url.startswith("data:") else ""

    @property
    def base64(self) -> str:
        """The bytes, in base64; empty where only an address is known."""
        return self.url.partition(",")[2] if self.url.startswith("data:") else ""

    @property
    def described(self) -> str:
        """`image/png, 3.1 kB`, or the address."""
        size = len(self.base64) * 3 / 4
        shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
        return f"{self.media_type}, {shown}" if self.media_type else self.url

    @property
    def origin(self) -> str:
        """What it came with, at the beginning of a sentence."""
        return f"The input {self.source!r}" if self.source else "A message"

    @property
    def words(self) -> str:
        """`an image`, `audio` or `a file`."""
        return {"image": "an image", "audio": "audio", "file": "a file"}[self.kind]

    def __str__(self) -> str:
        """What stands for it where only text is shown."""
        return f"[{self.kind}: {self.name + ', ' if self.name else ''}{self.described}]"

    def __repr__(self) -> str:
        return f"Media{self!s}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str
    """What is said; where `parts` holds media, with a short stand-in for each."""
    parts: tuple[str | Media, ...] = ()
    """Texts and media in order, for a turn that is not text alone; otherwise empty."""

    @property
    def media(self) -> tuple[Media, ...]:
        """What the turn has beside text."""
        return tuple(part for part in self.parts if isinstance(part, Media)) if self.parts else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Raises:
        InputError: a value is out of its range.
    """

    temperature: float = 0.0
    """0 takes the likeliest token every time; 1 draws from the model's own distribution."""
    top_p: float = 1.0
    top_k: int = 0
    """Draw among this many likeliest tokens only; 0 draws among all."""
    min_p: float = 0.0
    """Leave out tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that the prompt or the answer has already become less likely."""
    max_tokens: int = 512
    """Most tokens of one completion."""
    n: int = 1
    """Completions per request, drawn in one batch on one shared prefix."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    """Whether completions carry the log-probability of each of their tokens."""
    rollout_id: int | str | None = None
    """Tells apart calls that are otherwise equal, so that the response cache gives each an answer of its own. No engine reads it."""

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "n"):
            value = getattr(self, name)
            whole = name in ("top_k", "max_tokens", "n")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise InputError(f"{name} is {value!r}; it must be a {'whole number' if whole else 'number'}.")
        if self.temperature < 0:
            raise InputError(f"temperature is {self.temperature}; it must be 0 or more.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1.")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}; it must be 0, for no limit, or more.")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p is {self.min_p}; it must be between 0 and 1.")
        if self.repetition_penalty <= 0:
            raise InputError(f"repetition_penalty is {self.repetition_penalty}; it must be above 0, and 1 changes nothing.")
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
    thinking: bool | None = None
    """Whether a reasoning model may think before it answers; None leaves it to the model's chat template."""
    reserve: int = 0
    """Tokens to keep free behind the completion, for a continuation that closes it."""

    @property
    def media(self) -> tuple[Media, ...]:
        """What the messages have beside text."""
        return tuple([media for message in self.messages if message.parts for media in message.media])


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer to a request."""

    text: str
    """The answer, without what the model thought before it."""
    token_ids: tuple[int, ...]
    """Empty from servers that do not give token ids."""
    finish_reason: FinishReason
    """`length`: the completion reached `max_tokens` or the end of the context and may be incomplete."""
    prompt_tokens: int
    cached_tokens: int = 0
    """Prompt tokens whose keys and values were already in the engine's cache."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each token in `token_ids`, when asked for."""
    seconds: float = 0.0
    """From submission to the last token."""
    thinking: str = ""
    """What a reasoning model thought before its answer."""
    completion_tokens: int = 0
    """Tokens that were generated, thinking included; set also where `token_ids` is empty."""
    from_cache: bool = False
    """Whether the response cache gave it, so that nothing was computed."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text of a completion that is still being generated."""

    index: int
    """Which of the request's `n` completions."""
    text: str
    """What came; all pieces together are the completion's text."""
    thinking: bool = False
    """Whether it belongs to `Completion.thinking`."""


Listener = Callable[[Delta], None]
"""Hears the pieces of a request, in order. It is called on the engine's thread and must return at once; what it raises is dropped."""
