"""Texts as terms: JSON strings and single lines, with bounds on their length and patterns.

Knows no other type. A bounded text is a chain of rules, one for each character: decoders follow it in microseconds a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homefire.engine.grammar import Chars, GrammarBuilder, Repeat, Rule, Term, choice, seq
from homefire.errors import SignatureError
from homefire.modules.automaton import Ranges, rules, without
from homefire.modules.bare_text import LINE_EXCLUDES
from homefire.modules.pattern_grammar import pattern_automaton
from homefire.modules.type_shape import Text

PLAIN = Chars(r'^"\\\x00-\x1f')
"""A character that stands for itself inside a JSON string."""
LINE = Chars("^" + LINE_EXCLUDES)
"""A character that stands for itself in a line."""
LINE_START = Chars("^" + LINE_EXCLUDES + r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000")
TIGHT_CHARACTERS = 32
"""Longest text that fills a field of an output that was cut off."""
LONGEST_CHAIN = 128
"""Longest bounded text with escapes; in a longer one every character stands for itself."""
_JSON_SPECIAL: Ranges = ((0, 31), (34, 34), (92, 92))
_LINE_SPECIAL: Ranges = ((0, 31), (60, 60), (92, 92), (127, 159), (0x2028, 0x2029))
_LINE_BLANK: Ranges = ((32, 32), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000))
_SHORT = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 60: "\\u003c", 92: "\\\\"}


@dataclass(frozen=True, slots=True)
class _Dialect:
    """How the characters of a text are written."""

    name: str
    start: Chars
    plain: Chars
    escapes: str
    special: Ranges
    end: str


_JSON = _Dialect("string", PLAIN, PLAIN, r'"\\/bfnrt', _JSON_SPECIAL, '"')
_LINE = _Dialect("line", LINE_START, LINE, r'"\\/bfnrt', _LINE_SPECIAL, "")


@dataclass(frozen=True, slots=True)
class TextGrammar:
    """Lowers texts to terms of one grammar; `tight` makes all of them short."""

    builder: GrammarBuilder
    tight: bool

    def json(self, shape: Text, where: str) -> Term:
        """The term of a text as a JSON string."""
        return seq('"', self._body(shape, _JSON, where))

    def line(self, shape: Text, where: str) -> Term:
        """The term of a bounded text as one line, with escapes as `bare_text.write_line` makes them."""
        return self._body(shape, _LINE, where)

    def _body(self, shape: Text, dialect: _Dialect, where: str) -> Term:
        matched = self._matched(shape, dialect, where) if shape.pattern is not None else None
        if matched is not None:
            return matched
        least, most = shape.least, shape.most
        if self.tight:
            most = min(max(least, TIGHT_CHARACTERS), most if most is not None else least + TIGHT_CHARACTERS)
            return self._plain(dialect, least, most)
        if most is None and least <= LONGEST_CHAIN:
            return self._chain(dialect, least, most)
        if most is not None and most <= LONGEST_CHAIN:
            return self._chain(dialect, least, most)
        return self._plain(dialect, least, most)

    def _plain(self, dialect: _Dialect, least: int, most: int | None) -> Term:
        """Characters that all stand for themselves."""
        if most == 0:
            return seq(dialect.end)
        rest = Repeat(dialect.plain, max(0, least - 1), None if most is None else most - 1)
        text = seq(dialect.start, rest)
        return seq(choice([text, ""]) if least == 0 else text, dialect.end)

    def _chain(self, dialect: _Dialect, least: int, most: int | None) -> Rule:
        """Rules that each take one character, the last of them as often as wanted when there is no end."""
        name = f"{dialect.name}-{least}-{'any' if most is None else most}"
        last = most if most is not None else least
        for index in range(last + 1):
            following = None if index == last and most is not None else Rule(f"{name}-{min(index + 1, last)}")
            self.builder.define(f"{name}-{index}", self._step(dialect, dialect.plain, following, ends=index >= least))
        begin = Rule(f"{name}-1") if last >= 1 else Rule(f"{name}-0")
        if dialect.start == dialect.plain or most == 0:
            return Rule(f"{name}-0")
        return self.builder.define(f"{name}-start", self._step(dialect, dialect.start, begin, ends=least == 0))

    def _step(self, dialect: _Dialect, plain: Chars, following: Rule | None, *, ends: bool) -> Term:
        ways: list[Term | str] = [dialect.end] if ends else []
        if following is not None:
            ways += [seq(plain, following), seq("\\", self._escape(dialect), following)]
        return choice(ways)

    def _escape(self, dialect: _Dialect) -> Rule:
        return self.builder.define("escape", choice([Chars(dialect.escapes), seq("u", _surrogate_safe())]))

    def _matched(self, shape: Text, dialect: _Dialect, where: str) -> Term | None:
        """The term of the texts in which the pattern is found; None when it is not regular."""
        found = pattern_automaton(shape.pattern or "", shape.least, shape.most)
        if found is None:
            return None
        automaton = found[0]
        if automaton.empty:
            raise SignatureError(f"{where} must match {shape.pattern!r}, and no text of its length does. Mend the pattern or the length.")
        if self.tight:
            automaton = automaton.shortest()
        name = f"{dialect.name}-{len(self.builder.rules)}"
        first = _writer(dialect, blank=dialect is not _LINE)
        return rules(automaton, self.builder, name, _writer(dialect, blank=True), dialect.end, first=first)


def _writer(dialect: _Dialect, *, blank: bool) -> Callable[[Ranges], list[Term]]:
    """Writes one character of some ranges; where `blank` is false, a space only as an escape."""

    def write(ranges: Ranges) -> list[Term]:
        plain = without(without(ranges, dialect.special), () if blank else _LINE_BLANK)
        inside = without(ranges, without(((0, 0x10FFFF),), dialect.special))
        escaped = [code for low, high in inside for code in range(low, high + 1)]
        terms: list[Term] = [Chars("".join(_span(low, high) for low, high in plain))] if plain else []
        terms += [seq(_SHORT[code]) for code in escaped if code in _SHORT]
        if dialect is _LINE and any(low <= 32 <= high for low, high in ranges):
            terms.append(seq("\\u0020"))
        for high in (0, 1):
            low_digits = [f"{code:02x}"[1] for code in escaped if code // 16 == high and code not in _SHORT]
            terms += [seq(f"\\u00{high}", Chars("".join(low_digits)))] if low_digits else []
        return terms

    return write


def _span(low: int, high: int) -> str:
    return _char(low) if low == high else f"{_char(low)}-{_char(high)}"


def _char(code: int) -> str:
    """A character inside the brackets of a class, with four digits: XGrammar reads on behind the two that should be enough."""
    if chr(code).isascii() and chr(code).isalnum():
        return chr(code)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _surrogate_safe() -> Term:
    """Four hexadecimal digits that are a character of their own and not half of one."""
    digit = Chars("0-9a-fA-F")
    first = choice([seq(Chars("0-9a-cA-CefEF"), digit), seq(Chars("dD"), Chars("0-7"))])
    return seq(first, digit, digit)
