"""Answers as one JSON object on one line, its keys in the order of the signature.

Knows no engine. Prompts are short on purpose: small models read them better, and every token is paid for in every call.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from homefire.engine.grammar import Grammar, Term, seq
from homefire.engine.request import Message
from homefire.errors import InputError, ParseError
from homefire.modules.format import Closing
from homefire.modules.json_prefix import longest_whole, read_prefix
from homefire.modules.signature import Field, Signature
from homefire.modules.type_grammar import TypeGrammar


class JsonFormat:
    """The default Format."""

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        messages = [Message("system", _system(signature))]
        for demo in demos:
            known = {name: demo[name] for name in signature.output_fields if name in demo}
            messages += [Message("user", _user(signature, demo)), Message("assistant", _object(signature, known))]
        return (*messages, Message("user", _user(signature, inputs)))

    def grammar(self, signature: type[Signature]) -> Grammar:
        return _grammar(signature, None)

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        if missing := [name for name in signature.output_fields if name not in outputs]:
            raise InputError(f"The outputs {', '.join(missing)} are missing; got {', '.join(outputs) or 'none'}.")
        return _object(signature, outputs)

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        try:
            values = json.loads(text, strict=False)
        except json.JSONDecodeError as error:
            raise ParseError(f"The completion is not JSON ({error}): {text!r}", text) from None
        if not isinstance(values, dict) or (missing := [name for name in signature.output_fields if name not in values]):
            raise ParseError(f"The completion lacks the fields {', '.join(missing) if isinstance(values, dict) else 'of an object'}: {text!r}", text)
        try:
            return {name: _adapter(signature, name).validate_python(values[name]) for name in signature.output_fields}
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
        return Closing(prefill=start, grammar=_grammar(signature, missing), max_tokens=_longest(signature, missing))

    def reserve(self, signature: type[Signature]) -> int:
        return _longest(signature, tuple(signature.output_fields))


def _system(signature: type[Signature]) -> str:
    lines = [signature.instructions, "", "Answer with one JSON object:"]
    lines += [f"- {_describe(field)}" for field in signature.output_fields.values()]
    if described := [field for field in signature.input_fields.values() if field.description]:
        lines[1:1] = ["", "You get:", *(f"- {field.name}: {field.description}" for field in described)]
    return "\n".join(lines)


def _describe(field: Field) -> str:
    return f"{json.dumps(field.name)}: {_kind(field.type)}{', ' + field.description if field.description else ''}"


def _kind(annotation: Any) -> str:
    """A type in the words of a prompt."""
    named = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}
    if annotation in named:
        return named[annotation]
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(json.dumps(value, ensure_ascii=False) for value in get_args(annotation))}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return f"one of {', '.join(json.dumps(member.value, ensure_ascii=False) for member in annotation)}"
    if get_origin(annotation) is list:
        return f"list of {_kind(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return f"object with values {_kind(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _model_kind(annotation)
    return " or ".join(_kind(member) for member in get_args(annotation))


def _model_kind(model: type[BaseModel]) -> str:
    fields = (f"{json.dumps(info.alias or name)}: {'the same again' if _mentions(info.annotation, model) else _kind(info.annotation)}" for name, info in model.model_fields.items())
    return "{" + ", ".join(fields) + "}"


def _mentions(annotation: Any, model: type) -> bool:
    return annotation is model or any(_mentions(argument, model) for argument in get_args(annotation))


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
    adapter = _adapter(signature, name)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json", by_alias=True)
    except ValidationError as error:
        raise InputError(f"{value!r} is no value of the output {name!r}, which is {_kind(signature.output_fields[name].type)}: {error.errors()[0]['msg']}.") from None


def _jsonable(value: Any) -> Any:
    return TypeAdapter(type(value)).dump_python(value, mode="json")


@lru_cache(maxsize=4096)
def _adapter(signature: type[Signature], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(signature.output_fields[name].type)


def _is_valid(signature: type[Signature], name: str, value: Any) -> bool:
    try:
        _adapter(signature, name).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=1024)
def _grammar(signature: type[Signature], missing: tuple[str, ...] | None) -> Grammar:
    """The grammar of a whole answer, or the tight one of what follows the first missing key."""
    types = TypeGrammar(tight=missing is not None)
    parts: list[Term | str] = []
    for index, name in enumerate(missing or signature.output_fields):
        key = json.dumps(name, ensure_ascii=False)
        lead = " " if missing and index == 0 else f"{', ' if index else '{'}{key}: "
        parts += [lead, types.value(signature.output_fields[name].type, f"The output {name!r}")]
    return types.builder.build(seq(*parts, "}"))


@lru_cache(maxsize=1024)
def _longest(signature: type[Signature], missing: tuple[str, ...]) -> int:
    """An upper bound, in tokens: a token holds at least one byte."""
    types = TypeGrammar(tight=True)
    total = 1
    for name in missing:
        total += len(json.dumps(name, ensure_ascii=False).encode()) + 4
        total += types.longest(signature.output_fields[name].type, f"The output {name!r}")
    return total
