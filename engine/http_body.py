"""The body of a request to an OpenAI-compatible server: a request in the words of the server's dialect.

Knows no connection. What a dialect cannot say is an error here, or is left out where the answer stays right without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from homefire.engine.dialects import Dialect, structured_fields
from homefire.engine.http_learned import Learned
from homefire.engine.request import Media, MediaKind, Message, Request, Sampling
from homefire.errors import AdapterError, EngineError, InputError

_TAKEN: Mapping[str, Sequence[MediaKind]] = {
    "openai": ("image", "audio", "file"),
    "azure": ("image", "audio", "file"),
    "openrouter": ("image", "audio", "file"),
    "openai-compatible": ("image", "audio", "file"),
    "vllm": ("image", "audio"),
    "sglang": ("image", "audio"),
    "llama.cpp": ("image", "audio"),
    "gemini": ("image", "audio"),
    "mistral": ("image", "audio"),
    "deepseek": (),
}
"""Media that go in messages to a kind of server, in OpenAI's form; images to all others. Whether its model takes them, the server says."""


def check_request(request: Request, dialect: Dialect, where: str, *, sure: bool) -> None:
    """Refuses what the dialect cannot do.

    Args:
        request: What is asked.
        dialect: What the server is taken for.
        where: The server and its model, for messages.
        sure: Whether that is known; a server of which nothing is known may turn out to be able.

    Raises:
        InputError: a text cannot be written as UTF-8, or the messages hold media that such servers do not take.
        AdapterError: it serves no adapters.
        EngineError: it cannot go on with an answer, or gives no log-probabilities, or a sampling setting is not its own.
    """
    for text in (*(message.content for message in request.messages), request.prefill):
        _check_text(text)
    if not sure:
        return
    taken = _TAKEN.get(dialect.name, ("image",))
    for media in request.media:
        if media.kind not in taken:
            kinds = " and ".join(("text", *taken))
            raise InputError(
                f"{media.origin} holds {media.words}, and {where} takes {kinds} alone, as {dialect.name} does. "
                f"Leave it out, or ask a server whose model takes {media.words}."
            )
    if request.adapter is not None and not dialect.adapters:
        raise AdapterError(
            f"The adapter {request.adapter} cannot be used on {where}: only homefire serve and vLLM serve adapters beside their model. "
            "Serve the model with `homefire serve`, or leave the adapter out."
        )
    if (request.prefill or request.generated) and dialect.continuation == "none":
        raise EngineError(f"{where} cannot go on with an answer that was begun ({dialect.name} has no way to ask for it). Ask for it anew.")
    if request.sampling.logprobs and not dialect.logprobs:
        raise EngineError(f"{where} gives no log-probabilities ({dialect.name} has none). Leave out logprobs=True.")
    plain = Sampling()
    wanted = {"top_k": request.sampling.top_k, "min_p": request.sampling.min_p, "repetition_penalty": request.sampling.repetition_penalty}
    usual = {"top_k": plain.top_k, "min_p": plain.min_p, "repetition_penalty": plain.repetition_penalty}
    if foreign := [name for name, value in wanted.items() if value != usual[name] and name not in dialect.knobs]:
        raise EngineError(f"{where} does not take {', '.join(foreign)} ({dialect.name} has no such setting). Leave it out.")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{text[error.start]!r} at position {error.start}"
        problem = f"A message holds half of a surrogate pair, {half}, which is no character. "
        raise InputError(problem + "Write text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').") from error


def chat_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a chat, those with media as lists of parts."""
    return [
        {"role": message.role, "content": [_part(part) for part in message.parts] if message.parts else message.content}
        for message in messages
    ]


def _part(part: str | Media) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    match part.kind:
        case "image":
            return {"type": "image_url", "image_url": {"url": part.url}}
        case "audio":
            kind = part.media_type.removeprefix("audio/")
            return {"type": "input_audio", "input_audio": {"data": part.base64, "format": kind}}
        case "file":
            return {"type": "file", "file": {"filename": part.name, "file_data": part.url}}


def chat_body(request: Request, model: str, dialect: Dialect, learned: Learned) -> dict[str, Any]:
    """The body for `/chat/completions`."""
    body: dict[str, Any] = {"model": str(request.adapter) if request.adapter else model}
    body["messages"] = chat_turns(request.messages)
    if request.prefill:
        body["messages"].append({"role": "assistant", "content": request.prefill})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body |= _sampling(request.sampling, model, dialect, learned)
    if request.sampling.logprobs:
        body["logprobs"] = True
    return body | template_fields(request, dialect) | _form(request, dialect, learned)


def completion_body(request: Request, prompt_ids: list[int], model: str, dialect: Dialect, learned: Learned) -> dict[str, Any]:
    """The body for `/completions` behind these token ids."""
    body: dict[str, Any] = {"model": str(request.adapter) if request.adapter else model, "prompt": prompt_ids}
    body |= _sampling(request.sampling, model, dialect, learned)
    if request.sampling.logprobs:
        body["logprobs"] = 0
    return body | _form(request, dialect, learned)


def score_body(prompts: list[list[int]], model: str) -> dict[str, Any]:
    """The body for `/completions` that asks how likely each token of some texts is."""
    return {"model": model, "prompt": prompts, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}


def template_fields(request: Request, dialect: Dialect) -> dict[str, Any]:
    """The switches of the chat template."""
    if request.thinking is None or not dialect.template:
        return {}
    return {"chat_template_kwargs": {"enable_thinking": request.thinking}}


def single(request: Request, place: int) -> Request:
    """The request for one of its completions alone; a seed moves on, so that they differ."""
    seed = None if request.sampling.seed is None else request.sampling.seed + place
    return replace(request, sampling=replace(request.sampling, n=1, seed=seed))


def _form(request: Request, dialect: Dialect, learned: Learned) -> dict[str, Any]:
    ids = {"return_token_ids": True} if dialect.token_ids else {}
    return ids | structured_fields(dialect, request.grammar, learned.level(dialect, request.grammar))


def _sampling(sampling: Sampling, model: str, dialect: Dialect, learned: Learned) -> dict[str, Any]:
    reasons = dialect.reasons_always(model)
    body: dict[str, Any] = {"max_completion_tokens" if reasons or learned.long_name else "max_tokens": sampling.max_tokens}
    if not reasons:
        body["temperature"] = sampling.temperature
        if sampling.top_p != 1 or dialect.own_defaults:
            body["top_p"] = sampling.top_p
    if sampling.n > 1:
        body["n"] = sampling.n
    if sampling.seed is not None and dialect.seed:
        body["seed"] = sampling.seed
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    plain = Sampling()
    for name, value, usual in (
        ("top_k", sampling.top_k, plain.top_k),
        ("min_p", sampling.min_p, plain.min_p),
        ("repetition_penalty", sampling.repetition_penalty, plain.repetition_penalty),
    ):
        if name in dialect.knobs and (value != usual or dialect.own_defaults):
            body[dialect.knobs[name]] = -1 if name == "top_k" and value == 0 and dialect.name == "sglang" else value
    return {name: value for name, value in body.items() if name not in learned.left_out}
