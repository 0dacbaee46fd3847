"""LM: what a program talks to. A model, an adapter and default sampling, over an engine that starts when it is first needed.

Knows no signature. LMs of one model and settings share one engine; plain and asynchronous calls share everything but the waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, TextIO

from homefire.configs.console import note
from homefire.engine.adapters import AdapterStore
from homefire.engine.batch import Batch, Caller
from homefire.engine.callbacks import BaseCallback
from homefire.engine.engine_source import EngineSource, SourceSettings
from homefire.engine.history import History, HistoryEntry, print_entries
from homefire.engine.lm_options import CALLS, OPTIONS, SOURCE, CallOptions, as_messages, checked_sampling
from homefire.engine.native_thinking import model_thinks
from homefire.engine.protocol import Engine, EngineInfo
from homefire.engine.request import AdapterRef, Completion, Listener, Request, Sampling
from homefire.engine.response_cache import response_cache
from homefire.engine.settings import EngineSettings
from homefire.engine.stop import aresults, results
from homefire.engine.text_stream import AsyncTextStream, TextStream
from homefire.errors import ConfigError, InputError

Turns = Sequence[Mapping[str, str]]


class LM:
    """A language model.

    Args:
        model: A name of the catalogue, a folder, a GGUF file or a Hugging Face name; `vllm/NAME` and `transformers/NAME` choose the engine,
            and the prefix of a provider, as in `openai/NAME`, a server. None is the default local model.
        model_type: Only `chat`.
        adapter: A LoRA adapter from the store: `name` is the version in service, `name@3` that version.
        settings: Engine settings to use instead of the chosen ones.
        context: Short for `settings=EngineSettings(context=...)`: most tokens of prompt and completion together.
        engine: An engine that already runs, instead of the one that `model` names.
        api_base: Address of the model's server; also `base_url`.
        api_key: Key for the server, where the provider's environment variable does not hold it.
        headers: More headers of every call to the server.
        extra_body: More fields of every call, in the server's own words.
        cache: Whether equal calls get the answer that is known already; where such are kept is said by `configure_cache`.
        num_retries: Times that a call to a server is tried again after it failed on the way.
        timeout: Most seconds of a call; then it is given up and what it held is free again.
        thinking: Whether a reasoning model may think before it answers; None leaves it to the model.
        callbacks: Hear the calls of this LM, beside those of the settings.
        sampling: Defaults for every call: `temperature`, `top_p`, `max_tokens`, `n`, `seed`, `stop`, `logprobs`, `rollout_id`, ...

    Raises:
        ConfigError: an unknown name, or a value of the wrong kind.
        UnknownModel: no such model.
        AdapterError: no such adapter.
    """

    def __init__(
        self,
        model: str | None = None,
        model_type: str = "chat",
        *,
        adapter: str | AdapterRef | None = None,
        settings: EngineSettings | None = None,
        context: int | None = None,
        engine: Engine | None = None,
        api_base: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        cache: bool = True,
        num_retries: int = 3,
        timeout: float | None = None,
        thinking: bool | None = None,
        callbacks: Sequence[BaseCallback] | None = None,
        **sampling: Any,
    ) -> None:
        if model_type != "chat":
            raise ConfigError(f"model_type is {model_type!r}; expected 'chat', which all engines speak.")
        if model is not None and not isinstance(model, str):
            raise ConfigError(f"model is {model!r}; expected a name or the path of a folder, as in LM({str(model)!r}).")
        if isinstance(engine, str):
            raise ConfigError(f"engine is {engine!r}; expected an engine that runs already. LM('vllm/NAME') chooses vLLM for a model.")
        address = sampling.pop("base_url", None) or api_base
        self._sampling = checked_sampling(Sampling(), sampling, OPTIONS)
        self._options = CallOptions(cache=cache, timeout=timeout, thinking=thinking, callbacks=tuple(callbacks or ()))
        source: dict[str, Any] = {"model": model, "settings": settings, "api_base": address, "api_key": api_key, "headers": headers}
        source |= {"extra_body": extra_body, "num_retries": num_retries, "timeout": timeout}
        source |= {} if context is None else {"context": context}
        self._source = EngineSource(SourceSettings().changed(source), engine)
        self._adapter = AdapterStore().resolve(adapter) if isinstance(adapter, str) else adapter
        self._adapter_fits = self._adapter is None
        self._begin_history()

    def __call__(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> list[str]:
        """Free text for a prompt or a chat: `n` texts."""
        return [completion.text for completion in self.complete(prompt, messages=messages, **sampling)]

    async def acall(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> list[str]:
        """As calling the LM, awaited."""
        return [completion.text for completion in await self.acomplete(prompt, messages=messages, **sampling)]

    def complete(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> list[Completion]:
        """As calling the LM, with token ids, finish reasons and log-probabilities."""
        return self.generate([self._request(prompt, messages, sampling)])[0]

    async def acomplete(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> list[Completion]:
        """As `complete`, awaited."""
        return (await self.agenerate([self._request(prompt, messages, sampling)]))[0]

    def stream(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> Iterator[str]:
        """The pieces of one free text while it is being generated; leaving the loop early cancels the rest."""
        return self._pieces(self._single(prompt, messages, sampling))

    def astream(self, prompt: str | None = None, *, messages: Turns | None = None, **sampling: Any) -> AsyncIterator[str]:
        """As `stream`, for `async for`."""
        return self._apieces(self._single(prompt, messages, sampling))

    def generate(self, requests: Sequence[Request], *, listener: Listener | None = None) -> list[list[Completion]]:
        """Completions of every request, in order, computed in one batch. When one fails, the others are cancelled.

        Args:
            requests: What to answer.
            listener: Hears the pieces of the first request's completions.

        Raises:
            CallTimeout: it took longer than this LM's timeout.
        """
        with self._batch(requests, listener) as batch:
            self._submit(batch)
            return batch.complete(results(batch.futures, self._options.timeout))

    async def agenerate(self, requests: Sequence[Request], *, listener: Listener | None = None) -> list[list[Completion]]:
        """As `generate`, awaited; cancelling the task cancels the requests. The event loop does not wait for a start or a file."""
        await self._prepare()
        with self._batch(requests, listener) as batch:
            await self._asubmit(batch)
            return batch.complete(await aresults(batch.futures, self._options.timeout))

    def score(self, request: Request, texts: Sequence[str]) -> list[float]:
        """How likely each text is as the request's completion, as `Engine.score` says."""
        return results([self.engine().score(self._own(request), texts)], self._options.timeout)[0]

    async def ascore(self, request: Request, texts: Sequence[str]) -> list[float]:
        """As `score`, awaited."""
        await self._prepare()
        engine = await self._source.aengine()
        return (await aresults([engine.score(self._own(request), texts)], self._options.timeout))[0]

    def engine(self) -> Engine:
        """The engine behind this LM, started when needed.

        Raises:
            AdapterError: the adapter was trained for another model.
        """
        if not self._adapter_fits:
            self._check_adapter()
        return self._source.engine()

    def launch(self) -> None:
        """Starts the engine now rather than with the first call."""
        self.engine()

    def close(self) -> None:
        """Ends the engine, which other LMs of the same model and settings may share; the next call starts it again."""
        self._source.close()

    async def aclose(self) -> None:
        """As `close`, awaited."""
        await asyncio.to_thread(self.close)

    kill = close

    @property
    def model(self) -> str:
        """Name of the model, without the prefix that chooses the engine on this machine."""
        return self._source.model

    @property
    def adapter(self) -> AdapterRef | None:
        return self._adapter

    @property
    def thinking(self) -> bool | None:
        """Whether a reasoning model may think before it answers, where a request does not say."""
        return self._options.thinking

    supports_function_calling = True
    """Every model can call tools, by grammar."""
    supports_response_schema = True
    """Every model can be asked for typed answers."""

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model thinks before it answers; of a server that is known only where the user says so."""
        if self.thinking is False:
            return False
        return self.thinking is True if self.path is None else model_thinks(self.path)

    @property
    def path(self) -> Path | None:
        """Checkpoint folder of the model; None where it is not on this machine or an engine was given."""
        return self._source.path

    @property
    def info(self) -> EngineInfo:
        """What the engine is and runs with; starts it."""
        return self.engine().info

    @property
    def max_batch(self) -> int:
        """Calls worth having in flight at once."""
        return self.info.max_batch

    @property
    def history(self) -> list[HistoryEntry]:
        """The last calls of this LM, the oldest first."""
        return self._history.entries()

    def inspect_history(self, n: int = 1, file: TextIO | None = None) -> None:
        """Prints the last `n` calls of this LM, to standard output if no file is given."""
        print_entries(self.history, n, file)

    def sampling(self, **changes: Any) -> Sampling:
        """The default sampling with changes.

        Raises:
            ConfigError: an unknown name.
        """
        return checked_sampling(self._sampling, changes)

    def copy(self, **changes: Any) -> Self:
        """The same LM with changes to anything that `LM(...)` takes but an engine; `adapter=None` is the base model.

        The copy has a history of its own, and the same engine unless its model, settings or server are others.
        """
        if "base_url" in changes:
            changes["api_base"] = changes.pop("base_url")
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        source = {name: changes.pop(name) for name in SOURCE if name in changes}
        calls = {name: changes.pop(name) for name in CALLS if name in changes}
        if "callbacks" in calls:
            calls["callbacks"] = tuple(calls["callbacks"] or ())
        if calls:
            made._options = replace(self._options, **calls)
        if self._source.given is None and "timeout" in calls:
            source["timeout"] = calls["timeout"]
        if source and self._source.given is not None:
            raise ConfigError(f"This LM was made with an engine, so {', '.join(source)} cannot be changed. Make another one: LM(...).")
        if source:
            made._source = EngineSource(self._source.settings.changed(source))
        if "adapter" in changes:
            adapter = changes.pop("adapter")
            made._adapter = AdapterStore().resolve(adapter) if isinstance(adapter, str) else adapter
        made._sampling = checked_sampling(self._sampling, changes, OPTIONS)
        if source or made._adapter is not self._adapter:
            made._check_adapter()
        made._begin_history()
        return made

    def dump_state(self) -> dict[str, Any]:
        """What is needed to make this LM again, as JSON values; never a key, and no headers, which may hold one."""
        settings, plain, calls = self._source.settings, asdict(Sampling()), asdict(CallOptions())
        mine = {"cache": self._options.cache, "timeout": self._options.timeout, "thinking": self._options.thinking}
        return {
            "model": settings.model or self.model,
            "adapter": None if self._adapter is None else str(self._adapter),
            "settings": {name: value for name, value in asdict(settings.engine).items() if value is not None},
            "sampling": {name: value for name, value in asdict(self._sampling).items() if value != plain[name]},
            **{name: value for name, value in mine.items() if value != calls[name]},
            **settings.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], *, allow_endpoint: bool = False) -> Self:
        """The LM of a dumped state.

        Args:
            state: What `dump_state` gave.
            allow_endpoint: Whether to take the server's address, and further fields of its calls, from the state. Without it they are left
                out and the user is told; an LM whose state names an address then refuses to be called, because neither a file nor what is
                missing in it may decide where prompts go.
        """
        sampling: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in state["sampling"].items()}
        options = {name: state[name] for name in ("cache", "timeout", "thinking", "num_retries") if name in state}
        endpoint = {name: state[name] for name in ("api_base", "extra_body") if name in state}
        taken = endpoint if allow_endpoint else {}
        settings = EngineSettings(**state["settings"])
        made = cls(state["model"], adapter=state["adapter"], settings=settings, **options, **taken, **sampling)
        if endpoint and not taken:
            note(
                f"{' and '.join(endpoint)} of the saved LM {state['model']!r} are not taken from the file; allow_endpoint=True takes them."
            )
            made._source = EngineSource(replace(made._source.settings, withheld=endpoint.get("api_base")))
        return made

    def _check_adapter(self) -> None:
        if self._adapter is not None and self.path is not None:
            AdapterStore().check_base(self._adapter, self.path)
        self._adapter_fits = True

    def _begin_history(self) -> None:
        self._history = History()
        self._caller = Caller(lm=self, model=self.model, history=self._history, callbacks=self._options.callbacks)

    def _request(self, prompt: str | None, messages: Turns | None, sampling: Mapping[str, Any]) -> Request:
        return Request(messages=as_messages(prompt, messages), sampling=self.sampling(**sampling), adapter=self._adapter)

    def _single(self, prompt: str | None, messages: Turns | None, sampling: Mapping[str, Any]) -> Request:
        request = self._request(prompt, messages, sampling)
        if request.sampling.n > 1:
            raise InputError(f"n is {request.sampling.n}, but one text can be streamed at a time; give n=1.")
        return request

    def _own(self, request: Request) -> Request:
        thinking = self._options.thinking
        return request if thinking is None or request.thinking is not None else replace(request, thinking=thinking)

    def _batch(self, requests: Sequence[Request], listener: Listener | None) -> Batch:
        if self._options.thinking is not None:
            requests = [self._own(request) for request in requests]
        cache = response_cache() if self._options.cache else None
        return Batch(self._caller, requests, listener, cache, "" if cache is None else self._source.identity())

    def _submit(self, batch: Batch) -> None:
        if batch.look_in_memory():
            batch.look_on_disk()
        if batch.missing:
            batch.submit(self.engine())
        batch.tell_hit()

    async def _asubmit(self, batch: Batch) -> None:
        if batch.look_in_memory():
            await asyncio.to_thread(batch.look_on_disk)
        if batch.missing:
            batch.submit(await self._source.aengine())
        batch.tell_hit()

    async def _prepare(self) -> None:
        """Does what reads files, which is once for an LM, without keeping the event loop waiting."""
        if not self._adapter_fits:
            await asyncio.to_thread(self._check_adapter)
        if self._options.cache and not self._source.identity_known and response_cache() is not None:
            await asyncio.to_thread(self._source.identity)

    def _pieces(self, request: Request) -> Iterator[str]:
        stream, seconds, began = TextStream(), self._options.timeout, time.monotonic()
        with self._batch([request], stream.hear) as batch:
            self._submit(batch)
            yield from stream.until_done(batch.futures, seconds)
            batch.complete(results(batch.futures, seconds, began))

    async def _apieces(self, request: Request) -> AsyncIterator[str]:
        await self._prepare()
        stream, seconds, began = AsyncTextStream(), self._options.timeout, time.monotonic()
        with self._batch([request], stream.hear) as batch:
            await self._asubmit(batch)
            async for piece in stream.until_done(batch.futures, seconds):
                yield piece
            batch.complete(await aresults(batch.futures, seconds, began))

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        return self

    def __str__(self) -> str:
        return self.model if self._adapter is None else f"{self.model} with {self._adapter}"

    def __repr__(self) -> str:
        return f"LM({str(self)!r})"
