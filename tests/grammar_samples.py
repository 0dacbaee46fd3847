"""Random texts of a term: what a decoder could write, as drawn by nobody in particular."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping

from homefire.engine.grammar import Chars, Choice, Literal, Repeat, Rule, Sequence, Term

_CHARACTER = re.compile(r"\\x(..)|\\u(....)|\\U(........)|\\(.)|(.)", re.DOTALL)
_FAVOURITES = 'aZ09 "\\<>,.-_é日\n\x00\U0001f600'


class Sampler:
    """Draws texts of the terms of one grammar.

    Args:
        rules: The rules that terms may name.
        seed: Decides every draw.
        depth: Rules within rules after which the shortest way to an end is taken.
    """

    def __init__(self, rules: Mapping[str, Term], seed: int = 0, depth: int = 60) -> None:
        self.rules, self.draw, self.depth = rules, random.Random(seed), depth
        self.ends: dict[str, float] = dict.fromkeys(rules, math.inf)
        while True:
            refined = {name: 1 + self._end(term) for name, term in rules.items()}
            if refined == self.ends:
                break
            self.ends = refined

    def text(self, term: Term, depth: int = 0) -> str:
        match term:
            case Literal(text):
                return text
            case Chars(body):
                return self._character(body)
            case Sequence(terms):
                return "".join(self.text(part, depth) for part in terms)
            case Repeat(inner, least, most):
                return "".join(
                    self.text(inner) for _ in range(self.draw.randint(least, min(least + 8 if most is None else most, least + 300)))
                )
            case Rule(name):
                return self.text(self.rules[name], depth + 1)
            case Choice(terms):
                shortest = min(self._end(part) for part in terms)
                short = [part for part in terms if self._end(part) == shortest]
                finite = [part for part in terms if not math.isinf(self._end(part))]
                return self.text(self.draw.choice(short if depth > self.depth else finite), depth)

    def _end(self, term: Term) -> float:
        match term:
            case Sequence(terms):
                return max((self._end(part) for part in terms), default=0)
            case Choice(terms):
                return min(self._end(part) for part in terms)
            case Rule(name):
                return self.ends[name]
        return 0

    def _character(self, body: str) -> str:
        negated = body.startswith("^")
        ranges = _ranges(body.removeprefix("^"))
        if not negated:
            low, high = self.draw.choice(ranges)
            return chr(self.draw.randint(low, high))
        while True:
            char = self.draw.choice(_FAVOURITES) if self.draw.random() < 0.7 else chr(self.draw.randint(1, 0xD7FF))
            if not any(low <= ord(char) <= high for low, high in ranges):
                return char


def _ranges(body: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    units = [_code(match) for match in _CHARACTER.finditer(body)]
    index = 0
    while index < len(units):
        if index + 2 < len(units) and units[index + 1] == (ord("-"), False):
            found.append((units[index][0], units[index + 2][0]))
            index += 3
        else:
            found.append((units[index][0], units[index][0]))
            index += 1
    return found


def _code(match: re.Match[str]) -> tuple[int, bool]:
    """A character's code point, and whether it was escaped."""
    for digits in match.group(1, 2, 3):
        if digits:
            return int(digits, 16), True
    return (ord(match.group(4)), True) if match.group(4) else (ord(match.group(5)), False)
