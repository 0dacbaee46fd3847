"""What went wrong with a call of a server, in words that say what to do.

Knows the exceptions of the `openai` client and no request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from homefire.engine.dialects import Dialect
from homefire.engine.http_answer import excerpt
from homefire.errors import (
    CallTimeout,
    HomefireError,
    KeyRefused,
    PaymentRefused,
    RequestRefused,
    ServerBroken,
    ServerError,
    ServerUnreachable,
    TooManyRequests,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model behind an address, and how to call it."""

    model: str
    """Its name for the server."""
    url: str
    """Base of the addresses, usually ending in `/v1`."""
    api_key: str
    """Empty where none is needed."""
    key_names: tuple[str, ...]
    """Environment variables that may hold the key."""
    dialect: Dialect
    num_retries: int = 3
    timeout: float | None = None
    headers: tuple[tuple[str, str], ...] = ()
    extra_body: str = "{}"
    """More fields of every request body, as JSON."""
    max_batch: int = 32

    def __repr__(self) -> str:
        return f"Endpoint({self.where!r}, dialect={self.dialect.name!r})"

    @property
    def shown_url(self) -> str:
        """The address without what may be secret in it."""
        return re.sub(r"[?#].*$", "", re.sub(r"//[^/@]*@", "//", self.url)).rstrip("/")

    @property
    def where(self) -> str:
        """The model and its server, for messages."""
        return f"{self.model} at {self.shown_url}"

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return re.match(r"https?://([^/@]*@)?(localhost|127\.\d+\.\d+\.\d+|\[::1\])([:/]|$)", self.url) is not None

    def without_secrets(self, text: str) -> str:
        """A text with the key and the values of the headers blotted out."""
        for secret in (self.api_key, *(value for _, value in self.headers)):
            text = text.replace(secret, "***") if len(secret) > 3 else text
        return text


class Refused(Exception):
    """A server refused a request body; what it said tells whether another body would do."""

    def __init__(self, status: int, said: str, param: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said
        self.param = param

    def error(self, endpoint: Endpoint) -> RequestRefused:
        """The error for the user, when no other body would do."""
        told = "" if self.status != 404 else f" Check that the server has a model {endpoint.model!r} and that the address is right."
        return RequestRefused(f"{endpoint.where} refused the request ({self.status}): {excerpt(self.said, 500)}.{told}")


def explained(error: Exception, endpoint: Endpoint) -> Exception:
    """The error for the user; `Refused` where another body may do.

    Args:
        error: What the `openai` client raised, after its retries.
        endpoint: What was called.
    """
    from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

    tries = f"tried {endpoint.num_retries + 1} times" if endpoint.num_retries else "tried once"
    if isinstance(error, HomefireError | Refused):
        return error
    if isinstance(error, APITimeoutError):
        return CallTimeout(f"{endpoint.where} did not answer in time ({tries}). Give LM(timeout=...) more seconds, or see its log.")
    if isinstance(error, APIStatusError):
        return _status(error.status_code, _said(error.body, error.message), error.param or "", endpoint, tries, error.code)
    if isinstance(error, APIConnectionError):
        return _unreachable(error, endpoint, tries)
    if isinstance(error, APIError):
        return ServerError(f"{endpoint.where} failed in the middle of an answer: {_clean(error.message, endpoint)}. Try again.")
    if isinstance(error, ValueError | KeyError | EOFError):  # a body that says it is JSON and is not
        return ServerError(f"{endpoint.where} answered with something that cannot be read: {_clean(str(error), endpoint)}. Try again.")
    return ServerError(f"{endpoint.where} could not be called, or broke off: {type(error).__name__}: {_clean(str(error), endpoint)}.")


def never_connected(error: Exception) -> bool:
    """Whether a call reached no server at all, so that asking again later makes sense."""
    from openai import APIConnectionError, APITimeoutError

    return isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError)


def context_counts(said: str) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the context that a refusal names, in the words of the servers known."""
    text = said.replace(",", "")
    context = _first(
        text,
        r"maximum context length (?:is|of) (\d+)",
        r"context (?:size|length|window) \((\d+)",
        r"> (\d+) maximum",
        r"max_model_len=(\d+)",
        r"context (?:length|window) of (\d+)",
    )
    prompt = _first(
        text,
        r"(\d+) input tokens",
        r"\((\d+) in the messages",
        r"(\d+) tokens from the input",
        r"resulted in (\d+) tokens",
        r"(?:request|input|prompt) \((\d+) tokens\)",
        r"too long: (\d+) tokens",
    )
    return prompt, context


def _first(text: str, *patterns: str) -> int | None:
    return next((int(match[1]) for pattern in patterns if (match := re.search(pattern, text))), None)


def _status(status: int, said: str, param: str, endpoint: Endpoint, tries: str, code: str | None) -> Exception:
    said = _clean(said, endpoint)
    if status in (401, 403):
        names = " or ".join(endpoint.key_names) or "api_key"
        state = "the key was not accepted" if endpoint.api_key else "it wants a key and got none"
        return KeyRefused(f"{endpoint.where}: {state} ({status}: {said}). Set {names} in the environment, or give LM(api_key=...).")
    if status == 402 or code == "insufficient_quota":
        return PaymentRefused(f"{endpoint.where} wants to be paid ({status}): {said}. See the account that the key belongs to.")
    if status == 429:
        return TooManyRequests(f"{endpoint.where} has too much to do ({status}, {tries}): {said}. Wait, or have fewer calls in flight.")
    if status == 408 or status >= 500:
        what = "gave up waiting" if status == 408 else "failed"
        return ServerBroken(f"{endpoint.where} {what} ({status}, {tries}): {said}. See the server's log.")
    return Refused(status, said, param)


def _unreachable(error: Exception, endpoint: Endpoint, tries: str) -> ServerUnreachable:
    cause = error.__cause__
    why = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
    local, far = "Is the server running? `homefire serve` starts one for a local model.", "Is the network up, and is the address right?"
    said = f"{_clean(why, endpoint)}. {local if endpoint.is_local else far}"
    return ServerUnreachable(f"{endpoint.where} could not be reached, or hung up without an answer ({tries}): {said}")


def _said(body: object, message: str) -> str:
    """The server's own words in the body of a refusal, in the shapes that servers give it."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("message", "error", "detail") if body.get(key)), None)
    if isinstance(body, str) and body.strip():
        return re.sub(r"<[^>]*>", " ", body) if body.lstrip().startswith("<") else body
    return repr(body) if body else message


def _clean(said: str, endpoint: Endpoint) -> str:
    return endpoint.without_secrets(excerpt(said, 500)).rstrip(".")
