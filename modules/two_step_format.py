"""Answers in two steps: one model writes freely, another one finds the outputs in what it wrote, under their grammar.

Knows no engine. For models that reason worse inside a form; the second one may be the small local one. As in Let Me Speak Freely
(Tam et al., arXiv 2408.02442).
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from homefire.engine.grammar import Grammar
from homefire.engine.lm import LM
from homefire.engine.request import Message, Request
from homefire.errors import ConfigError, InputError
from homefire.modules.chat_turns import ChatTurns
from homefire.modules.format import Choices, Closing, Format
from homefire.modules.formatting import Formatting
from homefire.modules.json_format import JsonFormat
from homefire.modules.prompt_text import described, input_text, system_text
from homefire.modules.signature import Field, Signature, make_signature


class TwoStepFormat(Formatting):
    """A Format whose prompts ask for free text; its grammar, its answers and what reads them are those of the second step.

    >>> from homefire.engine.scripted_engine import ScriptedLM
    >>> form = TwoStepFormat(ScriptedLM(['{"answer": 4}']))

    Args:
        extraction_model: Finds the outputs in the text.
        form: The form in which it writes them.

    Raises:
        ConfigError: the extraction model is no LM.
    """

    def __init__(self, extraction_model: LM, form: Format | None = None) -> None:
        if not isinstance(extraction_model, LM):
            raise ConfigError(f"The extraction model is {extraction_model!r}; expected an LM. Write TwoStepFormat(homefire.LM()).")
        self.extraction_model = extraction_model
        self.form: Format = form or JsonFormat()
        self._turns: weakref.WeakKeyDictionary[type[Signature], ChatTurns] = weakref.WeakKeyDictionary()
        self._extracting: weakref.WeakKeyDictionary[type[Signature], type[Signature]] = weakref.WeakKeyDictionary()

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        turns = self._turns.get(signature)
        if turns is None:
            form = ["Answer freely, and say:", *(f"- {name}: {described(field)}" for name, field in signature.output_fields.items())]
            turns = ChatTurns(signature, system_text(signature, form), _written, _said)
            self._turns[signature] = turns
        return turns.messages(demos, inputs)

    def grammar(self, signature: type[Signature]) -> Grammar | None:
        return None

    def reserve(self, signature: type[Signature]) -> int:
        return 0

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        return self.form.answer(signature, outputs)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        return self.form.parse(signature, text)

    def close(self, signature: type[Signature], text: str) -> Closing:
        return self.form.close(signature, text)

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        return self.form.partial(signature, text)

    def choices(self, signature: type[Signature], name: str, outputs: Mapping[str, Any]) -> Choices | None:
        raise InputError(
            f"{name!r} has no probabilities: of an answer in two steps one model thought and another chose. Use another format."
        )

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        return self.form.correction(signature, problems)

    def extracting(self, signature: type[Signature]) -> type[Signature]:
        """The signature of the second step: the same outputs, from a text."""
        made = self._extracting.get(signature)
        if made is None:
            name = next(name for name in ("text", "written_text", "text_to_read") if name not in signature.output_fields)
            fields = [Field(name, str, "input"), *signature.output_fields.values()]
            made = make_signature(fields, f"Copy {', '.join(signature.output_fields)} from the text.")
            self._extracting[signature] = made
        return made

    def extraction(self, signature: type[Signature], text: str) -> Request:
        """The request of the second step for what the first model wrote."""
        asked, model = self.extracting(signature), self.extraction_model
        return Request(
            messages=self.form.render(asked, [], dict.fromkeys(asked.input_fields, text)),
            sampling=replace(model.sampling(), n=1),
            grammar=self.form.grammar(asked),
            adapter=model.adapter,
            reserve=self.form.reserve(asked),
        )


TwoStepAdapter = TwoStepFormat
"""The name that DSPy's users know."""


def _written(texts: Mapping[str, str]) -> str:
    return "\n\n".join(f"{name}: {text}" for name, text in texts.items())


def _said(outputs: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {input_text(name, value)}" for name, value in outputs.items())
