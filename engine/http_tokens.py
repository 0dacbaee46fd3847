"""Token ids over HTTP, from a vLLM server: of prompts, of texts, and how likely given texts are.

Knows no connection: it is handed the function that posts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from homefire.engine.http_answer import excerpt
from homefire.engine.http_body import chat_turns, score_body
from homefire.engine.http_errors import Endpoint, Refused
from homefire.engine.request import Request
from homefire.errors import EngineError, ServerError

Post = Callable[[str, dict[str, Any]], Awaitable[object]]
_KEPT = 4096
_ABSENT = (404, 405, 501)
"""Statuses of an address that a server does not have."""
_LONGEST_CHARACTER = 8
"""Tokens that one character takes at most, with room to spare."""


class ServerTokens:
    """What a server's tokenizer and its model say of texts.

    Args:
        endpoint: The server.
        post: Posts a body to a path below the endpoint's address, or to a whole address, and gives the answer's JSON.
    """

    def __init__(self, endpoint: Endpoint, post: Post) -> None:
        self._endpoint = endpoint
        self._post = post
        self._kept: dict[str, list[int]] = {}

    async def of_request(self, request: Request, switches: Mapping[str, Any]) -> list[int]:
        """Ids of the rendered prompt with what there already is of its answer.

        Args:
            request: The request.
            switches: The chat template's switches, as fields of a body.

        Raises:
            EngineError: the server has no tokenizer to ask.
        """
        prompt = self._ids({"messages": chat_turns(request.messages), "add_generation_prompt": True, **switches})
        ids, tail = await asyncio.gather(prompt, self.of_text(request.prefill))
        return [*ids, *request.generated, *tail]

    async def of_text(self, text: str) -> list[int]:
        """Ids of plain text, with no special tokens added; kept for the next time."""
        if text and text not in self._kept:
            ids = await self._ids({"prompt": text, "add_special_tokens": False})
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[text] = ids
        return self._kept[text] if text else []

    async def ends_in_half_a_character(self, token_ids: Sequence[int]) -> bool:
        """Whether the text of these ids ends inside a character.

        Raises:
            EngineError: the server has no tokenizer to ask.
        """
        answer = await self._ask("/detokenize", {"tokens": list(token_ids[-_LONGEST_CHARACTER:])})
        return str(answer.get("prompt", "")).endswith("\ufffd")

    async def score(self, request: Request, texts: Sequence[str], switches: Mapping[str, Any]) -> list[float]:
        """Natural log-probability of each text behind the request's prompt, all asked for in one call."""
        if not texts:
            return []
        if request.media:
            problem = f"{self._endpoint.where} takes given texts behind token ids alone, which {request.media[0].words} has not"
            raise EngineError(f"{problem}. Ask for the answer without its probabilities.")
        prompt = await self.of_request(request, switches)
        tails = await asyncio.gather(*(self.of_text(text) for text in texts))
        model = str(request.adapter) if request.adapter else self._endpoint.model
        answer = await self._post("/completions", score_body([[*prompt, *tail] for tail in tails], model))
        try:
            choices = sorted(answer["choices"], key=lambda choice: choice["index"])  # type: ignore[index]
            said = [choice["prompt_logprobs"][len(prompt) :] for choice in choices]
            return [
                sum(float(place[str(token)]["logprob"]) for token, place in zip(tail, places, strict=True))
                for tail, places in zip(tails, said, strict=True)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"{self._endpoint.where} gave no log-probabilities of the texts: {excerpt(answer)}") from error

    async def _ids(self, body: dict[str, Any]) -> list[int]:
        answer = await self._ask("/tokenize", body)
        ids = answer.get("tokens")
        if not isinstance(ids, list):
            raise EngineError(f"{self._endpoint.where} does not count tokens; it said: {excerpt(answer)}.")
        return ids

    async def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        address = self._endpoint.url.rstrip("/").removesuffix("/v1") + path
        try:
            answer = await self._post(address, {"model": self._endpoint.model, **body})
        except Refused as refused:
            if refused.status not in _ABSENT:
                raise
            raise EngineError(f"{self._endpoint.where} does not count tokens: {excerpt(refused.said)}.") from None
        if not isinstance(answer, dict):
            raise EngineError(f"{self._endpoint.where} does not count tokens; it said: {excerpt(answer)}.")
        return answer
