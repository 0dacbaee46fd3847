"""OpenTelemetry: a span for every call of a program, under OpenInference's names, for whatever viewer the user already runs.

Knows no viewer and sends nothing anywhere: spans go to the tracer provider that the user has set up, and nowhere if there is none.
Names are those of the OpenInference semantic conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from homefire.engine.batch import Texts
from homefire.engine.callbacks import ACTIVE_CALL_ID, BaseCallback, Inputs, ambient_callbacks
from homefire.engine.request import Completion, Message, Request, Sampling
from homefire.engine.usage import tokens_of
from homefire.errors import MissingExtra
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.settings import configure
from homefire.modules.stored_trace import as_json, name_of_tool
from homefire.retrieval.found import Found
from homefire.retrieval.hit import Hit
from homefire.retrieval.passage import Passage

_PLAIN = asdict(Sampling())
Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Open:
    """A span that has not ended."""

    span: Any
    before: Any
    """OpenTelemetry's context outside the span; None where the span is not the current one of its context."""
    instance: Any


class OpenTelemetry(BaseCallback):
    """Makes spans of the calls of modules, LMs, tools, interpreters, evaluations and compilations, nested as they are, also across threads.

    >>> homefire.configure(callbacks=[homefire.OpenTelemetry()])  # doctest: +SKIP

    Args:
        tracer_provider: Takes the spans; without one the provider that is set for the process.
        content: Whether spans carry prompts, inputs, outputs and messages of errors; without it names, counts, times and failures only.

    Raises:
        MissingExtra: the packages of OpenTelemetry are not installed.
    """

    def __init__(self, tracer_provider: Any = None, *, content: bool = True) -> None:
        try:
            from opentelemetry import context, trace
        except ImportError as error:
            raise MissingExtra("opentelemetry-sdk", "otel", "Making spans") from error
        self.content = content
        self._api, self._context = trace, context
        self._tracer = trace.get_tracer("homefire", tracer_provider=tracer_provider)
        self._open: dict[str, _Open] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenTelemetry:
        return self

    def on_module_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of a module."""
        self._begin(call_id, type(instance).__name__, "CHAIN", instance, self._given(inputs))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it; a module that gives passages and has no predictor is a retriever."""
        found = self._made(outputs)
        if isinstance(outputs, Prediction):
            found |= {} if outputs._trace_id is None else {"homefire.trace_id": outputs._trace_id}
            opened, passages = self._open.get(call_id), outputs.get("hits", outputs.get("passages"))
            if opened is not None and isinstance(passages, list | Found) and _only_retrieves(opened.instance):
                found |= {"openinference.span.kind": "RETRIEVER", **(_documents(passages) if self.content else {})}
        self._end(call_id, found, exception)

    def on_lm_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of a language model's call."""
        request: Request = inputs["request"]
        sampling = {name: value for name, value in asdict(request.sampling).items() if value != _PLAIN[name] or name == "max_tokens"}
        found: Attributes = {"llm.model_name": str(instance), "llm.invocation_parameters": as_json(sampling)}
        if request.adapter is not None:
            found["metadata"] = as_json({"adapter": str(request.adapter)})
        if self.content:
            found |= _messages("llm.input_messages", request.messages)
            found |= self._given({"messages": [{"role": one.role, "content": one.content} for one in request.messages]})
        self._begin(call_id, "LM", "LLM", instance, found, current=False)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it with what it took."""
        found: Attributes = {}
        if isinstance(outputs, Texts):
            found |= _counts(outputs.completions)
            if self.content:
                found |= _messages("llm.output_messages", [Message("assistant", text) for text in outputs])
                found |= {"output.value": outputs[0] if len(outputs) == 1 else as_json(list(outputs))}
        self._end(call_id, found, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of a tool's call."""
        name = name_of_tool(instance)
        found = {"tool.name": name, **self._given(inputs)}
        if self.content:
            found["tool.parameters"] = as_json(dict(inputs))
        self._begin(call_id, name, "TOOL", instance, found)

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it."""
        self._end(call_id, self._made(outputs), exception)

    def on_interpreter_execute_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of a snippet of code."""
        name = type(instance).__name__
        self._begin(call_id, name, "TOOL", instance, {"tool.name": name, **self._given(inputs)})

    def on_interpreter_execute_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it."""
        self._end(call_id, self._made(outputs), exception)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of an evaluation; its examples are in the spans of the program's calls."""
        self._begin(call_id, type(instance).__name__, "EVALUATOR", instance, {})

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it."""
        self._end(call_id, {} if outputs is None else {"output.value": str(outputs)[:1000]} if self.content else {}, exception)

    def on_compile_start(self, call_id: str, instance: Any, inputs: Inputs) -> None:
        """Begins a span of an optimizer's work."""
        self._begin(call_id, f"{type(instance).__name__}.compile", "CHAIN", instance, {})

    def on_compile_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Ends it."""
        self._end(call_id, {}, exception)

    def _begin(self, call_id: str, name: str, kind: str, instance: Any, found: Attributes, *, current: bool = True) -> None:
        """Starts a span under that of the call around it, otherwise under the user's own."""
        parent = self._open.get(ACTIVE_CALL_ID.get() or "")
        around = None if parent is None else self._api.set_span_in_context(parent.span)
        span = self._tracer.start_span(name, context=around, attributes={"openinference.span.kind": kind, **found})
        before = None
        if current:
            before = self._context.get_current()
            self._context.attach(self._api.set_span_in_context(span, before))
        self._open[call_id] = _Open(span, before, instance)

    def _end(self, call_id: str, found: Attributes, exception: BaseException | None) -> None:
        opened = self._open.pop(call_id, None)
        if opened is None:
            return
        span = opened.span
        if opened.before is not None and self._api.get_current_span() is span:
            self._context.attach(opened.before)
        for name, value in found.items():
            span.set_attribute(name, value)
        if exception is None:
            span.set_status(self._api.StatusCode.OK)
        elif self.content:
            span.record_exception(exception)
            span.set_status(self._api.StatusCode.ERROR, f"{type(exception).__name__}: {exception}")
        else:
            span.add_event("exception", {"exception.type": type(exception).__name__})
            span.set_status(self._api.StatusCode.ERROR, type(exception).__name__)
        span.end()

    def _given(self, inputs: Inputs) -> Attributes:
        return {"input.value": as_json(dict(inputs)), "input.mime_type": "application/json"} if self.content else {}

    def _made(self, outputs: Any) -> Attributes:
        if outputs is None or not self.content:
            return {}
        if isinstance(outputs, str):
            return {"output.value": outputs, "output.mime_type": "text/plain"}
        return {"output.value": as_json(outputs), "output.mime_type": "application/json"}


