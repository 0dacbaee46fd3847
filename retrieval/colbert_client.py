"""The client of a ColBERTv2 server: `GET {url}?query=...&k=...` gives `{"topk": [{"text", "pid", "rank", "score", "prob"}, ...]}`.

Knows no index and no language model. `homefire index serve` is such a server; nothing but the address that the user gave is asked.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from http.client import HTTPException
from typing import Any, Literal, overload
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import BaseHandler, HTTPRedirectHandler, ProxyHandler, Request, build_opener

from homefire.configs.address import is_loopback
from homefire.errors import CallTimeout, ConfigError, InputError, ServerError

_MOST_BYTES = 64 * 2**20
"""A longer answer is no list of passages."""
_SHOWN = 300
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 30.0


@dataclass(frozen=True, slots=True)
class ServedPassage(Mapping[str, Any]):
    """A passage that a server found. Its values are attributes and items: `found.text`, `found["text"]`."""

    text: str
    pid: int | str | None
    """Its number or id at the server."""
    rank: int
    """1 is the best."""
    score: float
    """Higher is better; NaN where the server says none."""
    prob: float
    """The server's share of belief among the passages it gave, 0 to 1; NaN where it says none."""

    @property
    def long_text(self) -> str:
        """Another name of `text`."""
        return self.text

    def __getitem__(self, name: str) -> Any:
        if name not in _NAMES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


_NAMES = (*(field.name for field in fields(ServedPassage)), "long_text")


class ColBERTv2:
    """Asks a ColBERTv2 server: `ColBERTv2(url="http://localhost:8893/api/search")("a query", k=3)`.

    Args:
        url: The address of its search.
        port: The server's port, where the address does not say it.
        post_requests: Whether to send the query as JSON in a POST instead of in the address.
        api_key: Sent as a bearer token, where the server wants one.
        timeout: Most seconds of one try.
        num_retries: Times that a call is tried again after the server was out of reach, too slow, or answered 408, 429 or 5xx.

    Raises:
        ConfigError: the address or a number cannot be used.
    """

    def __init__(
        self,
        url: str = "http://0.0.0.0",
        port: str | int | None = None,
        post_requests: bool = False,
        *,
        api_key: str | None = None,
        timeout: float = 10.0,
        num_retries: int = 3,
    ) -> None:
        self.url = _address(url, port)
        self.post_requests = post_requests
        if not timeout > 0 or num_retries < 0:
            raise ConfigError(f"timeout is {timeout!r} and num_retries {num_retries!r}; expected seconds above 0, and a number from 0 on.")
        self.timeout = timeout
        self.num_retries = num_retries
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise ConfigError("The API key has characters that no HTTP header carries; use letters, digits, '-' and '_'.")
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        handlers: list[BaseHandler] = [_SameHost()]
        if is_loopback(urlsplit(self.url).hostname or ""):
            handlers.append(ProxyHandler({}))  # no proxy stands between a machine and itself
        self._open = build_opener(*handlers).open

    @overload
    def __call__(self, query: str, k: int = 10, simplify: Literal[False] = False) -> list[ServedPassage]: ...
    @overload
    def __call__(self, query: str, k: int = 10, *, simplify: Literal[True]) -> list[str]: ...
    @overload
    def __call__(self, query: str, k: int, simplify: Literal[True]) -> list[str]: ...
    def __call__(self, query: str, k: int = 10, simplify: bool = False) -> list[ServedPassage] | list[str]:
        """The `k` best passages, best first.

        Args:
            query: What to look for.
            k: How many.
            simplify: Whether to return texts only.

        Raises:
            InputError: the query is no text, or `k` is below 1.
            ServerError: the server is out of reach, refused, or gave something that is no list of passages.
            CallTimeout: it did not answer in time.
        """
        if not isinstance(query, str) or isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"The query is {query!r} and k is {k!r}; expected a text, and a whole number from 1 on.")
        found = _passages(self._answer(query, k), self.url)[:k]
        return [passage.text for passage in found] if simplify else found

    def _answer(self, query: str, k: int) -> bytes:
        request = self._request(query, k)
        for attempt in range(self.num_retries + 1):
            last = attempt == self.num_retries
            wait = min(0.25 * 2**attempt, _LONGEST_WAIT)
            try:
                with self._open(request, timeout=self.timeout) as answer:
                    body: bytes = answer.read(_MOST_BYTES + 1)
            except HTTPError as error:
                if error.code not in _BUSY or last:
                    raise self._refused(error, attempt) from None
                wait = _asked_wait(error.headers.get("Retry-After"), wait)
                error.close()
            except (URLError, HTTPException, OSError) as error:
                if last:
                    raise self._unreachable(error, attempt) from None
            else:
                if len(body) > _MOST_BYTES:
                    raise ServerError(f"{self.url} answered with more than {_MOST_BYTES} bytes; expected a list of passages. Lower k.")
                return body
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _request(self, query: str, k: int) -> Request:
        safe = query.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        headers = self._headers
        if self.post_requests:
            body = json.dumps({"query": safe, "k": k}).encode("ascii")
            return Request(self.url, body, {**headers, "Content-Type": "application/json; charset=utf-8"}, method="POST")
        joint = "&" if urlsplit(self.url).query else "?"
        return Request(f"{self.url}{joint}{urlencode({'query': safe, 'k': k})}", headers=headers, method="GET")

    def _refused(self, error: HTTPError, attempt: int) -> ServerError:
        with error:
            said = _said(error.read(_MOST_BYTES))
        advice = " Is the path of the address right?" if error.code == 404 else ""
        return ServerError(f"{self.url} refused the search ({error.code}, {_tries(attempt)}): {said or error.reason}.{advice}")

    def _unreachable(self, error: Exception, attempt: int) -> ServerError | CallTimeout:
        why = error.reason if isinstance(error, URLError) else error
        if isinstance(why, TimeoutError):
            return CallTimeout(
                f"{self.url} did not answer within {self.timeout:g} s ({_tries(attempt)}). Give ColBERTv2(..., timeout=...) more seconds."
            )
        return ServerError(
            f"{self.url} could not be reached, or hung up ({_tries(attempt)}): {type(why).__name__}: {why}. Is the server running? "
            "`homefire index serve INDEX` starts one for an index of yours."
        )


