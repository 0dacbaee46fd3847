"""Python types to the grammar of their texts: which texts are values of a type, as JSON and bare.

Knows no prompt: a format puts these terms between its own words. JSON is written as `json.dumps` writes it, on one line, keys in order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from homefire.engine.grammar import Chars, GrammarBuilder, Repeat, Rule, Term, choice, seq
from homefire.errors import SignatureError
from homefire.modules.automaton import Automaton, rules
from homefire.modules.bare_text import choice_texts, style
from homefire.modules.date_grammar import named_term
from homefire.modules.number_grammar import exponents, number_automaton, whole_automaton, write_digit
from homefire.modules.shape_reader import shapes_of
from homefire.modules.shape_values import key_text
from homefire.modules.term_length import depth, depths_of, longest
from homefire.modules.text_grammar import PLAIN as PLAIN
from homefire.modules.text_grammar import TIGHT_CHARACTERS as TIGHT_CHARACTERS
from homefire.modules.text_grammar import TextGrammar
from homefire.modules.type_shape import (
    Choices,
    Either,
    Fixed,
    Flag,
    Items,
    Member,
    Named,
    Null,
    Number,
    Pairs,
    Record,
    Ref,
    Shape,
    Shapes,
    Text,
    Whole,
    Wrapped,
)

COUNTED_ITEMS = 64
"""Greatest bound on the number of items that a grammar counts."""


@dataclass
class TypeGrammar:
    """Lowers types to terms of one grammar.

    Args:
        tight: Every value is short (texts of at most `TIGHT_CHARACTERS`, as few items as allowed, null where it is allowed), so that the
            language is finite and a completion has a longest length.
    """

    tight: bool = False
    builder: GrammarBuilder = field(default_factory=GrammarBuilder)
    _known: dict[Any, Rule] = field(default_factory=dict)

    def value(self, annotation: Any, where: str) -> Term:
        """The term of all JSON texts of a type.

        Raises:
            SignatureError: the type has no grammar or no value; the message names `where` and the supported types.
        """
        lowering = _Lowering(self, annotation, where)
        return lowering.term(lowering.shapes.root, where)

    def bare(self, annotation: Any, where: str) -> Term | None:
        """The term of all bare texts of a type, as `ValueType.bare` writes them; None for free text, whose end only its format knows.

        Raises:
            SignatureError: as of `value`.
        """
        lowering = _Lowering(self, annotation, where)
        return lowering.bare(lowering.shapes.of(lowering.shapes.root), where)

    def longest(self, annotation: Any, where: str) -> int:
        """Bytes of the longest JSON text of a type in a tight grammar."""
        return self.length(self.value(annotation, where))

    def length(self, term: Term) -> int:
        """Bytes of the longest text of a term of a tight grammar."""
        return longest(term, self.builder.rules)


class _Lowering:
    """Lowers one type to the terms of a grammar."""

    def __init__(self, grammar: TypeGrammar, annotation: Any, where: str) -> None:
        self.shapes: Shapes = shapes_of(annotation, where)
        self._grammar = grammar
        self._tight, self._builder, self._known = grammar.tight, grammar.builder, grammar._known
        self._texts = TextGrammar(grammar.builder, grammar.tight)
        self._depths = depths_of(self.shapes)
        if not self._has_values(self.shapes.root):
            raise SignatureError(f"{where} has a type that contains itself without end, so it has no value. Make the inner field Optional.")

    def term(self, shape: Shape, where: str) -> Term:
        """The term of the JSON texts of a shape."""
        match shape:
            case Text():
                return self._text(shape, where)
            case Named() | Number(exact=True):
                return seq('"', self._scalar(shape, where), '"')
            case Whole() | Number() | Flag() | Null():
                return self._scalar(shape, where)
            case Choices(plain=plain):
                return choice(dict.fromkeys(json.dumps(value, ensure_ascii=False) for value in plain))
            case Either(members):
                return choice(self.term(member, where) for member in self._members(members))
            case Items(item=item, least=least, most=most):
                element = self.term(item, f"an item of {where}") if self._has_values(item) else None
                return self._repeated("[", element, least, most, "]")
            case Fixed(items):
                parts = [part for item in items for part in (", ", self.term(item, f"an item of {where}"))]
                return seq("[", *parts[1:], "]")
            case Pairs() as pairs:
                return self._pairs(pairs, where)
            case Record() as record:
                return self._rule(("record", record.cls), lambda: self._record(record, where))
            case Wrapped(_, inner):
                return self.term(inner, where)
            case Ref(name):
                return self._rule(("reference", name), lambda: self.term(self.shapes.named[name], where))

    def bare(self, shape: Shape, where: str) -> Term | None:
        """The term of the bare texts of a shape; None for free text."""
        match style(self.shapes, shape), shape:
            case "text", _:
                return None
            case "line", Text() as text:
                return self._texts.line(text, where)
            case "raw", Either(members):
                inner = next(one for member in members if not isinstance(one := self.shapes.of(member), Null))
                return seq("null") if self._tight else choice([self._raw(inner, where, optional=True), "null"])
            case "raw", _:
                return self._raw(shape, where, optional=False)
        return self.term(shape, where)

    def _raw(self, shape: Shape, where: str, *, optional: bool) -> Term:
        if isinstance(shape, Choices):
            return choice(dict.fromkeys(choice_texts(shape, optional=optional)))
        return self._scalar(shape, where)

    def _text(self, shape: Text, where: str) -> Rule:
        return self._rule(shape, lambda: self._texts.json(shape, where))

    def _scalar(self, shape: Shape, where: str) -> Term:
        """The term of a shape that is one word, without quotes."""
        match shape:
            case Flag():
                return choice(["true", "false"])
            case Named():
                return self._rule(shape, lambda: named_term(shape, tight=self._tight))
            case Whole() if shape == Whole():
                return self._rule(shape, self._any_whole)
            case Whole():
                return self._rule(shape, lambda: self._digits(whole_automaton(shape, tight=self._tight)[0], where))
            case Number() if shape in (Number(), Number(exact=True)):
                return self._rule(shape, lambda: self._any_number(exact=shape.exact))
            case Number():
                return self._rule(shape, lambda: self._number(shape, where))
        return seq("null")

    def _any_whole(self) -> Term:
        digits = choice(["0", seq(Chars("1-9"), Repeat(Chars("0-9"), 0, 8 if self._tight else 17))])
        return seq(choice(["", "-"]), digits)

    def _any_number(self, *, exact: bool) -> Term:
        digits = Chars("0-9")
        whole = choice(["0", seq(Chars("1-9"), Repeat(digits, 0, 8 if self._tight else 27 if exact else 16))])
        fraction = choice(["", seq(".", Repeat(digits, 1, 6 if self._tight else 28 if exact else 17))])
        plain = seq(choice(["", "-"]), whole, fraction)
        return plain if exact or self._tight else choice([plain, *exponents(Number())])

    def _number(self, shape: Number, where: str) -> Term:
        plain = self._digits(number_automaton(shape, tight=self._tight)[0], where)
        limited = shape.digits is not None or shape.places is not None
        return plain if self._tight or limited else choice([plain, *exponents(shape)])

    def _digits(self, automaton: Automaton, where: str) -> Term:
        if automaton.empty:
            raise SignatureError(f"{where} is a number whose bounds and digits contradict each other, so it has no value. Mend them.")
        return rules(automaton, self._builder, f"digits-{len(self._builder.rules)}", write_digit)

    def _members(self, members: tuple[Shape, ...]) -> list[Shape]:
        """The members that have values; of a tight grammar the simplest ones."""
        if self._tight and any(isinstance(self.shapes.of(member), Null) for member in members):
            return [Null()]
        least = min(depth(member, self._depths) for member in members)
        return [member for member in members if self._has_values(member) and not (self._tight and depth(member, self._depths) > least)]

    def _pairs(self, pairs: Pairs, where: str) -> Term:
        key = self.term(_as_text(pairs.key), f"a key of {where}")
        if not isinstance(pairs.key, Text | Named | Choices) and not (isinstance(pairs.key, Number) and pairs.key.exact):
            key = seq('"', key, '"')
        pair = seq(key, ": ", self.term(pairs.value, f"a value of {where}")) if self._has_values(pairs.value) else None
        return self._repeated("{", pair, pairs.least, pairs.most, "}")

    def _repeated(self, opening: str, element: Term | None, least: int, most: int | None, closing: str) -> Term:
        """Elements between brackets, counted where their number is bounded; a great upper bound is left to validation."""
        if element is None or (self._tight and not least):
            return seq(opening, closing)
        name = f"repeat-{len(self._builder.rules)}"
        item = self._builder.define(f"{name}-item", element)
        if self._tight:
            return seq(opening, *[part for _ in range(least) for part in (", ", item)][1:], closing)
        most = None if most is None or most > COUNTED_ITEMS else most
        last = max(least, 1) if most is None else most
        for count in range(last + 1):
            ways: list[Term | str] = [closing] if count >= least else []
            if most is None or count < most:
                ways.append(seq(", " if count else "", item, Rule(f"{name}-{min(count + 1, last)}")))
            self._builder.define(f"{name}-{count}", choice(ways))
        return seq(opening, Rule(f"{name}-0"))

    def _record(self, record: Record, where: str) -> Term:
        members = [member for member in record.members if member.required or (not self._tight and self._has_values(member.shape))]
        if all(member.required for member in members):
            parts = [part for member in members for part in (", ", self._member(member, where))]
            return seq("{", *parts[1:], "}")
        name = f"rest-{len(self._builder.rules)}"
        for begun in ("first", "later"):
            self._builder.define(f"{name}-{begun}-{len(members)}", seq("}"))
        for index in range(len(members) - 1, -1, -1):
            written = self._builder.define(f"{name}-member-{index}", self._member(members[index], where))
            for begun, comma in (("first", ""), ("later", ", ")):
                ways: list[Term | str] = [seq(comma, written, Rule(f"{name}-later-{index + 1}"))]
                ways += [] if members[index].required else [Rule(f"{name}-{begun}-{index + 1}")]
                self._builder.define(f"{name}-{begun}-{index}", choice(ways))
        return seq("{", Rule(f"{name}-first-0"))

    def _member(self, member: Member, where: str) -> Term:
        return seq(f"{json.dumps(member.key, ensure_ascii=False)}: ", self.term(member.shape, f"{where}.{member.name}"))

    def _has_values(self, shape: Shape) -> bool:
        return not math.isinf(depth(shape, self._depths))

    def _rule(self, key: Any, make: Callable[[], Term]) -> Rule:
        """The rule of a shape, made when it is first met; it may be met again while it is made."""
        if key not in self._known:
            own = self._known[key] = Rule(f"type-{len(self._known)}")
            self._builder.define(own.name, make())
        return self._known[key]


def _as_text(key: Shape) -> Shape:
    """The shape of a key as it is written: choices of any kind as texts."""
    return Choices(key.values, tuple(map(key_text, key.plain))) if isinstance(key, Choices) else key