def instrument(tracer_provider: Any = None, *, content: bool = True) -> OpenTelemetry:
    """Makes spans of everything that this process does from now on; once more, it replaces what was set before.

    Args:
        tracer_provider: As for `OpenTelemetry`.
        content: As for `OpenTelemetry`.

    Raises:
        MissingExtra: the packages of OpenTelemetry are not installed.
    """
    made = OpenTelemetry(tracer_provider, content=content)
    configure(callbacks=[*_others(), made])
    return made


def uninstrument() -> None:
    """Makes no more spans."""
    configure(callbacks=_others())


def _others() -> list[BaseCallback]:
    return [callback for callback in ambient_callbacks.process if not isinstance(callback, OpenTelemetry)]


def _only_retrieves(instance: object) -> bool:
    return not isinstance(instance, Module) or not instance.predictors()


def _messages(prefix: str, messages: Sequence[Message]) -> Attributes:
    found: Attributes = {}
    for index, message in enumerate(messages):
        found[f"{prefix}.{index}.message.role"] = message.role
        found[f"{prefix}.{index}.message.content"] = message.content
    return found


def _counts(completions: Sequence[Completion]) -> Attributes:
    """Tokens; none were computed where the response cache answered."""
    first = completions[0]
    if first.from_cache:
        return {"llm.token_count.prompt": 0, "llm.token_count.completion": 0, "llm.token_count.total": 0, "homefire.from_cache": True}
    completion = sum(tokens_of(one) for one in completions)
    return {
        "llm.token_count.prompt": first.prompt_tokens,
        "llm.token_count.completion": completion,
        "llm.token_count.total": first.prompt_tokens + completion,
        "llm.token_count.prompt_details.cache_read": first.cached_tokens,
    }


def _documents(passages: Sequence[Any]) -> Attributes:
    """Passages as the documents of a retriever."""
    found: Attributes = {}
    for index, passage in enumerate(passages):
        document = f"retrieval.documents.{index}.document"
        match passage:
            case Hit():
                found |= {f"{document}.id": passage.passage.id, f"{document}.content": passage.text}
                found |= {} if isnan(passage.score) else {f"{document}.score": float(passage.score)}
            case Passage():
                found |= {f"{document}.id": passage.id, f"{document}.content": passage.text}
            case str():
                found[f"{document}.content"] = passage
            case _:
                found[f"{document}.content"] = as_json(passage)
    return found
