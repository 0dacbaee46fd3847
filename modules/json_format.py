"""Answers as one JSON object on one line, its keys in the order of the signature.

Knows no engine. Prompts are short on purpose: small models read them better, and every token is paid for in every call.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from homefire.engine.grammar import Grammar, Term, seq
from homefire.engine.request import Message
from homefire.errors import InputError, ParseError
from homefire.modules.format import Closing
from homefire.modules.json_prefix import longest_whole, read_prefix
from homefire.modules.signature import Field, Signature
from homefire.modules.type_grammar import TypeGrammar
from homefire.modules.type_words import in_words


class JsonFormat:
    """The default Format."""

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        messages = [Message("system", _of(signature).system)]
        for demo in demos:
            known = {name: demo[name] for name in signature.output_fields if name in demo}
            messages += [Message("user", _user(signature, demo)), Message("assistant", _object(signature, known))]
        return (*messages, Message("user", _user(signature, inputs)))

    def grammar(self, signature: type[Signature]) -> Grammar:
        return _of(signature).grammar

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        if missing := [name for name in signature.output_fields if name not in outputs]:
            raise InputError(f"The outputs {', '.join(missing)} are missing; got {', '.join(outputs) or 'none'}.")
        return _object(signature, outputs)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        try:
            values = json.loads(text, strict=False)
        except json.JSONDecodeError as error:
            raise ParseError(f"The completion is not JSON ({error}): {text!r}", text) from None
        if not isinstance(values, dict):
            raise ParseError(f"The completion is not a JSON object: {text!r}", text)
        if missing := [name for name in signature.output_fields if name not in values]:
            raise ParseError(f"The completion lacks the fields {', '.join(missing)}: {text!r}", text)
        try:
            return {name: _of(signature).adapters[name].validate_python(values[name]) for name in signature.output_fields}
        except ValidationError as error:
            raise ParseError(f"The completion has a value of the wrong type: {error.errors()[0]['msg']}: {text!r}", text) from None

    def close(self, signature: type[Signature], text: str) -> Closing:
        prefix = read_prefix(text, list(signature.output_fields))
        done = dict(prefix.done)
        if prefix.open_field is not None:
            whole = longest_whole(prefix.open_text, lambda value: _is_valid(signature, prefix.open_field or "", value))
            if whole is not None:
                done[prefix.open_field] = whole
        missing = tuple(name for name in signature.output_fields if name not in done)
        written = ", ".join(f"{json.dumps(name, ensure_ascii=False)}: {value}" for name, value in done.items())
        if not missing:
            return Closing(prefill=f"{{{written}}}", grammar=None, max_tokens=0)
        start = f"{{{written}{', ' if written else ''}{json.dumps(missing[0], ensure_ascii=False)}:"
        grammar, max_tokens = _of(signature).closing(missing)
        return Closing(prefill=start, grammar=grammar, max_tokens=max_tokens)

    def reserve(self, signature: type[Signature]) -> int:
        return _of(signature).closing(tuple(signature.output_fields))[1]


JSONAdapter = JsonFormat
"""The name that DSPy's users know."""


def _system(instructions: str, inputs: Mapping[str, Field], outputs: Mapping[str, Field]) -> str:
    lines = [instructions, "", "Answer with one JSON object:"]
    lines += [f"- {_describe(field)}" for field in outputs.values()]
    if described := [field for field in inputs.values() if field.description]:
        lines[1:1] = ["", "You get:", *(f"- {field.name}: {field.description}" for field in described)]
    return "\n".join(lines)


def _describe(field: Field) -> str:
    return f"{json.dumps(field.name)}: {in_words(field.type)}{', ' + field.description if field.description else ''}"


def _user(signature: type[Signature], values: Mapping[str, Any]) -> str:
    return "\n\n".join(f"{name}: {_input_text(values[name])}" for name in signature.input_fields if name in values)


def _input_text(value: Any) -> str:
    match value:
        case str():
            return value
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return "\n" + "\n".join(f"[{index}] {item}" for index, item in enumerate(value, 1)) if value else "(none)"
        case _:
            return json.dumps(value, ensure_ascii=False, default=_jsonable)


def _object(signature: type[Signature], values: Mapping[str, Any]) -> str:
    given = {name: _plain(signature, name, values[name]) for name in signature.output_fields if name in values}
    return json.dumps(given, ensure_ascii=False)


def _plain(signature: type[Signature], name: str, value: Any) -> Any:
    """The JSON value of an output, checked against its type."""
    adapter = _of(signature).adapters[name]
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json", by_alias=True)
    except ValidationError as error:
        wanted, said = in_words(signature.output_fields[name].type), error.errors()[0]["msg"]
        raise InputError(f"{value!r} is no value of the output {name!r}, which is {wanted}: {said}.") from None


def _jsonable(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def _is_valid(signature: type[Signature], name: str, value: Any) -> bool:
    try:
        _of(signature).adapters[name].validate_python(value)
    except ValidationError:
        return False
    return True


@dataclass(eq=False)
class _Compiled:
    """What is made once of a signature."""

    system: str
    outputs: Mapping[str, Field]
    tight: dict[tuple[str, ...], tuple[Grammar, int]] = field(default_factory=dict)

    @cached_property
    def adapters(self) -> dict[str, TypeAdapter[Any]]:
        return {name: TypeAdapter(output.type) for name, output in self.outputs.items()}

    @cached_property
    def grammar(self) -> Grammar:
        return self._build(TypeGrammar(), tuple(self.outputs), "{")

    def closing(self, missing: tuple[str, ...]) -> tuple[Grammar, int]:
        """The tight grammar of what follows the first missing key, and most tokens of it: a token holds at least one byte."""
        if missing not in self.tight:
            types = TypeGrammar(tight=True)
            longest = sum(types.longest(self.outputs[name].type, name) + len(json.dumps(name).encode()) + 4 for name in missing)
            self.tight[missing] = self._build(TypeGrammar(tight=True), missing, ""), longest + 1
        return self.tight[missing]

    def _build(self, types: TypeGrammar, names: tuple[str, ...], start: str) -> Grammar:
        parts: list[Term | str] = []
        for index, name in enumerate(names):
            key = f"{', ' if index else start}{json.dumps(name, ensure_ascii=False)}: "
            parts += [key if start or index else " ", types.value(self.outputs[name].type, f"The output {name!r}")]
        return types.builder.build(seq(*parts, "}"))


_compiled: weakref.WeakKeyDictionary[type[Signature], _Compiled] = weakref.WeakKeyDictionary()


def _of(signature: type[Signature]) -> _Compiled:
    found = _compiled.get(signature)
    if found is None:
        found = _compiled[signature] = _Compiled(
            _system(signature.instructions, signature.input_fields, signature.output_fields), signature.output_fields
        )
    return found
