"""An engine that answers from a script, for tests: no model, no tokenizer, no wait.

Knows no grammar: it says what it was told to say, so that tests can also say the wrong thing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion, Delta, Listener, Request
from homefire.errors import ContextTooLong, EngineError

Line = str | Completion | Exception
"""What a script says once: a text, a completion that also has thoughts or log-probabilities, or a failure."""
Script = Sequence[Line] | Callable[[Request], Line]
Scores = Callable[[Request, str], float]

_PIECES = 4
"""Pieces that a listener hears a text in, if it is long enough."""


class ScriptedEngine:
    """Answers the requests in order with the texts of a list, or each with what a function says.

    A token is a character. A text longer than `max_tokens` is cut off there, as an engine would.

    Args:
        script: Texts, completions or exceptions to raise, one for each completion; or a function of the request.
        scores: The log-probability of a text as a request's completion, for `score`.
        context: Most characters of prompt and completion together.
    """

    def __init__(self, script: Script, *, scores: Scores | None = None, context: int = 100_000, max_batch: int = 8) -> None:
        self._script = script
        self._scores = scores
        self._context = context
        self._max_batch = max_batch
        self._position = 0
        self._closed = False
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        """What was asked, in order."""

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            backend="scripted",
            model="scripted",
            context=self._context,
            max_batch=self._max_batch,
            adapter_mode="hot",
            scores=self._scores is not None,
        )

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        free = self._free(request)
        future: Future[list[Completion]] = Future()
        with self._lock:
            self.requests.append(request)
            try:
                said = [self._next(request, min(free, request.sampling.max_tokens)) for _ in range(request.sampling.n)]
            except Exception as error:
                future.set_exception(error)
                return future
        if listener is not None:
            for index, completion in enumerate(said):
                _tell(listener, index, completion)
        future.set_result(said)
        return future

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        self._free(request)
        if self._scores is None:
            raise EngineError("This scripted engine scores nothing. Give it a function: ScriptedEngine(script, scores=...).")
        future: Future[list[float]] = Future()
        with self._lock:
            self.requests.append(request)
        try:
            future.set_result([self._scores(request, text) for text in texts])
        except Exception as error:
            future.set_exception(error)
        return future

    def count_tokens(self, request: Request) -> int:
        return sum(len(message.content) for message in request.messages) + len(request.generated) + len(request.prefill)

    def sleep(self) -> None:
        """Nothing to give back."""

    def wake(self) -> None:
        """Nothing to fetch."""

    def close(self) -> None:
        self._closed = True

    def _free(self, request: Request) -> int:
        """Characters that are left for the completion."""
        if self._closed:
            raise EngineError("The scripted engine is closed. Make a new one.")
        asked = self.count_tokens(request)
        free = self._context - asked - request.reserve
        if free < 1:
            raise ContextTooLong(asked, self._context, "scripted")
        return free

    def _next(self, request: Request, max_tokens: int) -> Completion:
        if callable(self._script):
            line = self._script(request)
        elif self._position < len(self._script):
            line = self._script[self._position]
        else:
            raise EngineError(f"The script has {len(self._script)} answers, and request {self._position + 1} came.")
        self._position += 1
        if isinstance(line, Exception):
            raise line
        if isinstance(line, Completion):
            return replace(line, completion_tokens=line.completion_tokens or len(line.token_ids))
        said = line[:max_tokens]
        stops = [said.index(word) for word in request.sampling.stop if word in said]
        ended = bool(stops) or len(line) <= max_tokens
        said = said[: min(stops, default=len(said))]
        return Completion(
            text=said,
            token_ids=tuple(map(ord, said)),
            finish_reason="stop" if ended else "length",
            prompt_tokens=self.count_tokens(request),
            logprobs=tuple(0.0 for _ in said) if request.sampling.logprobs else None,
            completion_tokens=len(said),
        )


def _tell(listener: Listener, index: int, completion: Completion) -> None:
    """Tells a completion in a few pieces; what the listener raises is dropped, as every engine does."""
    for text, thinking in ((completion.thinking, True), (completion.text, False)):
        size = max(1, -(-len(text) // _PIECES))
        for start in range(0, len(text), size):
            try:
                listener(Delta(index, text[start : start + size], thinking))
            except Exception:
                return


class ScriptedLM(LM):
    """An LM over a `ScriptedEngine`.

    >>> ScriptedLM(["Hello."])("Hi")
    ['Hello.']
    """

    def __init__(self, script: Script, *, scores: Scores | None = None, context: int = 100_000, max_batch: int = 8) -> None:
        self.scripted = ScriptedEngine(script, scores=scores, context=context, max_batch=max_batch)
        super().__init__(engine=self.scripted)
