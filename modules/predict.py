"""Predict: one typed call of a language model.

Knows no optimizer. The way of a call is: validate inputs, render, generate under the grammar, close what was cut off, parse, trace.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homefire.engine.callbacks import ACTIVE_CALL_ID, BaseCallback, observed
from homefire.engine.history import HistoryEntry, history_limits, without_media
from homefire.engine.lm import LM
from homefire.engine.lm_options import checked_callbacks
from homefire.engine.request import Completion, Message, Request, Sampling
from homefire.errors import InputError, ParseError
from homefire.modules.assertions import Scope, current_scope, known_answer, settle
from homefire.modules.attempts import Advice, advised, current_attempt
from homefire.modules.call import Answer, Batches, answers
from homefire.modules.example import METHODS, CallInfo, Example, Prediction
from homefire.modules.field_stream import FieldReader, current_reader
from homefire.modules.format import Format
from homefire.modules.input_types import mismatches
from homefire.modules.module import Predictor
from homefire.modules.probability import Scorer
from homefire.modules.reasoning import fitted
from homefire.modules.settings import check_lm, current
from homefire.modules.signature import OMITTED, REQUIRED, Signature
from homefire.modules.tool_calls import with_tools
from homefire.modules.trace import Step, began, current_labels, current_trace, snapshot

SEVERAL_TEMPERATURE = 0.7
"""Temperature of several samples where none is given: drawn greedily they would all be the same."""

_OPTIONS = frozenset({"config", "lm", "demos", "signature"})
"""What a call takes beside its inputs."""


class Predict(Predictor):
    """Calls the LM once for a signature; every output has its type.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> predict = Predict("question -> answer: int")
    >>> predict.lm = ScriptedLM(['{"answer": 42}'])
    >>> predict(question="What is six times seven?").answer
    42

    Args:
        signature: A signature class or string.
        callbacks: Hear the calls of this predictor, beside those of the settings.
        config: Sampling for this predictor, over the LM's own: `temperature`, `max_tokens`, `n`, ...
    """

    def __init__(self, signature: str | type[Signature], callbacks: Sequence[BaseCallback] | None = None, **config: Any) -> None:
        super().__init__(Signature(signature), config)
        for name in METHODS.intersection(self.signature.output_fields):
            said = f"prediction.{name} is a method, not the output {name!r}. Write prediction[{name!r}], or name it {name}_found."
            warnings.warn(said, stacklevel=2)
        if callbacks:
            self.callbacks = checked_callbacks(callbacks)

    def forward(self, **inputs: Any) -> Prediction:
        """Answers for these inputs.

        Args:
            inputs: Those of the signature, and for this call only: `config`, sampling over the predictor's own; `lm`; `demos`; `signature`.

        Raises:
            InputError: an input is missing or unknown.
            ContextTooLong: the prompt does not fit the model's context.
            ConstraintError: the answer broke a constraint that no grammar enforces, also when it was asked for again.
            ParseError: only from engines without grammars.
        """
        call = self._call(inputs)
        if isinstance(call, Prediction):
            return call
        batches = call.batches()
        batch = next(batches)
        while True:
            try:
                batch = batches.send((batch.model or call.model).generate(batch.requests, listener=batch.listener))
            except StopIteration as ended:
                return self._ended(call, ended.value)
            except Exception as error:
                self._failed(call, error)
                raise

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        call = self._call(inputs)
        if isinstance(call, Prediction):
            return call
        batches = call.batches()
        batch = next(batches)
        while True:
            try:
                batch = batches.send(await (batch.model or call.model).agenerate(batch.requests, listener=batch.listener))
            except StopIteration as ended:
                return self._ended(call, ended.value)
            except Exception as error:
                self._failed(call, error)
                raise

    def _call(self, given: Mapping[str, Any]) -> _Call | Prediction:
        """What to ask, or the answer where the labels of an example supply it, or where a forward runs again that had it before."""
        inputs, asked = self._asked(given) if not _OPTIONS.isdisjoint(given) else (given, _Asked(self.signature, self.demos, {}, self.lm))
        signature, labels = asked.signature, current_labels()
        inputs = self._checked(signature, inputs)
        if labels is not None and all(name in labels for name in signature.output_fields):
            return self._supplied(asked, inputs, labels)
        if (bound := with_tools(signature, inputs)) is not signature:
            signature, asked = bound, replace(asked, signature=bound)
        advice: tuple[Advice, ...] = ()
        scope, attempt = current_scope.get(), current_attempt()
        if scope is not None:
            known = known_answer(scope, self, inputs)
            if isinstance(known, Prediction):
                return known
            advice = known
        if attempt is not None and (told := attempt.advice.get(id(self))) is not None:
            advice = (told, *advice)
        model = asked.lm or self.language_model()
        check_lm(model, "predict.lm = homefire.LM({name!r})")
        dialect = fitted(current().format, signature, model)
        changes = {**self.config, **asked.config} if asked.config else self.config
        sampling = _sampling(model, changes)
        if attempt is not None:
            sampling = attempt.sampling(sampling, drawn="temperature" in changes)
        request = Request(
            messages=_messages(dialect, asked, inputs, advice),
            sampling=sampling,
            grammar=dialect.grammar(signature),
            adapter=model.adapter,
            reserve=dialect.reserve(signature),
        )
        return _Call(inputs, model, dialect, signature, request, self._reader(dialect, signature), scope, time.perf_counter())

    def _asked(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], _Asked]:
        """The inputs, apart from the options of the call."""
        config, lm, demos, signature = (given.get(name) for name in ("config", "lm", "demos", "signature"))
        if config is not None and not isinstance(config, Mapping):
            raise InputError(
                f"config is {config!r}; expected a mapping, as in predict(..., config={{'temperature': 1.0, 'rollout_id': 1}})."
            )
        if lm is not None and not isinstance(lm, LM):
            raise InputError(f"lm is {lm!r}; expected an LM, as in predict(..., lm=homefire.LM({str(lm)!r})).")
        if demos is not None and (isinstance(demos, str | Mapping) or not isinstance(demos, Sequence)):
            raise InputError(f"demos is {demos!r}; expected a list, as in predict(..., demos=[homefire.Example(...)]).")
        asked = self.signature if signature is None else Signature(signature)
        inputs = {name: value for name, value in given.items() if name not in _OPTIONS}
        return inputs, _Asked(asked, self.demos if demos is None else demos, config or {}, lm or self.lm)

    def _reader(self, dialect: Format, signature: type[Signature]) -> FieldReader | None:
        tell = current_reader()
        if tell is None:
            return None
        trace = current_trace()
        return FieldReader(dialect, signature, "self" if trace is None else trace.path_of(self), tell)

    def _ended(self, call: _Call, answers: Sequence[Answer]) -> Prediction:
        prediction = _together(answers, str(call.model))
        for answer in answers:
            answer.made._scorer = Scorer(call.model, call.dialect, call.signature, answer.request)
        if call.scope is not None:
            settle(call.scope, self, call.inputs, prediction)
        if (limits := history_limits.get()).enabled:
            self._history.record(_entry(call, answers), limits.most)
        if current_trace() is not None:
            parts = [one for answer in answers for one in answer.completions]
            self._trace(call.inputs, prediction, call.request.messages, parts, answers[0].text, call)
        return prediction

    def _failed(self, call: _Call, error: Exception) -> None:
        if current_trace() is not None:
            text = error.text if isinstance(error, ParseError) else ""
            self._trace(call.inputs, Prediction(), call.request.messages, (), text, call, f"{type(error).__name__}: {error}")

    def _checked(self, signature: type[Signature], inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs, those that are missing with their defaults."""
        fields = signature.input_fields
        if len(inputs) != len(fields) or inputs.keys() != fields.keys():
            left_out = {name: field.default for name, field in fields.items() if name not in inputs}
            defaults = {name: default for name, default in left_out.items() if default is not REQUIRED and default is not OMITTED}
            inputs = {**inputs, **defaults} if defaults else inputs
            wanted = ", ".join(fields)
            if missing := [name for name, default in left_out.items() if default is REQUIRED]:
                got = ", ".join(inputs) or "nothing"
                call = ", ".join(f"{name}=..." for name in fields)
                raise InputError(
                    f"The input {', '.join(missing)} is missing. This predictor takes {wanted}; it got {got}. Write predict({call})."
                )
            if unknown := [name for name in inputs if name not in fields]:
                call = ", ".join(f"{name}=..." for name in fields)
                message = f"The input {', '.join(unknown)} is not in the signature; it is left out. Write predict({call})."
                warnings.warn(message, stacklevel=6)
        if current().warn_on_type_mismatch:
            for message in mismatches(signature, inputs):
                warnings.warn(message, stacklevel=6)
        return inputs

    def _supplied(self, asked: _Asked, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> Prediction:
        """The answer of a program that runs under `supplied_by`: the labels themselves, no model involved."""
        dialect = current().format
        answer = dialect.answer(asked.signature, labels)
        prediction = Prediction(dialect.parse(asked.signature, answer))
        self._trace(inputs, prediction, _messages(dialect, asked, inputs, ()), (), answer)
        return prediction

    def _trace(
        self,
        inputs: Mapping[str, Any],
        prediction: Prediction,
        messages: tuple[Message, ...],
        completions: Sequence[Completion],
        answer: str,
        call: _Call | None = None,
        error: str | None = None,
    ) -> None:
        trace = current_trace()
        if trace is None:
            return
        seconds = 0.0 if call is None else time.perf_counter() - call.began
        trace.add(
            Step(
                path=trace.path_of(self),
                signature=self.signature if call is None else call.signature,
                inputs=snapshot(dict(inputs)),
                prediction=prediction,
                messages=messages,
                completions=tuple(completions),
                model="labels" if call is None else str(call.model),
                adapter=None if call is None or call.model.adapter is None else str(call.model.adapter),
                answer=answer,
                id=trace.new_id(),
                call_id=ACTIVE_CALL_ID.get(),
                started=began(seconds),
                seconds=seconds,
                error=error,
                predictor=self,
            )
        )
        prediction._trace_id = trace.id


@dataclass(frozen=True, slots=True)
class _Asked:
    """What holds for one call."""

    signature: type[Signature]
    demos: Sequence[Example | Mapping[str, Any]]
    config: Mapping[str, Any]
    lm: LM | None


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that a language model has to answer."""

    inputs: Mapping[str, Any]
    model: LM
    dialect: Format
    signature: type[Signature]
    request: Request
    reader: FieldReader | None
    scope: Scope | None
    began: float
    """On the clock of `time.perf_counter`."""

    def batches(self) -> Batches:
        return answers(self.model, self.dialect, self.signature, self.request, self.reader)


def _messages(dialect: Format, asked: _Asked, inputs: Mapping[str, Any], advice: tuple[Advice, ...]) -> tuple[Message, ...]:
    """The prompt; advice stands in it like an input, but what is answered stays the same."""
    signature = asked.signature
    if advice:
        signature = advised(signature, tuple((one.name, one.description) for one in advice))
        inputs = {**inputs, **{one.name: one.text for one in advice}}
    demos = [demo.toDict() if isinstance(demo, Example) else demo for demo in asked.demos]
    if wrong := [demo for demo in demos if not isinstance(demo, Mapping)]:
        raise InputError(f"The demo {wrong[0]!r} is no example. Write predict.demos = [homefire.Example(...)].")
    with observed("adapter_format", dialect, {"signature": signature, "demos": asked.demos, "inputs": inputs}) as formatting:
        messages = dialect.render(signature, demos, inputs)
        formatting.give(messages)
    return messages


def _entry(call: _Call, answers: Sequence[Answer]) -> HistoryEntry:
    """A call as `module.history` has it."""
    parts = [one for answer in answers for one in answer.completions]
    return HistoryEntry(
        model=call.model.model,
        adapter=None if call.model.adapter is None else str(call.model.adapter),
        messages=without_media(call.request.messages),
        sampling=call.request.sampling,
        outputs=tuple(answer.text for answer in answers),
        thinking=tuple("\n".join(one.thinking for one in answer.completions if one.thinking) for answer in answers),
        prompt_tokens=parts[0].prompt_tokens,
        completion_tokens=sum(one.completion_tokens for one in parts),
        cached_tokens=parts[0].cached_tokens,
        seconds=max(one.seconds for one in parts),
        from_cache=all(one.from_cache for one in parts),
        time=time.time(),
    )


def _sampling(model: LM, changes: Mapping[str, Any]) -> Sampling:
    """Several samples are drawn hot enough to differ, unless a temperature is given."""
    if not changes:
        return model.sampling()
    if changes.get("n", 1) > 1 and "temperature" not in changes and model.sampling().temperature == 0:
        return model.sampling(**changes, temperature=SEVERAL_TEMPERATURE)
    return model.sampling(**changes)


def _together(answers: Sequence[Answer], model: str) -> Prediction:
    """The first prediction, which knows all of them and what the call took."""
    first = answers[0].made
    for answer in answers:
        if any(part.thinking for part in answer.completions):
            answer.made._thinking = "\n".join(part.thinking for part in answer.completions if part.thinking)
    if len(answers) > 1:
        first._completions = tuple(answer.made for answer in answers)
    parts = [completion for answer in answers for completion in answer.completions]
    first._info = CallInfo(
        prompt_tokens=parts[0].prompt_tokens,
        completion_tokens=sum(part.completion_tokens for part in parts),
        cached_tokens=parts[0].cached_tokens,
        seconds=max(sum(part.seconds for part in answer.completions) for answer in answers),
        calls=1 + sum(answer.follow_ups for answer in answers),
        from_cache=all(part.from_cache for part in parts),
        model=model,
    )
    return first
