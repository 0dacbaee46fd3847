"""Reasoning: an output that is what a reasoning model thinks anyway, and that other models are asked for.

Knows no engine. Where the model thinks by itself, the output is not asked for in the answer, and the thoughts are its value.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic_core import CoreSchema, core_schema

from homefire.engine.grammar import Grammar
from homefire.engine.lm import LM
from homefire.engine.request import Message
from homefire.modules.format import Choices, Closing, Format
from homefire.modules.prompt_text import instructions_without
from homefire.modules.signature import Signature, make_signature
from homefire.modules.two_step_format import TwoStepFormat


class Reasoning(str):
    """A text: how a model came to the outputs behind it.

    >>> Reasoning("Two and two.").upper()
    'TWO AND TWO.'
    """

    __slots__ = ()

    def __new__(cls, content: str = "") -> Self:
        return super().__new__(cls, content)

    @property
    def content(self) -> str:
        """The text as a plain str."""
        return str.__str__(self)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema())


class NativeReasoning:
    """A Format for models that think by themselves: it asks for all outputs but the reasoning.

    Args:
        form: Asks for the others.
    """

    def __init__(self, form: Format) -> None:
        self.form = form

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        return self.form.render(_asked(signature), demos, inputs)

    def grammar(self, signature: type[Signature]) -> Grammar | None:
        return self.form.grammar(_asked(signature))

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        return self.form.answer(_asked(signature), outputs)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        return self.form.parse(_asked(signature), text)

    def close(self, signature: type[Signature], text: str) -> Closing:
        return self.form.close(_asked(signature), text)

    def reserve(self, signature: type[Signature]) -> int:
        return self.form.reserve(_asked(signature))

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        return self.form.partial(_asked(signature), text)

    def choices(self, signature: type[Signature], name: str, outputs: Mapping[str, Any]) -> Choices | None:
        return None if name in reasoning_outputs(signature) else self.form.choices(_asked(signature), name, outputs)

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        return self.form.correction(_asked(signature), problems)


def fitted(form: Format, signature: type[Signature], model: LM) -> Format:
    """The format for a call: without the reasoning where the model thinks by itself, otherwise as it is."""
    if not reasoning_outputs(signature) or isinstance(form, TwoStepFormat) or not model.supports_reasoning:
        return form
    return NativeReasoning(form) if _asked(signature) is not signature else form


def reasoned(form: Format, signature: type[Signature], values: dict[str, Any], thoughts: str) -> dict[str, Any]:
    """The values of an answer with its reasoning: what the model thought, where the format did not ask for it."""
    names = reasoning_outputs(signature)
    if not names:
        return values
    native = isinstance(form, NativeReasoning)
    found = {name: Reasoning(thoughts if native else values[name]) for name in names if native or name in values}
    return {name: found.get(name, values.get(name)) for name in signature.output_fields}


def reasoning_outputs(signature: type[Signature]) -> tuple[str, ...]:
    """The outputs of a signature that are reasoning."""
    known = _outputs.get(signature)
    if known is None:
        known = tuple(name for name, field in signature.output_fields.items() if _is_reasoning(field.type))
        _outputs[signature] = known
    return known


_outputs: weakref.WeakKeyDictionary[type[Signature], tuple[str, ...]] = weakref.WeakKeyDictionary()
_without: weakref.WeakKeyDictionary[type[Signature], type[Signature]] = weakref.WeakKeyDictionary()


def _asked(signature: type[Signature]) -> type[Signature]:
    """The signature without its reasoning; itself where nothing else would be left."""
    names = reasoning_outputs(signature)
    if len(names) in (0, len(signature.output_fields)):
        return signature
    if signature not in _without:
        kept = [field for name, field in signature.fields.items() if name not in names]
        _without[signature] = make_signature(kept, instructions_without(signature, names), name=signature.__name__)
    return _without[signature]


def _is_reasoning(annotation: Any) -> bool:
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return isinstance(inner, type) and issubclass(inner, Reasoning)
