"""Predict: one typed call of a language model.

Knows no optimizer. The way of a call is: validate inputs, render, generate under the grammar, close what was cut off, parse, trace.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from homefire.engine.callbacks import observed
from homefire.engine.lm import LM
from homefire.engine.request import Completion, Message, Request, Sampling
from homefire.errors import InputError
from homefire.modules.call import Answer, Batches, answers
from homefire.modules.example import CallInfo, Prediction
from homefire.modules.field_stream import FieldReader, current_reader
from homefire.modules.format import Format
from homefire.modules.module import Predictor
from homefire.modules.probability import Scorer
from homefire.modules.settings import current
from homefire.modules.signature import Signature
from homefire.modules.trace import Step, current_labels, current_trace

SEVERAL_TEMPERATURE = 0.7
"""Temperature of several samples where none is given: drawn greedily they would all be the same."""


class Predict(Predictor):
    """Calls the LM once for a signature; every output has its type.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> predict = Predict("question -> answer: int")
    >>> predict.lm = ScriptedLM(['{"answer": 42}'])
    >>> predict(question="What is six times seven?").answer
    42

    Args:
        signature: A signature class or string.
        config: Sampling for this predictor, over the LM's own: `temperature`, `max_tokens`, `n`, ...
    """

    def __init__(self, signature: str | type[Signature], **config: Any) -> None:
        super().__init__(Signature(signature), config)

    def forward(self, *, config: Mapping[str, Any] | None = None, lm: LM | None = None, **inputs: Any) -> Prediction:
        """Answers for these inputs.

        Raises:
            InputError: an input is missing or unknown.
            ContextTooLong: the prompt does not fit the model's context.
            ConstraintError: the answer broke a constraint that no grammar enforces, also when it was asked for again.
            ParseError: only from engines without grammars.
        """
        call = self._call(inputs, config, lm)
        if isinstance(call, Prediction):
            return call
        batches = call.batches()
        batch = next(batches)
        while True:
            try:
                batch = batches.send(call.model.generate(batch.requests, listener=batch.listener))
            except StopIteration as ended:
                return self._ended(call, ended.value)

    async def aforward(self, *, config: Mapping[str, Any] | None = None, lm: LM | None = None, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        call = self._call(inputs, config, lm)
        if isinstance(call, Prediction):
            return call
        batches = call.batches()
        batch = next(batches)
        while True:
            try:
                batch = batches.send(await call.model.agenerate(batch.requests, listener=batch.listener))
            except StopIteration as ended:
                return self._ended(call, ended.value)

    def _call(self, inputs: Mapping[str, Any], config: Mapping[str, Any] | None, lm: LM | None) -> _Call | Prediction:
        """What to ask, or the answer where the labels of an example supply it."""
        self._check_inputs(inputs)
        labels = current_labels()
        if labels is not None and all(name in labels for name in self.signature.output_fields):
            return self._supplied(inputs, labels)
        model, dialect = lm or self.language_model(), current().format
        changes = {**self.config, **config} if config else self.config
        with observed("adapter_format", dialect, {"signature": self.signature, "demos": self.demos, "inputs": inputs}) as formatting:
            messages = dialect.render(self.signature, [demo.toDict() for demo in self.demos], inputs)
            formatting.give(messages)
        request = Request(
            messages=messages,
            sampling=_sampling(model, changes),
            grammar=dialect.grammar(self.signature),
            adapter=model.adapter,
            reserve=dialect.reserve(self.signature),
        )
        return _Call(inputs, model, dialect, self.signature, request, self._reader(dialect))

    def _reader(self, dialect: Format) -> FieldReader | None:
        tell = current_reader()
        if tell is None:
            return None
        trace = current_trace()
        return FieldReader(dialect, self.signature, "self" if trace is None else trace.path_of(self), tell)

    def _ended(self, call: _Call, answers: Sequence[Answer]) -> Prediction:
        prediction = _together(answers, str(call.model))
        for answer in answers:
            answer.made._scorer = Scorer(call.model, call.dialect, call.signature, answer.request)
        if current_trace() is not None:
            self._trace(
                call.inputs, prediction, call.request.messages, [one for answer in answers for one in answer.completions], str(call.model)
            )
        return prediction

    def __call__(self, *positional: Any, **inputs: Any) -> Prediction:
        if positional:
            names = ", ".join(f"{name}=..." for name in self.signature.input_fields)
            raise InputError(f"A predictor takes its inputs by name. Write predict({names}).")
        return super().__call__(**inputs)

    def _check_inputs(self, inputs: Mapping[str, Any]) -> None:
        wanted = ", ".join(self.signature.input_fields)
        if missing := [name for name in self.signature.input_fields if name not in inputs]:
            got = ", ".join(inputs) or "nothing"
            raise InputError(f"The input {', '.join(missing)} is missing. This predictor takes {wanted}; it got {got}.")
        if unknown := [name for name in inputs if name not in self.signature.input_fields]:
            message = f"The input {', '.join(unknown)} is not in the signature, which has {wanted}; it is left out."
            warnings.warn(message, stacklevel=4)

    def _supplied(self, inputs: Mapping[str, Any], labels: Mapping[str, Any]) -> Prediction:
        """The answer of a program that runs under `supplied_by`: the labels themselves, no model involved."""
        dialect = current().format
        prediction = Prediction(dialect.parse(self.signature, dialect.answer(self.signature, labels)))
        messages = dialect.render(self.signature, [demo.toDict() for demo in self.demos], inputs)
        self._trace(inputs, prediction, messages, (), "labels")
        return prediction

    def _trace(
        self,
        inputs: Mapping[str, Any],
        prediction: Prediction,
        messages: tuple[Message, ...],
        completions: Sequence[Completion],
        model: str,
    ) -> None:
        trace = current_trace()
        if trace is not None:
            path = trace.path_of(self)
            trace.steps.append(
                Step(
                    path=path,
                    signature=self.signature,
                    inputs=dict(inputs),
                    prediction=prediction,
                    messages=messages,
                    completions=tuple(completions),
                    model=model,
                )
            )


@dataclass(frozen=True, slots=True)
class _Call:
    """A call that a language model has to answer."""

    inputs: Mapping[str, Any]
    model: LM
    dialect: Format
    signature: type[Signature]
    request: Request
    reader: FieldReader | None

    def batches(self) -> Batches:
        return answers(self.model, self.dialect, self.signature, self.request, self.reader)


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
