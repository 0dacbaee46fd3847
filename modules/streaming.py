"""Streams of programs in DSPy's words: `streamify`, listeners, status messages, server-sent events.

Knows no engine. The pieces are those of `field_stream`; here they get the names and the order that DSPy's users write for.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from homefire.engine.callbacks import BaseCallback, Inputs, ambient_callbacks
from homefire.errors import ConfigError
from homefire.modules.field_stream import FieldDelta, Restarted, astream, current_reader, stream
from homefire.modules.module import Module, Predictor
from homefire.modules.settings import context
from homefire.modules.stored_trace import as_plain, name_of_tool
from homefire.modules.trace import current_trace, record
from homefire.modules.waiting import asyncify, in_background, is_asynchronous


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """A piece of an output."""

    predict_name: str
    """Dotted path of the predictor in the program, `self` for one that is called alone."""
    signature_field_name: str
    chunk: str
    is_last_chunk: bool
    """Whether the output is complete; such a piece may be empty."""


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """What a program is doing."""

    message: str


class StatusMessageProvider:
    """Says what a program is doing. Write the methods that you need; None says nothing."""

    def tool_start_status_message(self, instance: Any, inputs: Inputs) -> str | None:
        return f"Calling the tool {name_of_tool(instance)} ..."

    def tool_end_status_message(self, outputs: Any) -> str | None:
        return "The tool has answered."

    def module_start_status_message(self, instance: Any, inputs: Inputs) -> str | None: ...
    def module_end_status_message(self, outputs: Any) -> str | None: ...
    def lm_start_status_message(self, instance: Any, inputs: Inputs) -> str | None: ...
    def lm_end_status_message(self, outputs: Any) -> str | None: ...


class StreamListener:
    """Which output is streamed.

    Args:
        signature_field_name: Name of the output.
        predict: The predictor whose output it is, where several have one of this name.
        predict_name: Its dotted path instead, as in `named_predictors`.
        allow_reuse: Whether every call of the predictor is streamed, rather than its first one only.
    """

    def __init__(
        self, signature_field_name: str, predict: Predictor | None = None, predict_name: str | None = None, allow_reuse: bool = False
    ) -> None:
        self.signature_field_name = signature_field_name
        self.predict = predict
        self.predict_name = predict_name
        self.allow_reuse = allow_reuse


Program = Callable[..., Any]
Item = StreamResponse | StatusMessage | Restarted | Any
"""What a stream yields; the last is the program's prediction."""


def streamify(
    program: Program,
    status_message_provider: StatusMessageProvider | None = None,
    stream_listeners: Sequence[StreamListener] | None = None,
    include_final_prediction_in_output_stream: bool = True,
    is_async_program: bool = False,
    async_streaming: bool = True,
) -> Callable[..., Any]:
    """A program whose call yields what it writes while it runs, and the prediction last.

    Pieces come as `StreamResponse`, also where the response cache answers. Where an answer is void and asked for again, a `Restarted`
    comes, and the pieces of that predictor begin anew.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> from homefire.modules.predict import Predict
    >>> predict = Predict("question -> answer")
    >>> predict.lm = ScriptedLM(['{"answer": "Rome"}'])
    >>> call = streamify(predict, stream_listeners=[StreamListener("answer")], async_streaming=False)
    >>> "".join(piece.chunk for piece in call(question="Capital of Italy?") if isinstance(piece, StreamResponse))
    'Rome'

    Args:
        program: A module, or a function, asynchronous or not.
        status_message_provider: Says what is going on; the default one tells of tools.
        stream_listeners: What is streamed; all outputs of all predictors if there are none.
        include_final_prediction_in_output_stream: Whether the prediction comes too.
        is_async_program: Whether a module is to be awaited, by its `acall`, rather than called.
        async_streaming: Whether the stream is for `async for`, otherwise for `for`.

    Raises:
        ConfigError: a listener for an output that no predictor has, or that several have.
    """
    streaming = _Streaming(
        program,
        status_message_provider or StatusMessageProvider(),
        _Wanted(program, stream_listeners or ()),
        include_final_prediction_in_output_stream,
        is_asynchronous(program, is_async_program),
    )
    return streaming.for_tasks if async_streaming else streaming.for_loops


def apply_sync_streaming(async_generator: AsyncIterator[Any]) -> Iterator[Any]:
    """The items of an asynchronous stream for a plain `for`; it runs on a thread and an event loop of its own."""
    return in_background(async_generator)


async def streaming_response(streamer: AsyncIterator[Any]) -> AsyncIterator[str]:
    """The items of a stream as server-sent events, each a line of JSON, with `[DONE]` last.

    A piece is `{"chunk": {...}}`, a status `{"status": "..."}`, the prediction `{"prediction": {...}}`.
    """
    async for item in streamer:
        yield f"data: {json.dumps(_event(item), ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"


def _event(item: Any) -> Mapping[str, Any]:
    match item:
        case StreamResponse():
            return {"chunk": asdict(item)}
        case StatusMessage():
            return {"status": item.message}
        case Restarted():
            return {"restarted": item.path}
        case _:
            return {"prediction": as_plain(item)}


@dataclass(frozen=True, slots=True)
class _Made:
    """What the program returned, which may be anything."""

    value: Any


@dataclass(frozen=True, slots=True)
class _PredictorEnded:
    path: str


