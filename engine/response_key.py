"""Keys and bytes of the response cache: what a request and its engine come to, and completions as JSON.

Knows neither memory nor disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from homefire.engine.fingerprint import file_hash
from homefire.engine.grammar import Grammar
from homefire.engine.request import AdapterRef, Completion, Message, Request, Sampling

_VERSION = 1
"""Of keys and bytes together: a change of either begins a new cache."""
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), check_circular=False).encode


def response_key(identity: str, request: Request) -> str | None:
    """SHA-256 over all that changes the answer of a request on an engine; None where an answer cannot be told from another's.

    Tokens kept free for a continuation are left out: they only matter to answers that the context cuts off, and those are not stored.
    """
    adapter = None if request.adapter is None else _adapter_digest(request.adapter)
    if not identity or (request.adapter is not None and adapter is None):
        return None
    parts = (
        _VERSION,
        identity,
        adapter,
        [(message.role, message.content) if not message.parts else _with_parts(message) for message in request.messages],
        _sampling_values(request.sampling),
        None if request.grammar is None else _grammar_digest(request.grammar),
        request.generated,
        request.prefill,
        request.thinking,
    )
    return hashlib.sha256(_encode(parts).encode("ascii")).hexdigest()


def storable(request: Request, answer: Sequence[Completion]) -> bool:
    """Whether another call with the same key may get this answer: not one that the engine's context cut off, or that was given up."""
    most = request.sampling.max_tokens
    return all(
        one.finish_reason == "stop" or (one.finish_reason == "length" and max(one.completion_tokens, len(one.token_ids)) >= most)
        for one in answer
    )


def as_hit(answer: Sequence[Completion]) -> tuple[Completion, ...]:
    """The completions as the cache gives them: nothing was computed and nothing waited for."""
    return tuple([replace(completion, from_cache=True, seconds=0.0) for completion in answer])


def encode_answer(answer: Sequence[Completion]) -> bytes:
    """Completions as JSON."""
    return _encode([_plain(completion) for completion in answer]).encode("ascii")


def decode_answer(body: bytes) -> tuple[Completion, ...]:
    """Completions of what `encode_answer` made, as hits.

    Raises:
        ValueError: it was not made so.
    """
    try:
        return tuple([_completion(row) for row in json.loads(body)])
    except (TypeError, KeyError) as error:
        raise ValueError(f"not completions: {error}") from error


def _plain(completion: Completion) -> dict[str, Any]:
    return {
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "cached_tokens": completion.cached_tokens,
        "logprobs": completion.logprobs,
        "thinking": completion.thinking,
        "completion_tokens": completion.completion_tokens,
    }


def _completion(row: dict[str, Any]) -> Completion:
    logprobs = row["logprobs"]
    lists = {"token_ids": tuple(row["token_ids"]), "logprobs": None if logprobs is None else tuple(logprobs)}
    return Completion(**{**row, **lists}, from_cache=True)


def _with_parts(message: Message) -> tuple[Any, ...]:
    return (message.role, [part if isinstance(part, str) else (part.kind, part.url, part.name) for part in message.parts])


def _sampling_values(sampling: Sampling) -> tuple[Any, ...]:
    """In one spelling: 1 and 1.0 draw the same tokens."""
    return (
        float(sampling.temperature),
        float(sampling.top_p),
        sampling.top_k,
        float(sampling.min_p),
        float(sampling.repetition_penalty),
        sampling.max_tokens,
        sampling.n,
        sampling.seed,
        sampling.stop,
        sampling.logprobs,
        sampling.rollout_id,
    )


@lru_cache(maxsize=1024)
def _grammar_digest(grammar: Grammar) -> str:
    return hashlib.sha256(_encode([grammar.gbnf, grammar.json_schema]).encode("ascii")).hexdigest()


@lru_cache(maxsize=1024)
def _adapter_digest(adapter: AdapterRef) -> str | None:
    """Of an adapter's version and weights, which never change once they are written; None where they cannot be read."""
    try:
        return ":".join([str(adapter), *(file_hash(adapter.path / name) for name in _ADAPTER_FILES)])
    except OSError:
        return None
