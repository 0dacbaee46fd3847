"""What a server of completions says, read into completions: whole answers, pieces of a stream, thoughts, token counts.

Knows no connection and no request; what is no answer raises ServerError with what came instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from homefire.engine.request import Completion, Delta, FinishReason, Listener
from homefire.engine.thinking import Tags, Thinking, ThinkingStream
from homefire.errors import ServerError

_TAGS = Tags("<think>", "</think>")


def excerpt(value: object, most: int = 200) -> str:
    """The beginning of what a server said, on one line."""
    text = re.sub(r"\s+", " ", value if isinstance(value, str) else repr(value)).strip()
    return text if len(text) <= most else f"{text[:most]}..."


def read_answer(answer: object, where: str, *, free: bool) -> list[Completion]:
    """The completions of a whole answer, in the order of their indices.

    Args:
        answer: What came, as JSON values; a text where it was no JSON.
        where: The server and its model, for messages.
        free: Whether the text was under no grammar, so that thoughts may end without having begun.

    Raises:
        ServerError: it is no answer.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ServerError(f"{where} answered with something that is no completion: {excerpt(answer) or 'nothing at all'}. {_ADVICE}")
    if not choices:
        raise ServerError(f"{where} answered without any completion: {excerpt(answer)}. {_ADVICE}")
    heard = Hearing(where, free=free)
    for place, choice in enumerate(choices):
        heard.take_choice({"index": place, **choice, "finish_reason": choice.get("finish_reason") or "stop"})
    heard.take_usage(answer)
    return heard.completions()


_ADVICE = "Check that the address is that of an OpenAI-compatible server, which usually ends in /v1."


@dataclass
class _Voice:
    """One completion so far."""

    stream: ThinkingStream = field(default_factory=lambda: Thinking(_TAGS, begun=False).stream())
    text: str = ""
    thinking: str = ""
    gap: bool = False
    """Whether thoughts have come in a field of their own and the answer has not begun."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish: str | None = None


class Hearing:
    """Puts completions together from the pieces of a stream, or of one whole answer.

    Args:
        where: The server and its model, for messages.
        free: Whether the text was under no grammar.
        listener: Hears the pieces.
        offset: Added to the indices that the listener hears.
    """

    def __init__(self, where: str, *, free: bool, listener: Listener | None = None, offset: int = 0) -> None:
        self._where = where
        self._free = free
        self._listener = listener
        self._offset = offset
        self._voices: dict[int, _Voice] = {}
        self._usage: Mapping[str, Any] = {}

    def take(self, chunk: object) -> None:
        """Hears one event of a stream.

        Raises:
            ServerError: it is no piece of a completion.
        """
        choices = chunk.get("choices", []) if isinstance(chunk, dict) else None
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise ServerError(f"{self._where} sent something in its stream that is no piece of a completion: {excerpt(chunk)}. {_ADVICE}")
        for choice in choices:
            self.take_choice(choice)
        self.take_usage(chunk)

    def take_choice(self, choice: Mapping[str, Any]) -> None:
        """Hears one choice, whole or a piece of it."""
        said = choice.get("delta") or choice.get("message") or choice
        index = choice.get("index")
        if not isinstance(said, dict) or not isinstance(index, int | None):
            raise ServerError(f"{self._where} sent a completion that cannot be read: {excerpt(choice)}. {_ADVICE}")
        voice = self._voices.setdefault(index or 0, _Voice())
        text, thought = _words(said)
        if thought:
            self._tell(index or 0, thought, thinking=True)
            voice.gap = not voice.text
        if voice.gap and text:
            text = text.lstrip("\n")
            voice.gap = not text
        for piece, inside in voice.stream.feed(text):
            self._tell(index or 0, piece, thinking=inside)
        voice.token_ids += _numbers(choice.get("token_ids"), int)
        voice.logprobs += _logprobs(choice.get("logprobs"))
        reason = choice.get("finish_reason")
        voice.finish = reason if isinstance(reason, str) else voice.finish

    def take_usage(self, answer: object) -> None:
        """Hears how many tokens it took, where that is said."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        self._usage = usage if isinstance(usage, dict) else self._usage

    def completions(self) -> list[Completion]:
        """The completions, once everything was heard.

        Raises:
            ServerError: a completion has no end.
        """
        if not self._voices:
            raise ServerError(f"{self._where} ended its answer before any completion began. It may have been stopped; try again.")
        for index, voice in self._voices.items():
            if voice.finish is None:
                said = excerpt(voice.text or voice.thinking) or "nothing"
                raise ServerError(f"{self._where} broke off in the middle of an answer; it had said: {said}. Try again, or see its log.")
            for piece, inside in voice.stream.finish():
                self._tell(index, piece, thinking=inside)
        return [self._completion(self._voices[index], share) for share, index in enumerate(sorted(self._voices))]

    def _completion(self, voice: _Voice, share: int) -> Completion:
        text, thinking = voice.text, voice.thinking
        if self._free and not thinking and _TAGS.closing in text:
            thinking, text = Thinking(_TAGS, begun=True).split(text)
        cached = self._usage.get("prompt_tokens_details")
        counted = _count(self._usage, "completion_tokens")
        each, extra = divmod(counted, len(self._voices))
        return Completion(
            text=text,
            token_ids=tuple(voice.token_ids),
            finish_reason=_finish(voice.finish or "", self._where, text),
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            cached_tokens=_count(cached, "cached_tokens") if isinstance(cached, dict) else 0,
            logprobs=tuple(voice.logprobs) or None,
            thinking=thinking,
            completion_tokens=len(voice.token_ids) or each + (share < extra),
        )

    def _tell(self, index: int, text: str, *, thinking: bool) -> None:
        voice = self._voices[index]
        if thinking:
            voice.thinking += text
        else:
            voice.text += text
        if text and self._listener is not None:
            try:
                self._listener(Delta(self._offset + index, text, thinking))
            except Exception:  # a listener's trouble is not the request's
                self._listener = None


def _words(said: Mapping[str, Any]) -> tuple[str, str]:
    """Text and thoughts of a message or a piece of one, in the places where servers put them."""
    content = said.get("content") or said.get("text") or said.get("refusal") or ""
    thought = said.get("reasoning_content") or said.get("reasoning") or ""
    if isinstance(content, list):  # parts: Mistral, Databricks
        parts = [part for part in content if isinstance(part, dict)]
        thought = "".join(_flat(part.get("thinking") or part.get("summary")) for part in parts) or thought
        content = "".join(_flat(part.get("text")) for part in parts)
    return content if isinstance(content, str) else "", thought if isinstance(thought, str) else ""


def _flat(value: object) -> str:
    if isinstance(value, list):
        return "".join(_flat(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _logprobs(said: object) -> list[float]:
    if not isinstance(said, dict):
        return []
    if isinstance(said.get("content"), list):
        return _numbers([token.get("logprob") for token in said["content"] if isinstance(token, dict)], float)
    return _numbers(said.get("token_logprobs"), float)


def _numbers(values: object, kind: type[Any]) -> list[Any]:
    return [kind(value) for value in values if isinstance(value, int | float)] if isinstance(values, list) else []


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


def _finish(reason: str, where: str, text: str) -> FinishReason:
    if reason.lower() in ("length", "max_tokens", "model_length"):
        return "length"
    if reason.lower() in ("content_filter", "safety", "error", "abort", "aborted", "cancelled", "insufficient_system_resource"):
        raise ServerError(f"{where} gave an answer up ({reason}) after {len(text)} characters. Change the prompt, or try again.")
    return "stop"