class _SameHost(HTTPRedirectHandler):
    """Follows a server to another address of its own only: queries go to the host that the user named."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).hostname != urlsplit(req.full_url).hostname:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _passages(body: bytes, url: str) -> list[ServedPassage]:
    try:
        answer = json.loads(body)
    except ValueError:
        raise ServerError(f"{url} answered with something that is not JSON: {_said(body)!r}. Is it a ColBERTv2 server?") from None
    if isinstance(answer, dict) and answer.get("error"):
        raise ServerError(f"{url} said that something went wrong: {_short(str(answer.get('message') or answer['error']))}.")
    found = answer.get("topk") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise ServerError(f"{url} answered without a list `topk`: {_said(body)!r}. Is it a ColBERTv2 server?")
    return [_passage(entry, place, url) for place, entry in enumerate(found, start=1)]


def _passage(entry: object, place: int, url: str) -> ServedPassage:
    text = entry.get("text", entry.get("long_text")) if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(text, str):
        raise ServerError(f"{url} gave a passage without a text, at rank {place}: {_short(repr(entry))}. Is it a ColBERTv2 server?")
    pid, rank = entry.get("pid"), entry.get("rank")
    return ServedPassage(
        text=text,
        pid=pid if isinstance(pid, int | str) else None,
        rank=rank if isinstance(rank, int) and not isinstance(rank, bool) else place,
        score=_number(entry.get("score")),
        prob=_number(entry.get("prob")),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _address(url: str, port: str | int | None) -> str:
    whole = f"{url}:{port}" if port else url
    try:
        parts = urlsplit(whole) if isinstance(whole, str) else None
        good = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or re.search(r"[\x00-\x20\x7f]", whole):
        raise ConfigError(f"The address is {whole!r}; expected one with http:// or https://, as in 'http://localhost:8893/api/search'.")
    return whole


def _asked_wait(header: str | None, otherwise: float) -> float:
    return min(float(header), _LONGEST_WAIT) if header and re.fullmatch(r"\d{1,4}", header) else otherwise


def _said(body: bytes) -> str:
    text = body[: 4 * _SHOWN].decode("utf-8", "replace")
    try:
        values = json.loads(body)
    except ValueError:
        return _short(re.sub(r"<[^>]*>", " ", text))
    told = values.get("message") or values.get("error") or values.get("detail") if isinstance(values, dict) else None
    return _short(told if isinstance(told, str) else text)


def _short(text: str) -> str:
    words = " ".join(text.split()).rstrip(".")
    return words if len(words) <= _SHOWN else words[:_SHOWN] + "..."


def _tries(attempt: int) -> str:
    return "tried once" if attempt == 0 else f"tried {attempt + 1} times"
