"""Patterns as automata, against pydantic itself: the same texts match, and every drawn text is valid."""

from __future__ import annotations

import random
from typing import Annotated

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from homefire.modules.automaton import Automaton
from homefire.modules.pattern_grammar import STATES, pattern_automaton

REGULAR = [
    r"^\d+$", "abc", r"^[A-Z]{2}\d{3,5}$", r"^a|b$", r"^(foo|bar)+baz?$", r"\d{3}-\d{4}", r"^[^,\s]+@[a-z.]+\.(com|org)$", r"^.{2,5}$",
    r"^$|^x", r"^(?:a{2,3}b?){1,2}$", r"^(?P<y>\d\d)x*?$", r"^\w+\s\W$", r"^[\w.+-]+$", r"[^\d]", r"^\S{3}$", r"(a*)*", r"^(|a)b", r"^^a",
    r"^[-a]$", r"^[a\-z]$", r"\.", r"^\x41", r"x{0}", r"^#[0-9a-fA-F]{6}$", r"^(\+\d{1,3} )?\(\d{3}\) \d{3}-\d{4}$", r"^\D+$", r"^[\d-]+$",
]  # fmt: skip


def matches(automaton: Automaton, text: str) -> bool:
    state = 0
    for char in text:
        found = [to for ranges, to in automaton.edges[state] if any(low <= ord(char) <= high for low, high in ranges)]
        if not found:
            return False
        (state,) = found
    return automaton.accepting[state]


def draw(automaton: Automaton, source: random.Random) -> str:
    state, text = 0, ""
    while automaton.edges[state] and not (automaton.accepting[state] and source.random() < 0.3):
        if len(text) > 60:
            return draw(automaton.shortest(), source)
        ranges, state = source.choice(automaton.edges[state])
        text += chr(source.randint(*source.choice(ranges)))
    return text


@pytest.mark.parametrize("pattern", REGULAR)
def test_a_pattern_means_what_pydantic_means(pattern: str) -> None:
    source, adapter = random.Random(pattern), TypeAdapter(Annotated[str, Field(pattern=pattern)])

    def is_valid(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    found = pattern_automaton(pattern, 0, None)
    assert found is not None
    assert [text for text in (draw(found[0], source) for _ in range(100)) if not is_valid(text)] == []
    assert is_valid(draw(found[0].shortest(), source))
    others = ["".join(source.choice("ab1x,- .@comfrz(A\n") for _ in range(source.randint(0, 7))) for _ in range(1500)]
    assert [text for text in others if matches(found[0], text) != is_valid(text)] == []


@pytest.mark.parametrize(
    "pattern", [r"(?=a)", r"(a)\1", r"\bfoo", r"(?i)a", r"\p{L}", r"[[:alpha:]]", r"[a&&b]", "a**", "a{,3}", "(", "a)", "a++",
     r"^.{1,2000}$", "[a", "x{"]
)  # fmt: skip
def test_what_is_not_regular_has_no_automaton(pattern: str) -> None:
    assert pattern_automaton(pattern, 0, None) is None


@pytest.mark.parametrize(("least", "most"), [(2, 20), (0, 5), (5, None)])
def test_lengths_are_counted_too(least: int, most: int | None) -> None:
    found = pattern_automaton(r"^[a-z]+$", least, most)
    assert found is not None and found[1]
    for length in range(30):
        assert matches(found[0], "a" * length) == (length >= max(1, least) and (most is None or length <= most))


def test_a_length_that_would_take_too_many_states_is_left_out() -> None:
    found = pattern_automaton(r"^\w+$", 2, 2000)
    assert found is not None and not found[1] and len(found[0].edges) < STATES


def test_an_impossible_pattern_is_empty() -> None:
    found = pattern_automaton("a$b", 0, None)
    assert found is not None and found[0].empty
