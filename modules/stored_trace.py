"""A program's run as a trace store keeps it: values as JSON, and back to steps.

Knows no database and no thread. Nothing is ever pickled; a value that JSON cannot say stands as its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_json, to_jsonable_python

from homefire.engine.request import Completion, Message
from homefire.engine.usage import ModelUsage
from homefire.modules.described_types import describe_signature
from homefire.modules.example import CallInfo, Example, Prediction
from homefire.modules.module import Predictor
from homefire.modules.portable_types import portable
from homefire.modules.signature import Signature
from homefire.modules.trace import Step, Trace

Body = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a module or tool inside a run."""

    id: str
    parent: str | None
    kind: str
    """`module` or `tool`."""
    name: str
    started: float
    seconds: float
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Of tools, and of modules that call no model; what others were called with is in their steps."""
    outputs: Any = None
    """Likewise."""
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody said of a run afterwards."""

    score: float | None = None
    """By convention 0 is useless and 1 is right."""
    text: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Outputs as they should have been."""
    at: float = 0.0
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """A stored run in a line."""

    id: str
    program: str
    started: float
    seconds: float
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    error: str | None
    score: float | None
    """Of the last feedback that has one."""
    steps: int
    models: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A whole stored run."""

    summary: TraceSummary
    steps: tuple[Step, ...]
    """In the order in which they ended, failed ones included."""
    calls: tuple[Call, ...]
    feedback: tuple[Feedback, ...]

    @property
    def id(self) -> str:
        return self.summary.id

    @property
    def score(self) -> float | None:
        return self.summary.score

    @property
    def example(self) -> Example:
        """Inputs and outputs of the run; labels that came as feedback stand in place of what was answered."""
        corrected = {name: value for one in self.feedback for name, value in one.labels.items()}
        return Example({**self.summary.inputs, **self.summary.outputs, **corrected}).with_inputs(*self.summary.inputs)


@dataclass(slots=True, kw_only=True)
class Run:
    """A run that is being recorded."""

    program: str
    call_id: str
    inputs: Mapping[str, Any]
    started: float
    trace: Trace
    outputs: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    calls: list[Call] = field(default_factory=list)

    def rows(self, clean: Callable[[Any], Any]) -> Rows:
        """What is written of the run; `clean` takes out of a body what is not to be kept."""
        signatures: dict[str, str] = {}
        steps = [self._step_row(position, step, signatures, clean) for position, step in enumerate(self.trace.calls)]
        usage = ModelUsage()
        for step in self.trace.steps:
            usage.prompt_tokens += step.usage.prompt_tokens
            usage.completion_tokens += step.usage.completion_tokens
        head = clean({"inputs": self.inputs, "outputs": self.outputs, "error": self.error})
        calls = as_json([clean(call) for call in self.calls])
        models = as_json(sorted({f"{step.model}" for step in self.trace.calls}))
        texts = [as_json(head["inputs"]), as_json(head["outputs"]), calls, models]
        size = sum(map(len, texts)) + sum(len(str(row[-1])) for row in steps)
        trace = (
            *(self.trace.id, self.program, self.started, self.seconds, *texts, head["error"], len(steps)),
            *(usage.prompt_tokens, usage.completion_tokens, size),
        )
        return Rows(trace=trace, steps=steps, signatures=signatures, size=size)

    def _step_row(self, position: int, step: Step, signatures: dict[str, str], clean: Callable[[Any], Any]) -> tuple[Any, ...]:
        described = _described(step.signature)
        key = hashlib.blake2b(described.encode(), digest_size=12).hexdigest()
        signatures[key] = described
        body = clean(_step_body(step))
        error = body.pop("error")
        facts = (step.id, step.path, key, step.model, step.adapter, step.started, step.seconds, error)
        return (self.trace.id, position, *facts, as_json(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A run as rows of the tables, in the order of their columns."""

    trace: tuple[Any, ...]
    steps: list[tuple[Any, ...]]
    signatures: Mapping[str, str]
    size: int
    """About how many bytes it takes."""


def as_json(value: Any) -> str:
    """A value as JSON text."""
    try:
        return to_json(value, by_alias=True, inf_nan_mode="constants", bytes_mode="base64", fallback=_fallback).decode()
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_as_text(value, 0), ensure_ascii=True)


def as_plain(value: Any) -> Any:
    """A value as JSON knows it, in Python."""
    return to_jsonable_python(value, by_alias=True, inf_nan_mode="constants", bytes_mode="base64", fallback=_fallback)


def name_of_tool(tool: Any) -> str:
    """A tool's name: any callable may be called as one."""
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", None) or type(tool).__name__)


def typed_step(body: Body, signature: type[Signature], columns: Mapping[str, Any], predictor: Predictor | None) -> Step:
    """The step of a stored body, its values with the types of the signature."""
    completions = tuple(_completion(one) for one in body["completions"])
    prediction = Prediction(_typed(body["outputs"], signature))
    prediction._info = CallInfo(**body["info"])
    prediction._cut_off, prediction._thinking, prediction._trace_id = body["cut_off"], body["thinking"], columns["trace"]
    return Step(
        path=columns["path"],
        signature=signature,
        inputs=_typed(body["inputs"], signature),
        prediction=prediction,
        messages=tuple(Message(one["role"], one["content"]) for one in body["messages"]),
        completions=completions,
        model=columns["model"],
        adapter=columns["adapter"],
        answer=body["answer"],
        id=columns["id"],
        call_id=body["call_id"],
        started=columns["started"],
        seconds=columns["seconds"],
        error=columns["error"],
        predictor=predictor,
    )


def call_of(body: Body) -> Call:
    """The call of a stored body."""
    return Call(**body)


_descriptions: WeakKeyDictionary[type[Signature], str] = WeakKeyDictionary()


def _described(signature: type[Signature]) -> str:
    known = _descriptions.get(signature)
    if known is None:
        known = _descriptions[signature] = as_json(describe_signature(signature))
    return known


def _step_body(step: Step) -> Body:
    return {
        "inputs": step.inputs,
        "outputs": dict(step.prediction.items()),
        "answer": step.answer,
        "thinking": step.prediction._thinking,
        "cut_off": step.prediction._cut_off,
        "error": step.error,
        "call_id": step.call_id,
        "messages": [{"role": message.role, "content": message.content} for message in step.messages],
        "completions": step.completions,
        "info": step.prediction._info,
    }


def _completion(body: Body) -> Completion:
    logprobs = body["logprobs"]
    return Completion(**{**body, "token_ids": tuple(body["token_ids"]), "logprobs": None if logprobs is None else tuple(logprobs)})


def _typed(values: Mapping[str, Any], signature: type[Signature]) -> dict[str, Any]:
    return {name: _value(value, signature.fields[name].type) if name in signature.fields else value for name, value in values.items()}


def _value(value: Any, annotation: Any) -> Any:
    """A JSON value with its type; as it is where it has another one."""
    try:
        return TypeAdapter(portable(annotation)).validate_json(json.dumps(value))
    except Exception:
        return value


def _fallback(value: Any) -> Any:
    """What stands for a value that pydantic cannot write."""
    return dict(value.items()) if isinstance(value, Example) else str(value)


def _as_text(value: Any, depth: int) -> Any:
    """The value with text in place of whatever JSON does not know; for what pydantic gives up on."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if depth > 20:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _as_text(item, depth + 1) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | BaseModel):
        return [_as_text(item, depth + 1) for item in value]
    return repr(value)
