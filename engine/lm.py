"""LM: what a program talks to. A model, an adapter and default sampling, over an engine that starts at the first call.

Knows no signature. LMs of one model and settings share one engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Self

from homefire.engine.adapters import AdapterStore
from homefire.engine.catalogue import resolve
from homefire.engine.pool import engine_for
from homefire.engine.protocol import Engine, EngineInfo
from homefire.engine.request import AdapterRef, Completion, Message, Request, Role, Sampling
from homefire.engine.settings import EngineSettings
from homefire.engine.stop import current_stop
from homefire.errors import ConfigError, InputError

_SAMPLING = tuple(field.name for field in fields(Sampling))


class LM:
    """A language model.

    Args:
        model: A name of the catalogue, a folder, a GGUF file or a Hugging Face name; `vllm/NAME` and `transformers/NAME` choose the engine.
            None is the default local model.
        adapter: A LoRA adapter from the store: `name` is the version in service, `name@3` that version.
        settings: Engine settings to use instead of the chosen ones.
        context: Short for `settings=EngineSettings(context=...)`: most tokens of prompt and completion together.
        engine: An engine that already runs, instead of the one that `model` names.
        sampling: Defaults for every call: `temperature`, `top_p`, `max_tokens`, `n`, `seed`, `stop`, `logprobs`.

    Raises:
        UnknownModel: no such model.
        AdapterError: no such adapter.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        adapter: str | AdapterRef | None = None,
        settings: EngineSettings | None = None,
        context: int | None = None,
        engine: Engine | None = None,
        **sampling: Any,
    ) -> None:
        self._sampling = _checked(Sampling(), sampling)
        self._settings = settings or EngineSettings()
        if context is not None:
            self._settings = replace(self._settings, context=context)
        self._adapter = AdapterStore().resolve(adapter) if isinstance(adapter, str) else adapter
        self._source = None if engine is not None else resolve(model)
        self._engine = engine
        self._asked = model
        self.model = engine.info.model if engine is not None else self._source.name if self._source is not None else ""
        """Name of the model, without the prefix that chooses the engine."""

    def __call__(self, prompt: str | None = None, *, messages: Sequence[Mapping[str, str]] | None = None, **sampling: Any) -> list[str]:
        """Free text for a prompt or a chat: `n` texts."""
        return [completion.text for completion in self.complete(prompt, messages=messages, **sampling)]

    def complete(
        self, prompt: str | None = None, *, messages: Sequence[Mapping[str, str]] | None = None, **sampling: Any
    ) -> list[Completion]:
        """As calling the LM, with token ids, finish reasons and log-probabilities."""
        if (prompt is None) == (messages is None):
            raise InputError("Give either a prompt or messages: lm('Hello') or lm(messages=[{'role': 'user', 'content': 'Hello'}]).")
        turns = [{"role": "user", "content": prompt or ""}] if messages is None else messages
        request = Request(messages=tuple(_message(turn) for turn in turns), sampling=self.sampling(**sampling), adapter=self._adapter)
        return self.generate([request])[0]

    def generate(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """Completions of every request, in order, computed in one batch. When one fails, the others are cancelled."""
        engine = self.engine()
        futures = [engine.submit(request) for request in requests]
        if (stop := current_stop()) is not None:
            for future in futures:
                stop.watch(future)
        try:
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def engine(self) -> Engine:
        """The engine behind this LM, started when needed."""
        if self._source is not None and (self._engine is None or self._engine.closed):
            if self._adapter is not None and self._source.path is not None:
                AdapterStore().check_base(self._adapter, self._source.path)
            self._engine = engine_for(self._source, self._settings)
        assert self._engine is not None
        return self._engine

    @property
    def adapter(self) -> AdapterRef | None:
        return self._adapter

    @property
    def path(self) -> Path | None:
        """Checkpoint folder of the model; None where it is not on this machine or an engine was given."""
        return None if self._source is None else self._source.path

    @property
    def info(self) -> EngineInfo:
        """What the engine is and runs with; starts it."""
        return self.engine().info

    @property
    def max_batch(self) -> int:
        """Calls worth having in flight at once."""
        return self.info.max_batch

    def sampling(self, **changes: Any) -> Sampling:
        """The default sampling with changes.

        Raises:
            ConfigError: an unknown name.
        """
        return _checked(self._sampling, changes)

    def copy(self, *, adapter: AdapterRef | str | None = None, **sampling: Any) -> LM:
        """The same model on the same engine, with another adapter (None is the base model) or other sampling."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._adapter = AdapterStore().resolve(adapter) if isinstance(adapter, str) else adapter
        made._sampling = self.sampling(**sampling)
        if made._adapter is not None and self._source is not None and self._source.path is not None:
            AdapterStore().check_base(made._adapter, self._source.path)
        return made

    def dump_state(self) -> dict[str, Any]:
        """What is needed to make this LM again, as JSON values."""
        settings = {name: value for name, value in asdict(self._settings).items() if value is not None}
        sampling = {name: value for name, value in asdict(self._sampling).items() if value != asdict(Sampling())[name]}
        return {
            "model": self._asked or self.model,
            "adapter": None if self._adapter is None else str(self._adapter),
            "settings": settings,
            "sampling": sampling,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The LM of a dumped state."""
        sampling: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in state["sampling"].items()}
        return cls(state["model"], adapter=state["adapter"], settings=EngineSettings(**state["settings"]), **sampling)

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        return self

    def __str__(self) -> str:
        return self.model if self._adapter is None else f"{self.model} with {self._adapter}"

    def __repr__(self) -> str:
        return f"LM({str(self)!r})"


def _checked(base: Sampling, changes: Mapping[str, Any]) -> Sampling:
    if not changes:
        return base
    if unknown := [name for name in changes if name not in _SAMPLING]:
        raise ConfigError(f"{', '.join(map(repr, unknown))} is no sampling setting. There are: {', '.join(_SAMPLING)}.")
    if isinstance(stop := changes.get("stop"), str | list):
        changes = {**changes, "stop": (stop,) if isinstance(stop, str) else tuple(stop)}
    return replace(base, **changes)


def _message(turn: Mapping[str, str]) -> Message:
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    if turn.get("role") not in roles or not isinstance(turn.get("content"), str):
        raise InputError(f"{dict(turn)!r} is not a message. Write {{'role': 'user', 'content': '...'}}; roles are {', '.join(roles)}.")
    return Message(roles[turn["role"]], turn["content"])
