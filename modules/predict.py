"""Predict: one typed call of a language model.

Knows no optimizer. The way of a call is: validate inputs, render, generate under the grammar, close what was cut off, parse, trace.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homefire.engine.lm import LM
from homefire.engine.request import Completion, Message, Request
from homefire.errors import InputError, ParseError
from homefire.modules.example import CallInfo, Prediction
from homefire.modules.format import Closing, Format
from homefire.modules.module import Predictor
from homefire.modules.settings import current
from homefire.modules.signature import Signature
from homefire.modules.trace import Step, current_labels, current_trace


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
            ParseError: only from engines without grammars.
        """
        self._check_inputs(inputs)
        labels = current_labels()
        if labels is not None and all(name in labels for name in self.signature.output_fields):
            return self._supplied(inputs, labels)
        model, dialect = lm or self.language_model(), current().format
        messages = dialect.render(self.signature, [demo.toDict() for demo in self.demos], inputs)
        request = Request(
            messages=messages,
            sampling=model.sampling(**{**self.config, **(config or {})}),
            grammar=dialect.grammar(self.signature),
            adapter=model.adapter,
            reserve=dialect.reserve(self.signature),
        )
        completions = model.generate([request])[0]
        answers = [self._parse(model, dialect, request, completion) for completion in completions]
        prediction = _together(answers)
        self._trace(inputs, prediction, messages, tuple(one for answer in answers for one in answer.completions), str(model))
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

    def _parse(self, model: LM, dialect: Format, request: Request, completion: Completion) -> _Answer:
        """The prediction of one completion; where that was cut off, closed by a second one."""
        try:
            return _Answer(Prediction(dialect.parse(self.signature, completion.text)), (completion,))
        except ParseError:
            if completion.finish_reason != "length":
                raise
        closing = dialect.close(self.signature, completion.text)
        text = closing.prefill
        completions: tuple[Completion, ...] = (completion,)
        if closing.grammar is not None:
            rest = model.generate([_continuation(request, completion, closing)])[0][0]
            text, completions = text + rest.text, (completion, rest)
        prediction = Prediction(dialect.parse(self.signature, text))
        prediction._cut_off = True
        return _Answer(prediction, completions)

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
        completions: tuple[Completion, ...],
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
                    completions=completions,
                    model=model,
                )
            )


@dataclass(frozen=True, slots=True)
class _Answer:
    """A prediction, and the completions that it took."""

    prediction: Prediction
    completions: tuple[Completion, ...]


def _together(answers: Sequence[_Answer]) -> Prediction:
    """The first prediction, which knows all of them and what the call took."""
    first = answers[0].prediction
    if len(answers) > 1:
        first._completions = tuple(answer.prediction for answer in answers)
    parts = [completion for answer in answers for completion in answer.completions]
    first._info = CallInfo(
        prompt_tokens=parts[0].prompt_tokens,
        completion_tokens=sum(len(part.token_ids) for part in parts),
        cached_tokens=parts[0].cached_tokens,
        seconds=max(sum(part.seconds for part in answer.completions) for answer in answers),
        calls=1 + sum(len(answer.completions) - 1 for answer in answers),
    )
    return first


def _continuation(request: Request, completion: Completion, closing: Closing) -> Request:
    """The same request going on where its answer was cut off; its keys and values up to there are still in the engine's cache."""
    sampling = replace(request.sampling, n=1, max_tokens=closing.max_tokens, stop=())
    whole = closing.prefill.startswith(completion.text)
    generated = completion.token_ids if whole else ()
    prefill = closing.prefill[len(completion.text) :] if whole else closing.prefill
    return replace(request, generated=generated, prefill=prefill, grammar=closing.grammar, sampling=sampling, reserve=0)
