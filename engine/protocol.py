"""The protocol of an engine: requests in, futures of completions out.

Knows no backend; `threaded_engine` over a backend and `scripted_engine` fulfil it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from homefire.engine.request import Completion, Listener, Request

AdapterMode = Literal["hot", "merged", "none"]
Structured = Literal["grammar", "json_schema", "json", "none"]
"""What an engine enforces while it decodes: any grammar, a JSON Schema, only that the text is JSON, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What a running engine is and can do."""

    backend: str
    """`vllm`, `transformers`, `http` or `scripted`."""
    model: str
    """Name the user gave the model."""
    context: int
    """Most tokens of prompt and completion together."""
    max_batch: int
    """Requests that are worth having in flight at once."""
    adapter_mode: AdapterMode
    """`hot`: adapters are chosen per request; `merged`: the engine swaps merged weights between requests; `none`: refused."""
    identity: str = ""
    """All that changes answers beside the request: weights, number type, endpoint. Equal identities give equal answers, so it is a part of
    the response cache's key; empty: answers of this engine are never cached."""
    structured: Structured = "grammar"
    continues: bool = True
    """Whether a request may carry the beginning of its answer: `generated`, `prefill`."""
    scores: bool = False
    """Whether `score` works."""
    settings: dict[str, str] = field(default_factory=dict)
    """Chosen settings, in words, for `doctor` and reports."""


class Engine(Protocol):
    """Runs one model for all threads and tasks of the process.

    `submit` may be called from any thread. A request that cannot be served raises at once where that is known before any computing
    (`ContextTooLong`, `AdapterError`), and otherwise through its future.
    """

    @property
    def info(self) -> EngineInfo: ...

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests: closed, or broken."""
        ...

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        """Queues the request; the future holds `request.sampling.n` completions. Cancelling it frees what the request held.

        With a listener the pieces are told as they are generated, the last one before the future is done.
        """
        ...

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        """How likely each text is as the request's completion: teacher-forced, in one batch on the shared prompt.

        Grammar and sampling of the request play no part. A text that is the beginning of another is told apart only when both end with
        what follows them, so the caller appends that.

        Returns:
            A natural log-probability for each text, up to a constant that is the same for all of them.

        Raises:
            EngineError: `info.scores` is false.
        """
        ...

    def count_tokens(self, request: Request) -> int:
        """Tokens of the rendered prompt, prefill included."""
        ...

    def sleep(self) -> None:
        """Gives the accelerator's memory back until `wake`, once what is running has ended; requests submitted meanwhile wait.

        Without an accelerator nothing happens, and requests go on.
        """
        ...

    def wake(self) -> None: ...

    def close(self) -> None:
        """Cancels what is running and frees everything; closing twice is allowed."""
        ...
