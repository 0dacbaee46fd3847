"""An engine in this process: one batch for all threads and tasks of the program, computed on a thread of its own.

Knows neither vLLM nor transformers: a Backend does the computing. On one device no child process is started, so plain scripts need no
main guard and nothing can be orphaned.
"""

from __future__ import annotations

import atexit
import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from homefire.engine.merge import merged_checkpoint
from homefire.engine.prompt import PromptEncoder
from homefire.engine.protocol import EngineInfo
from homefire.engine.request import AdapterRef, Completion, Request, Sampling
from homefire.engine.settings import ChosenSettings
from homefire.errors import EngineError, HomefireError

Answer = Future[list[Completion]]


@dataclass(eq=False)
class _Job:
    """A request on its way through the engine."""

    request: Request
    prompt_ids: list[int]
    max_tokens: int
    future: Answer
    submitted: float


class Backend(Protocol):
    """A loaded model that computes step by step. All calls come from one thread."""

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request) -> None:
        """Puts a request into the batch; `sampling` is the request's own with the tokens that there is room for."""
        ...

    def step(self) -> list[tuple[str, list[Completion] | Exception]]:
        """Computes on; returns the requests that ended, or failed alone. Texts may be left empty, then the token ids are decoded."""
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
            settings=self._settings.in_words(),
        )

    def submit(self, request: Request) -> Answer:
        self._check_alive()
        prompt_ids = self._encoder.encode_request(request)
        max_tokens = self._encoder.room(request, len(prompt_ids), self._settings.context, self._name)
        job = _Job(request, prompt_ids, max_tokens, Future(), time.perf_counter())
        job.future.add_done_callback(lambda future: self._inbox.put(lambda: self._forget(job)) if future.cancelled() else None)
        self._put(lambda: self._waiting.append(job))
        return job.future

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
                self._backend.add(request_id, job.prompt_ids, replace(job.request.sampling, max_tokens=job.max_tokens), job.request)
                self._running[request_id] = job
            except Exception as error:
                if self._waiting and self._waiting[0] is job:
                    self._waiting.popleft()
                _settle(job.future, error=self._explained(error))

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
        for request_id, completions in self._backend.step():
            self._finish(request_id, completions)

    def _finish(self, request_id: str, completions: list[Completion] | Exception) -> None:
        job = self._running.pop(request_id, None)
        if job is None:
            return
        if isinstance(completions, Exception):
            _settle(job.future, error=self._explained(completions))
            return
        if any(one.finish_reason == "aborted" for one in completions):
            problem = f"{self._settings.backend} gave a request up without an answer. HOMEFIRE_VERBOSE=1 shows its own log."
            _settle(job.future, error=EngineError(problem))
            return
        seconds = time.perf_counter() - job.submitted
        texts = [replace(one, text=one.text or self._encoder.decode(one.token_ids), seconds=seconds) for one in completions]
        _settle(job.future, result=texts)

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


def _settle(future: Answer, *, result: list[Completion] | None = None, error: BaseException | None = None) -> None:
    """Sets a future that its owner may have cancelled meanwhile."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result or [])
    except InvalidStateError:
        pass
