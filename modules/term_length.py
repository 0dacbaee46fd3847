"""How long the texts of a term can be, and how deep the least value of a shape is.

Knows no decoder: these are the two questions that a finite language and a type that contains itself ask.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from homefire.engine.grammar import Chars, Choice, Literal, Repeat, Rule, Sequence, Term
from homefire.modules.type_shape import Either, Fixed, Items, Pairs, Record, Ref, Shape, Shapes, Wrapped


def longest(term: Term, rules: Mapping[str, Term]) -> int:
    """Bytes of the longest text of a term of a finite language; a character has at most four, one where only plain ASCII is allowed."""
    lengths: dict[str, int] = {}
    stack = list(_rules_in(term))
    begun: set[str] = set()
    while stack:
        name = stack[-1]
        open_ones = [other for other in _rules_in(rules[name]) if other not in lengths]
        if name in lengths or not open_ones:
            lengths.setdefault(name, _length(rules[name], lengths) if not open_ones else 0)
            stack.pop()
            continue
        assert name not in begun, f"the rule {name!r} of a tight grammar contains itself"
        begun.add(name)
        stack.extend(open_ones)
    return _length(term, lengths)


def depth(shape: Shape, depths: Mapping[str, float]) -> float:
    """References that the least value of a shape is deep; infinite when it has no finite value.

    Args:
        shape: Any shape.
        depths: What `depths_of` says of the references.
    """
    match shape:
        case Ref(name):
            return depths[name] + 1
        case Either(members):
            return min(depth(member, depths) for member in members)
        case Fixed(items):
            return max((depth(item, depths) for item in items), default=0)
        case Items(item=item, least=least):
            return depth(item, depths) if least else 0
        case Pairs(value=value, least=least):
            return depth(value, depths) if least else 0
        case Record(members=members):
            return max((depth(member.shape, depths) for member in members if member.required), default=0)
        case Wrapped(_, inner):
            return depth(inner, depths)
    return 0


def depths_of(shapes: Shapes) -> dict[str, float]:
    """Of each named shape, the depth of its least value."""
    depths = dict.fromkeys(shapes.named, math.inf)
    while True:
        refined = {name: depth(shape, depths) for name, shape in shapes.named.items()}
        if refined == depths:
            return depths
        depths = refined


def _length(term: Term, lengths: Mapping[str, int]) -> int:
    match term:
        case Literal(text):
            return len(text.encode())
        case Chars(body):
            return 1 if body.isascii() and not re.match(r"\^|.*\\(u(?!00[0-7])|[Ux])", body) else 4
        case Sequence(terms):
            return sum(_length(part, lengths) for part in terms)
        case Choice(terms):
            return max(_length(part, lengths) for part in terms)
        case Repeat(inner, _, most):
            assert most is not None, "a tight grammar repeats nothing without end"
            return most * _length(inner, lengths)
        case Rule(name):
            return lengths[name]


def _rules_in(term: Term) -> list[str]:
    match term:
        case Rule(name):
            return [name]
        case Sequence(terms) | Choice(terms):
            return [name for part in terms for name in _rules_in(part)]
    return []
