"""Usage: tokens, calls and seconds of each model over a block of code, in all its threads and tasks.

Knows no engine and no program; whoever makes a call reports it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace

from homefire.engine.request import Completion
from homefire.engine.threads import carry_into_threads


@dataclass(slots=True)
class ModelUsage:
    """What one model has done. Answers of the response cache count as hits and take no tokens."""

    calls: int = 0
    """Requests, those that the response cache answered included."""
    cache_hits: int = 0
    """Requests that the response cache answered."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens whose keys and values the engine had already."""
    seconds: float = 0.0
    """Summed over requests; those that run at the same time count fully each."""

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, answer: Sequence[Completion]) -> None:
        """Counts one request: the completions share its prompt."""
        self.calls += 1
        first = answer[0]
        if first.from_cache:
            self.cache_hits += 1
            return
        self.prompt_tokens += first.prompt_tokens
        self.cached_tokens += first.cached_tokens
        self.completion_tokens += sum(tokens_of(completion) for completion in answer)
        self.seconds += max(completion.seconds for completion in answer)


class UsageTracker:
    """Sums of a block, by model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, ModelUsage] = {}

    @property
    def models(self) -> dict[str, ModelUsage]:
        """The sums so far; a copy."""
        with self._lock:
            return {model: replace(usage) for model, usage in self._models.items()}

    @property
    def total(self) -> ModelUsage:
        """All models together."""
        parts = self.models.values()
        names = ModelUsage.__dataclass_fields__
        return ModelUsage(**{name: sum(asdict(part)[name] for part in parts) for name in names})

    def get_total_tokens(self) -> dict[str, dict[str, int | float]]:
        """The sums as a dictionary for each model."""
        return {model: {**asdict(usage), "total_tokens": usage.total_tokens} for model, usage in self.models.items()}

    def add(self, model: str, answer: Sequence[Completion]) -> None:
        """Counts one request."""
        with self._lock:
            self._models.setdefault(model, ModelUsage()).add(answer)


_trackers: ContextVar[tuple[UsageTracker, ...]] = ContextVar("homefire_usage", default=())


@contextmanager
def track_usage() -> Iterator[UsageTracker]:
    """Sums up what the calls of a block take, those of threads and tasks that it starts included.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> with track_usage() as usage:
    ...     answer = ScriptedLM(["Hello."])("Hi")
    >>> usage.total.calls, usage.total.total_tokens
    (1, 8)
    """
    carry_into_threads()
    tracker = UsageTracker()
    token = _trackers.set((*_trackers.get(), tracker))
    try:
        yield tracker
    finally:
        _trackers.reset(token)


def count_usage(model: str, answer: Sequence[Completion]) -> None:
    """Reports one answered request to all blocks around it."""
    for tracker in _trackers.get():
        tracker.add(model, answer)


def tokens_of(completion: Completion) -> int:
    """Tokens that were generated for a completion."""
    return completion.completion_tokens or len(completion.token_ids)
