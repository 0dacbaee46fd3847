"""An engine over HTTP: the `Engine` for every server that speaks OpenAI's protocol, through the `openai` client.

Knows no provider and no key's name beyond its endpoint's. Nothing is contacted before the first call; one thread of its own runs an event
loop on which all calls share their connections.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import json
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from homefire.configs.console import note
from homefire.engine.dialects import dialect_of_owner
from homefire.engine.http_answer import Hearing, read_answer
from homefire.engine.http_body import chat_body, check_request, completion_body, single, template_fields
from homefire.engine.http_errors import Endpoint, Refused, context_counts, explained, never_connected
from homefire.engine.http_learned import Learned
from homefire.engine.http_tokens import ServerTokens
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import Completion, Delta, Listener, Request
from homefire.engine.threads import without_block
from homefire.errors import CallTimeout, ContextTooLong, EngineError, MissingExtra

if TYPE_CHECKING:
    from openai import AsyncOpenAI

R = TypeVar("R")
UNKNOWN_CONTEXT = 1_000_000
"""What is said of a context whose size only the server knows."""
_LOOK_SECONDS = 5.0


class HttpEngine:
    """The `Engine` over an endpoint.

    Retries are those of the `openai` client, which waits longer each time and as long as `Retry-After` says, up to two minutes: after
    connections that fail, timeouts and the answers 408, 409, 429 and 5xx, and after nothing else.

    Args:
        name: What the user calls the model.
        endpoint: Where it is and how to call it.
    """

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self._name = name
        self._endpoint = endpoint
        self._dialect = endpoint.dialect
        self._learned = Learned()
        self._context: int | None = None
        self._looked = False
        self._told: set[str] = set()
        self._tokens = ServerTokens(endpoint, self._post)
        self._extra: dict[str, Any] = json.loads(endpoint.extra_body)
        self._gate = threading.Lock()
        """Held while something is put on the loop, and while it is decided that nothing is any more."""
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: AsyncOpenAI
        self._slots: asyncio.Semaphore
        self._looking: asyncio.Lock

    @property
    def info(self) -> EngineInfo:
        if not self._dialect.known and not self._looked and threading.current_thread() is not self._thread and not self._closed:
            self._put(self._look()).result()
        dialect = self._dialect
        return EngineInfo(
            backend="http",
            model=self._name,
            context=self._context or UNKNOWN_CONTEXT,
            max_batch=self._endpoint.max_batch,
            adapter_mode="hot" if dialect.adapters else "none",
            identity=self.identity,
            structured=dialect.levels[min(self._learned.step, len(dialect.levels) - 1)],
            continues=dialect.continuation != "none",
            scores=dialect.scores and not self._learned.no_tokenizer,
            settings={
                "endpoint": self._endpoint.shown_url,
                "dialect": dialect.name,
                "context": "the server's own" if self._context is None else f"{self._context} tokens, as the server says",
            },
        )

    @property
    def identity(self) -> str:
        """The same before and after the server was looked at, so that cached answers are found without asking it."""
        extra = hashlib.sha256(self._endpoint.extra_body.encode()).hexdigest()[:16] if self._extra else ""
        return " ".join(("http", self._endpoint.shown_url, self._endpoint.model, self._endpoint.dialect.name, extra)).rstrip()

    @property
    def where(self) -> str:
        """The model and its server, for messages."""
        return self._endpoint.where

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        check_request(request, self._dialect, self._endpoint.where, sure=self._dialect.known or self._looked)
        return self._put(self._complete(request, listener))

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        if not self._dialect.scores and (self._dialect.known or self._looked):
            raise EngineError(f"{self._endpoint.where} gives no log-probabilities of given texts ({self._dialect.name} has no way to ask).")
        return self._put(self._score(request, list(texts)))

    def embed(self, body: Mapping[str, Any]) -> Future[object]:
        """What the server answers when it is asked for embeddings; `http_embeddings` writes the body and reads the answer."""
        return self._put(self._embedded(body))

    def count_tokens(self, request: Request) -> int:
        """Tokens as the server counts them where it does that, else a quarter of the characters."""
        if self._dialect.token_ids and not self._learned.no_tokenizer:
            try:
                return len(self._put(self._within_time(self._prompt_ids(request))).result())
            except EngineError:
                self._learned.no_tokenizer = True
        characters = sum(len(message.content) for message in request.messages) + len(request.prefill)
        return characters // 4 + 4 * len(request.messages) + len(request.generated)

    def sleep(self) -> None:
        """Nothing to give back: the memory is the server's."""

    def wake(self) -> None:
        """Nothing to fetch."""

    def close(self) -> None:
        with self._gate:
            closed, self._closed = self._closed, True
        if closed or self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        if self._thread is not threading.current_thread():
            self._thread.join(10)
        atexit.unregister(self.close)

    def _put(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Starts something on the loop; the loop starts with the first."""
        with self._gate:
            if self._closed:
                work.close()
                raise EngineError(f"The engine of {self._name} is closed. The next call of an LM starts a new one.")
            if self._loop is None:
                try:
                    self._start()
                except BaseException:
                    work.close()
                    raise
            assert self._loop is not None
            return asyncio.run_coroutine_threadsafe(self._guarded(work), self._loop)

    def _start(self) -> None:
        try:
            from openai import AsyncOpenAI, DefaultAsyncHttpxClient, Omit
        except ImportError as error:
            raise MissingExtra("openai", "http", "Calling a model server") from error
        endpoint = self._endpoint
        more: dict[str, Any] = {} if endpoint.timeout is None else {"timeout": endpoint.timeout}
        headers: dict[str, Any] = dict(endpoint.headers)
        if endpoint.dialect.name != "openai":  # what the environment says of an account at OpenAI is no other server's business
            headers = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit(), **headers}
        if endpoint.is_local:
            more["http_client"] = DefaultAsyncHttpxClient(trust_env=False)  # no proxy stands between a machine and itself
        self._client = AsyncOpenAI(
            api_key=endpoint.api_key or "none",
            base_url=endpoint.url,
            max_retries=endpoint.num_retries,
            default_headers=headers,
            **more,
        )
        self._slots = asyncio.Semaphore(endpoint.max_batch)
        self._looking = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop,), name=f"homefire-http-{self._name}", daemon=True)
        without_block(self._thread.start)
        atexit.register(self.close)

    # Everything below runs on the loop.

    async def _guarded(self, work: Coroutine[Any, Any, R]) -> R:
        try:
            return await work
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError(f"The engine of {self._name} was closed before it answered.") from None
            raise
        except Refused as refused:
            raise refused.error(self._endpoint) from None

    async def _shut(self) -> None:
        await asyncio.sleep(0)  # what was put on the loop before has begun now, and so can say why it ends
        tasks = asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task is not None}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        loop = asyncio.get_running_loop()
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
        loop.call_soon(loop.stop)

    async def _within_time(self, work: Coroutine[Any, Any, R]) -> R:
        try:
            async with asyncio.timeout(self._endpoint.timeout) as limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
            where, seconds = self._endpoint.where, self._endpoint.timeout
            raise CallTimeout(f"{where} gave no whole answer in {seconds:g} seconds. Give LM(timeout=...) more, or ask for less.") from None

    async def _complete(self, request: Request, listener: Listener | None) -> list[Completion]:
        started = time.perf_counter()
        async with self._slots:
            completions = await self._within_time(self._answers(request, listener))
        seconds = time.perf_counter() - started
        return [replace(one, seconds=seconds) for one in completions]

    async def _embedded(self, body: Mapping[str, Any]) -> object:
        async with self._slots:
            return await self._within_time(self._post("/embeddings", {"model": self._endpoint.model, **body, **self._extra}))

    async def _answers(self, request: Request, listener: Listener | None) -> list[Completion]:
        """All completions of a request: in one call, and by further calls at the same time where the server gives fewer."""
        await self._look()
        check_request(request, self._dialect, self._endpoint.where, sure=True)
        self._tell_what_is_left_out(request)
        wanted = request.sampling.n
        several = wanted == 1 or (self._dialect.several and not self._learned.one_by_one)
        first = await self._call(request if several else single(request, 0), listener, 0)
        done = first[:wanted]
        rest = [asyncio.create_task(self._call(single(request, place), listener, place)) for place in range(len(done), wanted)]
        try:
            return done + [one for more in await asyncio.gather(*rest) for one in more[:1]]
        finally:
            for task in rest:
                task.cancel()

    def _tell_what_is_left_out(self, request: Request) -> None:
        if request.sampling.seed is not None and not self._dialect.seed:
            self._tell("seed", "takes no seed, so runs differ")
        if request.thinking is not None and not self._dialect.template:
            self._tell("thinking", "cannot be told whether to think; the model decides")
        if request.grammar is not None and self._learned.level(self._dialect, request.grammar) == "none":
            self._tell(
                "level none", "enforces no form here, so every answer is checked when it has come, and asked for again if it is wrong"
            )

    def _tell(self, what: str, words: str) -> None:
        if words and what not in self._told:
            self._told.add(what)
            note(f"{self._endpoint.where} {words}.")

    async def _call(self, request: Request, listener: Listener | None, offset: int) -> list[Completion]:
        """One call, and again with another body as long as the server refuses what it can do without."""
        while True:
            path, body = await self._body(request)
            level = self._learned.level(self._dialect, request.grammar)
            hearing = Hearing(self._endpoint.where, free=level == "none", listener=listener, offset=offset)
            try:
                if listener is not None:
                    said = await self._stream(path, body, hearing)
                else:
                    said = read_answer(await self._post(path, body), self._endpoint.where, free=level == "none")
                return [await self._with_its_end(one, index, listener) for index, one in enumerate(said, offset)]
            except Refused as refused:
                prompt, context = context_counts(refused.said)
                if context is not None:
                    request = await self._shorter(request, refused, prompt, context)
                elif (learned := self._learned.learn(refused, body, self._dialect, request.grammar)) is None:
                    raise
                else:
                    self._tell(*learned)
                    request = single(request, 0) if self._learned.one_by_one else request

    async def _with_its_end(self, completion: Completion, index: int, listener: Listener | None) -> Completion:
        """A completion whose text ends as its token ids do: servers leave out half a character, other engines write U+FFFD for it.

        Where the server cannot be asked, the ids are dropped, so that nobody goes on behind half a character.
        """
        if completion.finish_reason != "length" or not completion.token_ids:
            return completion
        try:
            halved = await self._tokens.ends_in_half_a_character(completion.token_ids)
        except EngineError:
            self._learned.no_tokenizer = True
            return replace(completion, token_ids=())
        if not halved or completion.text.endswith("\ufffd"):
            return completion
        if listener is not None:
            with suppress(Exception):
                listener(Delta(index, "\ufffd"))
        return replace(completion, text=completion.text + "\ufffd")

    async def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        by_ids = self._dialect.continuation == "tokens" and not self._learned.no_tokenizer and not request.media
        if (request.prefill or request.generated) and by_ids:
            try:
                ids = await self._prompt_ids(request)
            except EngineError:
                self._learned.no_tokenizer = True
            else:
                return "/completions", completion_body(request, ids, self._endpoint.model, self._dialect, self._learned) | self._extra
        if request.generated:
            raise EngineError(f"{self._endpoint.where} cannot go on behind token ids: it has no /tokenize. Ask for the answer anew.")
        return "/chat/completions", chat_body(request, self._endpoint.model, self._dialect, self._learned) | self._extra

    async def _prompt_ids(self, request: Request) -> list[int]:
        return await self._tokens.of_request(request, template_fields(request, self._dialect))

    async def _score(self, request: Request, texts: list[str]) -> list[float]:
        async with self._slots:
            return await self._within_time(self._scores(request, texts))

    async def _scores(self, request: Request, texts: list[str]) -> list[float]:
        await self._look()
        if not self._dialect.scores:
            raise EngineError(f"{self._endpoint.where} gives no log-probabilities of given texts ({self._dialect.name} has no way to ask).")
        return await self._tokens.score(request, texts, template_fields(request, self._dialect))

    async def _shorter(self, request: Request, refused: Refused, prompt: int | None, context: int) -> Request:
        """The request with the tokens that there is room for, as every engine gives them."""
        if self._dialect.token_ids and not self._learned.no_tokenizer:
            prompt = len(await self._prompt_ids(request))
        if prompt is None:
            raise refused
        self._context = context
        room = context - prompt - request.reserve
        if room < 1:
            raise ContextTooLong(prompt, context, self._name)
        if room >= request.sampling.max_tokens:
            raise refused
        return replace(request, sampling=replace(request.sampling, max_tokens=room))

    async def _post(self, path: str, body: dict[str, Any]) -> object:
        try:
            return await self._client.post(path, body=body, cast_to=object)
        except Exception as error:
            raise explained(error, self._endpoint) from None

    async def _stream(self, path: str, body: dict[str, Any], hearing: Hearing) -> list[Completion]:
        from openai import AsyncStream

        options = {"stream_options": {"include_usage": True}} if self._dialect.stream_options else {}
        try:
            events = await self._client.post(
                path, body={**body, "stream": True, **options}, cast_to=object, stream=True, stream_cls=AsyncStream[object]
            )
            async with events:
                async for event in events:
                    hearing.take(event)
        except Exception as error:
            raise explained(error, self._endpoint) from None
        return hearing.completions()

    async def _look(self) -> None:
        """Asks the server once what it is and how long its context is; a server that does not say is taken as it comes."""
        if not self._looked and (self._dialect.token_ids or not self._dialect.known):
            async with self._looking:
                await self._look_once()

    async def _look_once(self) -> None:
        if self._looked:
            return
        client = self._client.with_options(max_retries=0, timeout=_LOOK_SECONDS)
        try:
            answer: object = await client.get("/models", cast_to=object)
        except Exception as error:
            self._looked = not never_connected(error)
            return
        self._looked = True
        self._learn_models(answer)

    def _learn_models(self, answer: object) -> None:
        models = answer.get("data") if isinstance(answer, dict) else None
        entries = [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []
        mine = next((model for model in entries if model.get("id") == self._endpoint.model), entries[0] if entries else {})
        if not self._dialect.known:
            self._dialect = dialect_of_owner(str(mine.get("owned_by"))) or self._dialect
        meta = mine.get("meta")
        length = mine.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
        self._context = length if isinstance(length, int) else self._context


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
