"""Answers as one JSON object on one line, its keys in the order of the signature.

Knows no engine. Engines with grammars write nothing else; what comes from servers without them is mended before it is refused.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from homefire.engine.grammar import Grammar, Term, seq
from homefire.engine.request import Message
from homefire.errors import ParseError
from homefire.modules.chat_turns import ChatTurns
from homefire.modules.format import Choices, Closing
from homefire.modules.formatting import Formatting
from homefire.modules.json_prefix import longest_whole, read_prefix, shown
from homefire.modules.json_schema import object_schema
from homefire.modules.loose_json import read_json
from homefire.modules.output_values import check_all_given, read_all, written
from homefire.modules.prompt_text import correction_text, described, system_text
from homefire.modules.signature import Signature
from homefire.modules.type_grammar import TypeGrammar
from homefire.modules.values import ValueType, value_type


class JsonFormat(Formatting):
    """The default Format."""

    def render(self, signature: type[Signature], demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> tuple[Message, ...]:
        return _of(signature).turns.messages(demos, inputs)

    def grammar(self, signature: type[Signature]) -> Grammar:
        return _of(signature).grammar

    def answer(self, signature: type[Signature], outputs: Mapping[str, Any]) -> str:
        check_all_given(signature.output_fields, outputs)
        return _braced(_of(signature).pairs(outputs))

    def parse(self, signature: type[Signature], text: str) -> dict[str, Any]:
        types = _of(signature).types
        try:
            values = read_json(text)
        except ValueError as error:
            raise ParseError(f"The completion is not JSON ({error}): {text!r}", text) from None
        if not isinstance(values, dict):
            raise ParseError(f"The completion is not a JSON object: {text!r}", text)
        return read_all(
            signature.output_fields, _renamed(values, signature.output_fields), lambda name, value: types[name].load(value), text
        )

    def close(self, signature: type[Signature], text: str) -> Closing:
        compiled = _of(signature)
        prefix = read_prefix(text.rstrip("\ufffd"), list(signature.output_fields))
        done = dict(prefix.done)
        if prefix.open_field is not None:
            opened = compiled.types[prefix.open_field]
            whole = longest_whole(prefix.open_text, lambda value: _keeps(opened, value))
            if whole is not None:
                done[prefix.open_field] = whole
        missing = tuple(name for name in signature.output_fields if name not in done)
        pairs = [f"{_key(name)}: {value}" for name, value in done.items()]
        if not missing:
            return Closing(prefill=_braced(pairs), grammar=None, max_tokens=0)
        grammar, max_tokens = compiled.closing(missing)
        return Closing(prefill=_opened(pairs, missing[0]), grammar=grammar, max_tokens=max_tokens)

    def reserve(self, signature: type[Signature]) -> int:
        return _of(signature).closing(tuple(signature.output_fields))[1]

    def partial(self, signature: type[Signature], text: str) -> dict[str, str]:
        prefix = read_prefix(text.rstrip("\ufffd"), list(signature.output_fields))
        texts = {name: shown(value) for name, value in prefix.done}
        if prefix.open_field is not None:
            texts[prefix.open_field] = shown(prefix.open_text)
        return texts

    def choices(self, signature: type[Signature], name: str, outputs: Mapping[str, Any]) -> Choices | None:
        compiled = _of(signature)
        values = compiled.types[name].choices()
        if values is None:
            return None
        names = list(signature.output_fields)
        before = names[: names.index(name)]
        check_all_given(before, outputs)
        end = "}" if name == names[-1] else ","
        texts = tuple(f" {compiled.text(name, value)}{end}" for value in values)
        return Choices(prefill=_opened(compiled.pairs({one: outputs[one] for one in before}), name), values=values, texts=texts)

    def correction(self, signature: type[Signature], problems: Sequence[str]) -> str:
        return correction_text(problems)


JSONAdapter = JsonFormat
"""The name that DSPy's users know."""


def _keeps(type: ValueType, value: Any) -> bool:
    """Whether a JSON value is one of the type and keeps all constraints."""
    try:
        type.load(value)
    except ParseError:
        return False
    return True


def _renamed(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The values under the names of the outputs, where a model wrote those with other capitals."""
    if all(name in values for name in names):
        return values
    folded = {key.strip().casefold(): value for key, value in values.items()}
    return {name: folded[name.casefold()] for name in names if name.casefold() in folded} | values


def _user(texts: Mapping[str, str]) -> str:
    return "\n\n".join(f"{name}: {text}" for name, text in texts.items())


def _key(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _braced(pairs: Sequence[str]) -> str:
    return "{" + ", ".join(pairs) + "}"


def _opened(pairs: Sequence[str], name: str) -> str:
    """The beginning of an object up to the colon behind this key; the space that follows belongs to the next token."""
    return "{" + "".join(f"{pair}, " for pair in pairs) + f"{_key(name)}:"


class _Compiled:
    """What is made once of a signature."""

    def __init__(self, signature: type[Signature]) -> None:
        self.outputs = signature.output_fields
        self.types = {name: value_type(output.type) for name, output in self.outputs.items()}
        form = ["Answer with one JSON object:", *(f"- {json.dumps(name)}: {described(field)}" for name, field in self.outputs.items())]
        system = system_text(signature, form)
        self.turns = ChatTurns(signature, system, _user, lambda known: _braced(self.pairs(known)))
        self._tight: dict[tuple[str, ...], tuple[Grammar, int]] = {}

    def text(self, name: str, value: Any) -> str:
        """The JSON text of a value of an output."""
        return json.dumps(written(name, self.types[name].dump, value), ensure_ascii=False)

    def pairs(self, values: Mapping[str, Any]) -> list[str]:
        """Key and value of every output that is there, in the order of the signature."""
        return [f"{_key(name)}: {self.text(name, values[name])}" for name in self.outputs if name in values]

    @cached_property
    def grammar(self) -> Grammar:
        built = self._build(TypeGrammar(), tuple(self.outputs), "{")
        return Grammar(built.gbnf, object_schema({name: output.type for name, output in self.outputs.items()}))

    def closing(self, missing: tuple[str, ...]) -> tuple[Grammar, int]:
        """The tight grammar of what follows the first missing key, and most tokens of it: a token holds at least one byte."""
        if missing not in self._tight:
            types = TypeGrammar(tight=True)
            longest = sum(types.longest(self.outputs[name].type, name) + len(_key(name).encode()) + 4 for name in missing)
            self._tight[missing] = self._build(types, missing, ""), longest + 1
        return self._tight[missing]

    def _build(self, types: TypeGrammar, names: tuple[str, ...], start: str) -> Grammar:
        parts: list[Term | str] = []
        for index, name in enumerate(names):
            key = f"{', ' if index else start}{_key(name)}: "
            parts += [key if start or index else " ", types.value(self.outputs[name].type, f"The output {name!r}")]
        return types.builder.build(seq(*parts, "}"))


_compiled: weakref.WeakKeyDictionary[type[Signature], _Compiled] = weakref.WeakKeyDictionary()


def _of(signature: type[Signature]) -> _Compiled:
    found = _compiled.get(signature)
    if found is None:
        found = _compiled[signature] = _Compiled(signature)
    return found
