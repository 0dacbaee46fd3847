"""A trace store: every call of a program as one trace in a SQLite file, written behind the program and read by people and optimizers.

Knows no optimizer. Programs in production append without waiting; the file is bounded by size and age, and safe with several processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from homefire.configs.home import home
from homefire.engine.callbacks import ACTIVE_CALL_ID, BaseCallback, Inputs, ambient_callbacks
from homefire.engine.threads import carry_into_threads
from homefire.modules import trace_reader
from homefire.modules.example import Example, Prediction
from homefire.modules.module import Module, Predictor
from homefire.modules.redaction import Redact
from homefire.modules.settings import context
from homefire.modules.stored_trace import Call, Run, StoredTrace, TraceSummary, name_of_tool
from homefire.modules.trace import MOST_STEPS, Step, Trace, ambient_trace, current_trace, snapshot
from homefire.modules.trace_database import opened
from homefire.modules.trace_reader import StoredCounts, Which
from homefire.modules.trace_writer import TraceWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStats:
    """What a store holds, and what became of the runs of this process."""

    traces: int
    steps: int
    feedback: int
    bytes: int
    """Of the file, with the log beside it."""
    waiting: int
    """Runs of this process that are not written yet."""
    dropped: int
    """Runs of this process that came faster than the disk could take them."""
    lost: int
    """Runs of this process that could not be written."""
    problem: str | None
    """What went wrong last."""


class TraceStore(BaseCallback):
    """Keeps what programs do. It is a callback: every outermost call of a module becomes one trace.

    >>> store = TraceStore()  # doctest: +SKIP
    >>> homefire.configure(callbacks=[store])  # doctest: +SKIP
    >>> prediction = program(question="...")  # doctest: +SKIP
    >>> store.feedback(prediction.trace_id, score=1.0)  # doctest: +SKIP

    Args:
        path: The file; without one `traces.db` in homefire's folder.
        max_bytes: About as much is kept on disk; the oldest runs go first.
        max_days: Older runs are removed.
        redact: What is private: names of inputs and outputs, which are left out together with their texts wherever those stand, or a
            function that every text goes through.
        max_waiting: Runs that may wait to be written; further ones are dropped and counted.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        max_bytes: int = 1_000_000_000,
        max_days: float = 90.0,
        redact: Redact = (),
        max_waiting: int = 2000,
    ) -> None:
        self.path = home() / "traces.db" if path is None else Path(path)
        self._writer = TraceWriter(
            self.path, limit_bytes=max_bytes, limit_seconds=max_days * 86400, redact=redact, most_waiting=max_waiting
        )
        self._run: ContextVar[_Recording | None] = ContextVar("homefire_trace_run", default=None)

    @contextmanager
    def recording(self) -> Iterator[TraceStore]:
        """Keeps every run of a block, those of threads and tasks that it starts included, and waits at its end until all is written."""
        try:
            with context(callbacks=[*ambient_callbacks.get(), self]):
                yield self
        finally:
            self.flush()

    def flush(self, seconds: float = 30.0) -> bool:
        """Waits until all runs of this process are written or counted as lost; false where that took too long."""
        return self._writer.flush(seconds)

    def close(self) -> None:
        """Writes what is waiting and ends the thread; also done when the process ends. The store may be used again."""
        self._writer.close()

    def feedback(self, trace_id: str, *, score: float | None = None, text: str = "", labels: Mapping[str, Any] | None = None) -> None:
        """Notes what somebody says of a run.

        Args:
            trace_id: `prediction.trace_id`.
            score: By convention 0 is useless and 1 is right.
            text: In words.
            labels: Outputs as they should have been.

        Raises:
            InputError: no such trace, or a score that is no number.
        """
        self.flush()
        with opened(self.path) as connection:
            trace_reader.add_feedback(connection, trace_id, score, text, labels or {})

    def get(self, trace_id: str, program: Module | None = None) -> StoredTrace:
        """A whole run.

        Args:
            trace_id: Its id, or the beginning of it.
            program: Gives steps the signatures and predictors of its paths, instead of those that the file describes.

        Raises:
            InputError: no such trace, or several that begin so.
        """
        self.flush()
        with opened(self.path) as connection:
            return trace_reader.read(connection, trace_reader.whole_id(connection, trace_id), _predictors(program))

    def find(
        self,
        *,
        since: datetime | timedelta | float | None = None,
        until: datetime | float | None = None,
        program: str | None = None,
        min_score: float | None = None,
        failed: bool | None = None,
        limit: int | None = None,
    ) -> list[TraceSummary]:
        """Runs in a line each, the newest first.

        Args:
            since: Began at this time or later: a time, so long ago, or seconds since 1970.
            until: Began before this time.
            program: Name of the program's class.
            min_score: The last score of its feedback is at least this.
            failed: Only runs that failed, or only others.
            limit: Most runs.
        """
        which = Which(since=_seconds(since), until=_seconds(until), program=program, min_score=min_score, failed=failed, limit=limit)
        self.flush()
        with opened(self.path) as connection:
            return trace_reader.summaries(connection, which)

    def traces(self, *, like: Module | None = None, **which: Any) -> Iterator[StoredTrace]:
        """Whole runs, the oldest first.

        Args:
            like: A program that gives steps its signatures and predictors.
            which: As `find` takes it.
        """
        for summary in reversed(self.find(**which)):
            with opened(self.path) as connection:
                found = trace_reader.read_if_there(connection, summary.id, _predictors(like))
            if found is not None:
                yield found

    def steps(self, *, like: Module | None = None, **which: Any) -> Iterator[Step]:
        """The steps of `traces` that were answered."""
        for trace in self.traces(like=like, **which):
            yield from (step for step in trace.steps if step.error is None)

    def examples(self, **which: Any) -> list[Example]:
        """Inputs and outputs of whole runs that ended well; labels that came as feedback stand in place of what was answered."""
        return [trace.example for trace in self.traces(**{"failed": False, **which})]

    def stats(self) -> StoreStats:
        """Counts what is there."""
        writer = self._writer
        self.flush()
        counts = StoredCounts()
        if self.path.exists():
            with opened(self.path) as connection:
                counts = trace_reader.counts(connection)
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return StoreStats(
            traces=counts.traces,
            steps=counts.steps,
            feedback=counts.feedback,
            bytes=sum(file.stat().st_size for file in files if file.exists()),
            waiting=writer.waiting,
            dropped=writer.dropped,
            lost=writer.lost,
            problem=writer.problem,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> TraceStore:
        return self

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a run, or a call in one."""
        recording = self._run.get()
        if recording is not None:
            given = snapshot(dict(inputs)) if _has_no_steps(instance) else {}
            recording.open[call_id] = _Open("module", type(instance).__name__, ACTIVE_CALL_ID.get(), time.perf_counter(), given)
            return
        carry_into_threads()
        trace = Trace(outer=current_trace(), most=MOST_STEPS)
        if isinstance(instance, Module):
            trace.name(instance, instance.named_predictors(frozen=True))
        run = Run(program=_name(instance), call_id=call_id, inputs=snapshot(dict(inputs)), started=time.time(), trace=trace)
        recording = _Recording(run, ambient_trace.block(trace), time.perf_counter())
        self._run.set(recording)
        recording.block.__enter__()

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends what began under this id."""
        recording = self._run.get()
        if recording is None:
            return
        if recording.run.call_id != call_id:
            opened = recording.open.get(call_id)
            recording.ended(call_id, _given_by(outputs) if opened is not None and opened.inputs else None, exception)
            return
        self._run.set(None)
        with suppress(ValueError):  # ended in another context than it began in, which then ends with it
            recording.block.__exit__(None, None, None)
        run = recording.run
        run.seconds = time.perf_counter() - recording.began
        if exception is not None:
            run.error = f"{type(exception).__name__}: {exception}"
        elif isinstance(outputs, Prediction):
            outputs._trace_id = run.trace.id
            run.outputs = snapshot(dict(outputs.items()))
        elif outputs is not None:
            run.outputs = {"output": snapshot(outputs)}
        self._writer.append(run)

    def on_tool_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a tool's call in a run."""
        if (recording := self._run.get()) is not None:
            given = snapshot(dict(inputs))
            recording.open[call_id] = _Open("tool", name_of_tool(instance), ACTIVE_CALL_ID.get(), time.perf_counter(), given)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends a tool's call."""
        if (recording := self._run.get()) is not None:
            recording.ended(call_id, snapshot(outputs), exception)


@dataclass(frozen=True, slots=True)
class _Open:
    """A call that has not ended."""

    kind: str
    name: str
    parent: str | None
    began: float
    inputs: Mapping[str, Any]


@dataclass(slots=True)
class _Recording:
    """A run in progress."""

    run: Run
    block: AbstractContextManager[None]
    began: float
    open: dict[str, _Open] = field(default_factory=dict)

    def ended(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        call = self.open.pop(call_id, None)
        if call is None or len(self.run.calls) >= MOST_STEPS:
            return
        self.run.calls.append(
            Call(
                id=call_id,
                parent=call.parent,
                kind=call.kind,
                name=call.name,
                started=self.run.started + call.began - self.began,
                seconds=time.perf_counter() - call.began,
                inputs=call.inputs,
                outputs=outputs,
                error=None if exception is None else f"{type(exception).__name__}: {exception}",
            )
        )


def _has_no_steps(instance: object) -> bool:
    """Whether no step tells what a module was called with and what it gave: it calls no model, a retriever for instance."""
    return not isinstance(instance, Module) or not instance.named_predictors(frozen=True)


def _given_by(outputs: object) -> Any:
    """What a module without steps gave; passages once, with their scores where they have some."""
    if not isinstance(outputs, Prediction):
        return snapshot(outputs)
    return snapshot({name: value for name, value in outputs.items() if not (name == "passages" and "hits" in outputs)})


def _name(instance: object) -> str:
    if not isinstance(instance, Predictor):
        return type(instance).__name__
    signature = instance.signature
    return f"{type(instance).__name__}({', '.join(signature.input_fields)} -> {', '.join(signature.output_fields)})"


def _predictors(program: Module | None) -> dict[str, Predictor]:
    return {} if program is None else dict(program.named_predictors(frozen=True))


def _seconds(when: datetime | timedelta | float | None) -> float | None:
    match when:
        case datetime():
            return when.timestamp()
        case timedelta():
            return time.time() - when.total_seconds()
        case _:
            return when
