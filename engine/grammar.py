"""Grammars as values: a small algebra of terms, printed as GBNF for the decoders.

Knows no types and no formats: `modules` says which language an output has, the engines compile the text.
GBNF is the notation of llama.cpp's grammars, which XGrammar reads (arXiv 2411.15100, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Grammar:
    """A context-free language in GBNF whose start rule is `root`. Equal texts are equal grammars."""

    gbnf: str
    json_schema: str | None = None
    """JSON Schema of the nearest language that has one, for servers that read no grammars; None where the language is not JSON."""


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a class, written as inside the brackets of a GBNF class: `0-9`, `^"`."""

    body: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Terms one after the other."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several terms."""

    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """A character class from `least` to `most` times; `most=None` is without end.

    Only classes repeat: XGrammar needs microseconds a token for a repeated class and for a right-recursive rule, but tens of milliseconds
    for a repeated group, so everything else that repeats is written as a recursive rule.
    """

    term: Chars
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A reference to a rule by name, for shared and recursive parts."""

    name: str


Term = Literal | Chars | Sequence | Choice | Repeat | Rule


def seq(*parts: Term | str) -> Sequence:
    """A sequence; strings stand for themselves."""
    return Sequence(tuple(Literal(part) if isinstance(part, str) else part for part in parts))


def choice(terms: Iterable[Term | str]) -> Choice:
    """A choice; strings stand for themselves."""
    return Choice(tuple(Literal(term) if isinstance(term, str) else term for term in terms))


@dataclass
class GrammarBuilder:
    """Collects named rules and prints the grammar."""

    rules: dict[str, Term] = field(default_factory=dict)

    def define(self, name: str, term: Term) -> Rule:
        """Adds a rule once; a second definition of the same name must be the same term."""
        if self.rules.setdefault(name, term) != term:
            raise AssertionError(f"rule {name!r} is defined twice with different terms")
        return Rule(name)

    def build(self, root: Term) -> Grammar:
        """The grammar with this start term."""
        lines = [f"root ::= {_print(root)}"]
        lines += [f"{name} ::= {_print(term)}" for name, term in self.rules.items()]
        return Grammar("\n".join(lines) + "\n")


def _print(term: Term) -> str:
    match term:
        case Literal(text):
            return f'"{_escape(text)}"'
        case Chars(body):
            return f"[{body}]"
        case Sequence(terms):
            return " ".join(_print(t) for t in terms if t != Literal("")) or '""'
        case Choice(terms):
            return "(" + " | ".join(_print(t) for t in terms) + ")"
        case Repeat(inner, least, most):
            return f"{_print(inner)}{_count(least, most)}"
        case Rule(name):
            return name


def _count(least: int, most: int | None) -> str:
    if most is None:
        return {0: "*", 1: "+"}.get(least, f"{{{least},}}")
    return "?" if (least, most) == (0, 1) else f"{{{least},{most}}}"


def _escape(text: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(named.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}") for c in text)
