"""What an LM may be given: names and values of sampling, of calls and of messages, checked where the user writes them.

Knows no engine.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit

from homefire.engine.callbacks import BaseCallback
from homefire.engine.request import Message, Role, Sampling
from homefire.errors import ConfigError, InputError

SAMPLING = tuple(field.name for field in fields(Sampling))
SOURCE = ("model", "settings", "context", "api_base", "api_key", "headers", "extra_body", "num_retries")
CALLS = ("cache", "timeout", "thinking", "callbacks")
OPTIONS = (*SOURCE, *CALLS, "model_type", "adapter", "engine", "base_url")
_MAY_BE_NONE = ("seed", "rollout_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What holds for the calls of an LM beside their sampling.

    Raises:
        ConfigError: a value of the wrong kind.
    """

    cache: bool = True
    timeout: float | None = None
    """Seconds for a call, from its submission to the last token."""
    thinking: bool | None = None
    callbacks: tuple[BaseCallback, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.cache, bool):
            raise ConfigError(
                f"cache is {self.cache!r}; expected True or False. Where answers are kept is said by homefire.configure_cache."
            )
        if self.timeout is not None and not (_is_number(self.timeout) and self.timeout > 0):
            raise ConfigError(f"timeout is {self.timeout!r}; expected seconds above 0, or None to wait for ever.")
        if self.thinking not in (None, True, False):
            raise ConfigError(f"thinking is {self.thinking!r}; expected True, False, or None to leave it to the model.")
        checked_callbacks(self.callbacks)


def checked_sampling(base: Sampling, changes: Mapping[str, Any], others: Sequence[str] = ()) -> Sampling:
    """Sampling with changes; None leaves a value as it is, and takes a seed or a rollout id away.

    Args:
        base: What to change.
        changes: New values by name.
        others: Names beside those of sampling that the caller takes, for the error's advice.

    Raises:
        ConfigError: an unknown name.
        InputError: a value out of its range.
    """
    if not changes:
        return base
    if unknown := [name for name in changes if name not in SAMPLING]:
        raise ConfigError(" ".join(_unknown(name, others) for name in unknown) + f" Sampling has {', '.join(SAMPLING)}.")
    changes = {name: value for name, value in changes.items() if value is not None or name in _MAY_BE_NONE}
    if isinstance(stop := changes.get("stop"), str | list):
        changes["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    return replace(base, **changes)


def checked_callbacks(callbacks: Sequence[BaseCallback]) -> tuple[BaseCallback, ...]:
    """The callbacks as a tuple.

    Raises:
        ConfigError: something among them is no callback.
    """
    for callback in callbacks:
        if not isinstance(callback, BaseCallback):
            raise ConfigError(f"{callback!r} is no callback; expected an object whose class is derived from homefire.BaseCallback.")
    return tuple(callbacks)


def as_messages(prompt: str | None, messages: Sequence[Mapping[str, str]] | None) -> tuple[Message, ...]:
    """The chat that a prompt or a list of messages stands for.

    Raises:
        InputError: both or neither are given, or something is no message.
    """
    if (prompt is None) == (messages is None):
        raise InputError("Give either a prompt or messages: lm('Hello') or lm(messages=[{'role': 'user', 'content': 'Hello'}]).")
    if prompt is not None and not isinstance(prompt, str):
        raise InputError(f"The prompt is {prompt!r}; expected text. A chat is given as lm(messages=[...]).")
    return tuple(_message(turn) for turn in messages) if messages is not None else (Message("user", prompt or ""),)


def without_credentials(api_base: str) -> str:
    """An address without the name and password that it may hold, and without what follows its path."""
    parts = urlsplit(api_base)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _unknown(name: str, others: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, [*SAMPLING, *others], n=1)
    advice = f"did you mean {near[0]!r}?" if near else "leave it out, or put it into extra_body where a server knows it."
    return f"An LM takes no {name!r}: {advice}"


def _message(turn: Mapping[str, str]) -> Message:
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    if not isinstance(turn, Mapping) or turn.get("role") not in roles or not isinstance(turn.get("content"), str):
        raise InputError(f"{turn!r} is not a message. Write {{'role': 'user', 'content': '...'}}; roles are {', '.join(roles)}.")
    return Message(roles[turn["role"]], turn["content"])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