@dataclass(frozen=True, slots=True)
class _Streaming:
    """What `streamify` makes."""

    program: Program
    provider: StatusMessageProvider
    wanted: _Wanted
    with_prediction: bool
    awaited: bool

    async def for_tasks(self, *args: Any, **kwargs: Any) -> AsyncIterator[Item]:
        """Runs the program, for `async for`."""
        call = asyncify(self.program)
        if self.awaited:
            call = self.program.acall if isinstance(self.program, Module) else self.program
        sorting = self.wanted.sorting()

        async def run() -> Any:
            with _watched(self.program, self.provider):
                return _Made(await call(*args, **kwargs))

        async for piece in astream(run):
            for item in sorting.sort(piece, self.with_prediction):
                yield item

    def for_loops(self, *args: Any, **kwargs: Any) -> Iterator[Item]:
        """Runs the program, for `for`."""
        if self.awaited:
            yield from apply_sync_streaming(self.for_tasks(*args, **kwargs))
            return
        sorting = self.wanted.sorting()

        def run() -> Any:
            with _watched(self.program, self.provider):
                return _Made(self.program(*args, **kwargs))

        for piece in stream(run):
            yield from sorting.sort(piece, self.with_prediction)


class _watched:
    """Runs a block so that the stream hears of statuses and of the end of predictors, under the paths of the program."""

    def __init__(self, program: Program, provider: StatusMessageProvider) -> None:
        self._program = program
        self._provider = provider

    def __enter__(self) -> None:
        self._record = record()
        trace = self._record.__enter__()
        if isinstance(self._program, Module):
            trace.name(self._program, self._program.named_predictors(frozen=True))
        self._context = context(callbacks=[*ambient_callbacks.get(), _Watcher(self._provider)])
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(None, None, None)
        self._record.__exit__(None, None, None)


class _Watcher(BaseCallback):
    """Tells the stream of its context what it hears."""

    def __init__(self, provider: StatusMessageProvider) -> None:
        self._provider = provider
        self._predictors: dict[str, Predictor] = {}

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        if isinstance(instance, Predictor):
            self._predictors[call_id] = instance
        _say(self._provider.module_start_status_message(instance, inputs))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        predictor, trace = self._predictors.pop(call_id, None), current_trace()
        if predictor is not None and trace is not None:
            _tell(_PredictorEnded(trace.path_of(predictor)))
        _say(self._provider.module_end_status_message(outputs))

    def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        _say(self._provider.lm_start_status_message(instance, inputs))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        _say(self._provider.lm_end_status_message(outputs))

    def on_tool_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        _say(self._provider.tool_start_status_message(instance, inputs))

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        _say(self._provider.tool_end_status_message(outputs))


def _say(message: str | None) -> None:
    if message:
        _tell(StatusMessage(message))


def _tell(piece: object) -> None:
    tell: Callable[[Any], None] | None = current_reader()
    if tell is not None:
        tell(piece)


class _Wanted:
    """Which outputs of which predictors are streamed."""

    def __init__(self, program: Program, listeners: Sequence[StreamListener]) -> None:
        self._named = program.named_predictors(frozen=True) if isinstance(program, Module) else []
        self._all = not listeners
        self._reused = {self._place(listener): listener.allow_reuse for listener in listeners}

    def sorting(self) -> _Sorting:
        return _Sorting(None if self._all else self._reused)

    def _place(self, listener: StreamListener) -> tuple[str | None, str]:
        """The path and the output that a listener is for; without a path where the predictors are not known."""
        name = listener.signature_field_name
        if listener.predict_name is not None:
            path = listener.predict_name.removeprefix("self.") or "self"
            if self._named and path not in dict(self._named):
                raise ConfigError(f"There is no predictor {path!r}; the program has {', '.join(path for path, _ in self._named)}.")
            return path, name
        if not self._named:
            return None, name
        of = [path for path, one in self._named if listener.predict in (None, one) and name in one.signature.output_fields]
        if len(of) == 1:
            return of[0], name
        known = ", ".join(f"{path}.{field}" for path, one in self._named for field in one.signature.output_fields)
        if not of:
            raise ConfigError(f"No predictor has the output {name!r} that a StreamListener is for; there are {known}.")
        raise ConfigError(
            f"The predictors {', '.join(of)} all have an output {name!r}. Say which: StreamListener({name!r}, predict_name={of[0]!r})."
        )


class _Sorting:
    """Turns the pieces of one run into what its stream yields."""

    def __init__(self, reused: Mapping[tuple[str | None, str], bool] | None) -> None:
        self._reused = reused
        self._open: dict[str, str] = {}
        """The output that each predictor is writing."""
        self._done: set[tuple[str, str]] = set()

    def sort(self, piece: Any, with_prediction: bool) -> Iterator[Item]:
        match piece:
            case FieldDelta(thinking=True):
                return
            case FieldDelta():
                yield from self._delta(piece)
            case _PredictorEnded():
                yield from self._close(piece.path)
            case Restarted():
                if self._open.pop(piece.path, None) is not None or any(path == piece.path for path, _ in self._done):
                    self._done = {one for one in self._done if one[0] != piece.path}
                    yield piece
            case _Made():
                for path in list(self._open):
                    yield from self._close(path)
                if with_prediction:
                    yield piece.value
            case _:
                yield piece

    def _delta(self, piece: FieldDelta) -> Iterator[Item]:
        if self._open.get(piece.path, piece.field) != piece.field:
            yield from self._close(piece.path)
        if self._wants(piece.path, piece.field):
            self._open[piece.path] = piece.field
            yield StreamResponse(piece.path, piece.field, piece.text, False)

    def _close(self, path: str) -> Iterator[Item]:
        name = self._open.pop(path, None)
        if name is not None:
            self._done.add((path, name))
            yield StreamResponse(path, name, "", True)

    def _wants(self, path: str, name: str) -> bool:
        if self._reused is None:
            return True
        place = (path, name) if (path, name) in self._reused else (None, name)
        return place in self._reused and (self._reused[place] or (path, name) not in self._done)
