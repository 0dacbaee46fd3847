"""BaseLM: a language model of a user's own, written in DSPy's way as `forward(prompt, messages, **kwargs)`.

Knows no signature. What `forward` returns has the form of OpenAI's chat completions; plain texts do too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict
from typing import Any

from homefire.engine.callbacks import BaseCallback
from homefire.engine.http_body import chat_turns
from homefire.engine.lm import LM
from homefire.engine.lm_options import SAMPLING
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion, Delta, FinishReason, Listener, Request, Sampling
from homefire.errors import EngineError, HomefireError, InputError, ModelError

AT_ONCE = 8
"""Calls of `forward` in flight at once."""
_CONTEXT = 10**9
_PLAIN = asdict(Sampling())


class BaseLM(LM):
    """Base of language models of your own; write `forward`, or `aforward` where the call is asynchronous.

    >>> class Parrot(BaseLM):
    ...     def forward(self, prompt=None, messages=None, **kwargs):
    ...         return {"choices": [{"message": {"content": messages[-1]["content"]}}]}
    >>> Parrot("parrot")("Hello.")
    ['Hello.']

    `forward` gets the messages as dictionaries, and the sampling and other settings that the LM or the call has as `kwargs`. Its answers
    are not stored, and what it writes is not bound to a grammar: an answer that does not have its types is asked for once more.

    Args:
        model: Its name, for histories and traces.
        model_type: Only `chat`.
        temperature: As of every LM.
        max_tokens: As of every LM.
        cache: Not looked at, for answers are never stored.
        callbacks: Hear the calls of this LM, beside those of the settings.
        num_retries: Not looked at; `forward` knows itself what is worth a retry.
        kwargs: Sampling, and anything else that `forward` is to be given.
    """

    def __init__(
        self,
        model: str,
        model_type: str = "chat",
        temperature: float | None = None,
        max_tokens: int | None = None,
        cache: bool = True,
        callbacks: Sequence[BaseCallback] | None = None,
        num_retries: int = 3,
        **kwargs: Any,
    ) -> None:
        given = {"temperature": temperature, "max_tokens": max_tokens, **kwargs}
        sampling = {name: value for name, value in given.items() if name in SAMPLING and value is not None}
        self.kwargs = {name: value for name, value in kwargs.items() if name not in SAMPLING}
        engine = _OwnEngine(model, self._asked)
        super().__init__(model_type=model_type, engine=engine, cache=False, callbacks=callbacks, **sampling)

    def forward(self, prompt: str | None = None, messages: Sequence[Mapping[str, Any]] | None = None, **kwargs: Any) -> Any:
        """Answers a chat: what OpenAI's API returns, a text, or a list of texts."""
        return asyncio.run(self.aforward(prompt=prompt, messages=messages, **kwargs))

    async def aforward(self, prompt: str | None = None, messages: Sequence[Mapping[str, Any]] | None = None, **kwargs: Any) -> Any:
        """As `forward`, awaited."""
        name = type(self).__name__
        raise InputError(f"{name} does not say how it answers. Write `def forward(self, prompt=None, messages=None, **kwargs)` in it.")

    def _asked(self, request: Request) -> Any:
        sampling = {name: value for name, value in asdict(request.sampling).items() if value != _PLAIN[name] or name == "max_tokens"}
        return self.forward(prompt=None, messages=chat_turns(request.messages), **{**sampling, **self.kwargs})


class _OwnEngine:
    """An engine over a function of requests, whose calls run on threads."""

    def __init__(self, model: str, ask: Callable[[Request], Any]) -> None:
        self.info = EngineInfo(
            backend="own",
            model=model,
            context=_CONTEXT,
            max_batch=AT_ONCE,
            adapter_mode="none",
            structured="none",
            continues=False,
        )
        self._ask = ask
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="homefire-own-lm")
        self.closed = False

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        return self._pool.submit(copy_context().run, self._answered, request, listener)

    def _answered(self, request: Request, listener: Listener | None) -> list[Completion]:
        began = time.perf_counter()
        try:
            completions: list[Completion] = []
            while len(completions) < request.sampling.n:
                completions += _completions(self._ask(request), time.perf_counter() - began)
        except HomefireError:
            raise
        except Exception as error:
            raise ModelError(f"The model {self.info.model!r} failed: {type(error).__name__}: {error}.") from error
        completions = completions[: request.sampling.n]
        if listener is not None:
            for index, completion in enumerate(completions):
                listener(Delta(index, completion.text))
        return completions

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        raise EngineError(f"The model {self.info.model!r} is a class of your own, which gives no probabilities of texts.")

    def count_tokens(self, request: Request) -> int:
        return sum(len(message.content) for message in request.messages) // 4

    def sleep(self) -> None:
        """Nothing to give back."""

    def wake(self) -> None:
        """Nothing to fetch."""

    def close(self) -> None:
        self.closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)


def _completions(response: Any, seconds: float) -> list[Completion]:
    """The completions of a response in any of the forms that `forward` may return."""
    if isinstance(response, str):
        response = [response]
    if isinstance(response, list) and response and all(isinstance(text, str) for text in response):
        return [Completion(text=text, token_ids=(), finish_reason="stop", prompt_tokens=0, seconds=seconds) for text in response]
    choices = _part(response, "choices")
    if not isinstance(choices, Sequence) or not choices:
        raise EngineError(f"forward gave {response!r:.200}; expected a text, or {{'choices': [{{'message': {{'content': '...'}}}}]}}.")
    usage = _part(response, "usage")
    prompt, completion = (int(_part(usage, name) or 0) for name in ("prompt_tokens", "completion_tokens"))
    return [_completion(choice, prompt, completion if index == 0 else 0, seconds) for index, choice in enumerate(choices)]


def _completion(choice: Any, prompt_tokens: int, completion_tokens: int, seconds: float) -> Completion:
    message = _part(choice, "message")
    text = _part(message, "content") if message is not None else _part(choice, "text")
    reason: FinishReason = "length" if _part(choice, "finish_reason") == "length" else "stop"
    return Completion(
        text=text or "",
        token_ids=(),
        finish_reason=reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        seconds=seconds,
        thinking=_part(message, "reasoning_content") or "",
    )


def _part(value: Any, name: str) -> Any:
    """A part of what another library made: an attribute, or an item of a dictionary."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
