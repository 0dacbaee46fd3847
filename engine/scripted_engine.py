"""An engine that answers from a script, for tests: no model, no tokenizer, no wait.

Knows no grammar: it says what it was told to say, so that tests can also say the wrong thing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from homefire.engine.lm import LM
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion, Request
from homefire.errors import ContextTooLong, EngineError

Script = Sequence[str | Exception] | Callable[[Request], str]


class ScriptedEngine:
    """Answers the requests in order with the texts of a list, or each with what a function says.

    A token is a character. A text longer than `max_tokens` is cut off there, as an engine would.

    Args:
        script: Texts, or exceptions to raise, one for each completion; or a function of the request.
        context: Most characters of prompt and completion together.
    """

    def __init__(self, script: Script, *, context: int = 100_000, max_batch: int = 8) -> None:
        self._script = script
        self._context = context
        self._max_batch = max_batch
        self._position = 0
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        """What was asked, in order."""

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(backend="scripted", model="scripted", context=self._context, max_batch=self._max_batch, adapter_mode="hot")

    @property
    def closed(self) -> bool:
        return False

    def submit(self, request: Request) -> Future[list[Completion]]:
        free = self._context - self.count_tokens(request) - request.reserve
        if free < 1:
            raise ContextTooLong(self.count_tokens(request), self._context, "scripted")
        future: Future[list[Completion]] = Future()
        with self._lock:
            self.requests.append(request)
            try:
                future.set_result([self._next(request, min(free, request.sampling.max_tokens)) for _ in range(request.sampling.n)])
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
        """Nothing to free."""

    def _next(self, request: Request, max_tokens: int) -> Completion:
        if callable(self._script):
            text: str | Exception = self._script(request)
        elif self._position < len(self._script):
            text = self._script[self._position]
        else:
            raise EngineError(f"The script has {len(self._script)} answers, and request {self._position + 1} came.")
        self._position += 1
        if isinstance(text, Exception):
            raise text
        whole = len(text) <= max_tokens
        said = text[:max_tokens]
        ids = tuple(map(ord, said))
        return Completion(text=said, token_ids=ids, finish_reason="stop" if whole else "length", prompt_tokens=self.count_tokens(request))


class ScriptedLM(LM):
    """An LM over a `ScriptedEngine`.

    >>> ScriptedLM(["Hello."])("Hi")
    ['Hello.']
    """

    def __init__(self, script: Script, *, context: int = 100_000, max_batch: int = 8) -> None:
        self.scripted = ScriptedEngine(script, context=context, max_batch=max_batch)
        super().__init__(engine=self.scripted)
