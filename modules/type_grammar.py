"""Python types to the grammar of their JSON: which texts are values of a type.

Knows no prompt: a format puts these terms between its own words. JSON is written as `json.dumps` writes it, on one line, keys in order.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from homefire.engine.grammar import Chars, Choice, GrammarBuilder, Repeat, Rule, Sequence, Term, choice, seq
from homefire.engine.grammar import Literal as Text
from homefire.errors import SignatureError

SUPPORTED = "str, int, float, bool, None, Literal, Enum, Optional, Union, list, dict with str keys, pydantic models"
PLAIN = Chars(r'^"\\\x00-\x1f')
"""A character that stands for itself inside a JSON string."""
TIGHT_CHARACTERS = 48
"""Longest text that fills a field of an output that was cut off."""


@dataclass
class TypeGrammar:
    """Lowers types to terms of one grammar.

    Args:
        tight: Every value is short (texts of at most `TIGHT_CHARACTERS`, empty lists and dicts, null where it is allowed), so that the
            language is finite and a completion has a longest length.
    """

    tight: bool = False
    builder: GrammarBuilder = field(default_factory=GrammarBuilder)
    _models: dict[type, str] = field(default_factory=dict)

    def value(self, annotation: Any, where: str) -> Term:
        """The term of all JSON texts of a type.

        Raises:
            SignatureError: the type has no grammar; the message names `where` and the supported types.
        """
        simple = self._simple(annotation)
        if simple is not None:
            return simple
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Literal:
            return choice(_dump(value, where) for value in arguments)
        if origin in (Union, types.UnionType):
            return self._union(arguments, where)
        if origin is list and len(arguments) == 1:
            return self._list(arguments[0], where)
        if origin is dict and len(arguments) == 2:
            return self._dict(arguments[0], arguments[1], where)
        if origin is Annotated:
            raise SignatureError(f"{where} is {annotation}; constraints of Annotated types are not supported yet. Use the bare type.")
        if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
            return choice(_dump(member.value, where) for member in annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._model(annotation, where)
        raise SignatureError(f"{where} has the type {_name(annotation)}, for which there is no grammar. Use one of: {SUPPORTED}.")

    def longest(self, annotation: Any, where: str) -> int:
        """Bytes of the longest value of a tight grammar; infinite languages have none and are an error of the caller."""
        return _longest(self.value(annotation, where), self.builder.rules)

    def _simple(self, annotation: Any) -> Term | None:
        lower: dict[Any, Callable[[], Term]] = {str: self._string, int: self._integer, float: self._number, bool: _boolean}
        if annotation is None or annotation is type(None):
            return seq("null")
        return lower[annotation]() if isinstance(annotation, type) and annotation in lower else None

    def _string(self) -> Rule:
        if self.tight:
            return self.builder.define("string", seq('"', Repeat(PLAIN, 0, TIGHT_CHARACTERS), '"'))
        escape = choice([Chars(r'"\\/bfnrt'), seq("u", _surrogate_safe())])
        rest = Rule("string-rest")
        self.builder.define("string-rest", choice(['"', seq(PLAIN, rest), seq("\\", escape, rest)]))
        return self.builder.define("string", seq('"', rest))

    def _integer(self) -> Rule:
        digits = choice(["0", seq(Chars("1-9"), Repeat(Chars("0-9"), 0, 8 if self.tight else 17))])
        return self.builder.define("integer", seq(choice(["", "-"]), digits))

    def _number(self) -> Rule:
        digits = Chars("0-9")
        whole = choice(["0", seq(Chars("1-9"), Repeat(digits, 0, 8 if self.tight else 16))])
        fraction = choice(["", seq(".", Repeat(digits, 1, 6 if self.tight else 17))])
        exponent = choice(["", seq(Chars("eE"), choice(["", "+", "-"]), Repeat(digits, 1, 2))])
        return self.builder.define("number", seq(choice(["", "-"]), whole, fraction, exponent))

    def _union(self, members: tuple[Any, ...], where: str) -> Term:
        if self.tight and type(None) in members:
            return seq("null")
        return choice(self.value(member, where) for member in members)

    def _list(self, item: Any, where: str) -> Term:
        element = self.value(item, f"an item of {where}")
        if self.tight:
            return seq("[]")
        name = self._fresh("list")
        rest = Rule(f"{name}-rest")
        self.builder.define(f"{name}-rest", choice(["]", seq(", ", element, rest)]))
        return self.builder.define(name, seq("[", choice(["]", seq(element, rest)])))

    def _dict(self, key: Any, item: Any, where: str) -> Term:
        keys = self.value(key, f"a key of {where}")
        if key is not str and not all(isinstance(value, str) for value in get_args(key) or [None]):
            raise SignatureError(f"A key of {where} is {_name(key)}; JSON keys are text. Use dict[str, ...].")
        pair = seq(keys, ": ", self.value(item, f"a value of {where}"))
        if self.tight:
            return seq("{}")
        name = self._fresh("dict")
        rest = Rule(f"{name}-rest")
        self.builder.define(f"{name}-rest", choice(["}", seq(", ", pair, rest)]))
        return self.builder.define(name, seq("{", choice(["}", seq(pair, rest)])))

    def _model(self, model: type[BaseModel], where: str) -> Rule:
        if model in self._models:
            return Rule(self._models[model])
        checks = model.__pydantic_decorators__
        if checks.field_validators or checks.model_validators or checks.validators or checks.root_validators:
            raise SignatureError(
                f"{where} is {model.__name__}, which has validators; no grammar can enforce them. Check the values yourself."
            )
        name = self._models[model] = f"model-{len(self._models)}"
        parts: list[Term | str] = ["{"]
        for index, (field_name, info) in enumerate(model.model_fields.items()):
            label = f"{where}.{field_name}"
            if info.metadata:
                raise SignatureError(f"{label} has the constraint {info.metadata[0]!r}, which is not supported yet. Use the bare type.")
            key = json.dumps(info.alias or field_name, ensure_ascii=False)
            parts += [f"{', ' if index else ''}{key}: ", self.value(info.annotation, label)]
        return self.builder.define(name, seq(*parts, "}"))

    def _fresh(self, kind: str) -> str:
        return f"{kind}-{len(self.builder.rules)}"


def _boolean() -> Term:
    return choice(["true", "false"])


def _surrogate_safe() -> Term:
    """Four hexadecimal digits that are a character of their own and not half of one."""
    digit = Chars("0-9a-fA-F")
    first = choice([seq(Chars("0-9a-cA-CefEF"), digit), seq(Chars("dD"), Chars("0-7"))])
    return seq(first, digit, digit)


def _dump(value: Any, where: str) -> str:
    if not isinstance(value, str | int | float | bool | None):
        raise SignatureError(f"{where} has the choice {value!r}; a choice is a text, a number, a bool or None.")
    return json.dumps(value, ensure_ascii=False)


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def _longest(term: Term, rules: dict[str, Term]) -> int:
    match term:
        case Text(text):
            return len(text.encode())
        case Chars():
            return 4
        case Sequence(terms):
            return sum(_longest(part, rules) for part in terms)
        case Choice(terms):
            return max(_longest(part, rules) for part in terms)
        case Repeat(inner, _, most):
            assert most is not None, "a tight grammar repeats nothing without end"
            return most * _longest(inner, rules)
        case Rule(name):
            return _longest(rules[name], rules)
