"""The protocol of an engine: requests in, futures of completions out.

Knows no backend; `threaded_engine` over a backend and `scripted_engine` fulfil it.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, Protocol

from homefire.engine.request import Completion, Request

AdapterMode = Literal["hot", "merged", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What a running engine is and can do."""

    backend: str
    """`vllm`, `transformers` or `scripted`."""
    model: str
    """Name the user gave the model."""
    context: int
    """Most tokens of prompt and completion together."""
    max_batch: int
    """Requests that are worth having in flight at once."""
    adapter_mode: AdapterMode
    """`hot`: adapters are chosen per request; `merged`: the engine swaps merged weights between requests; `none`: refused."""
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

    def submit(self, request: Request) -> Future[list[Completion]]:
        """Queues the request; the future holds `request.sampling.n` completions. Cancelling it frees what the request held."""
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
