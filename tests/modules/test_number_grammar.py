"""Numbers within bounds, digit by digit, against arithmetic."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from homefire.modules.automaton import Automaton
from homefire.modules.number_grammar import number_automaton, whole_automaton
from homefire.modules.type_shape import Bound, Number, Whole


def matches(automaton: Automaton, text: str) -> bool:
    state = 0
    for char in text:
        found = [to for ranges, to in automaton.edges[state] if any(low <= ord(char) <= high for low, high in ranges)]
        if not found:
            return False
        (state,) = found
    return automaton.accepting[state]


ENDS = st.none() | st.integers(-1200, 1200) | st.integers(-12, 12)
BOUNDS = st.none() | st.builds(Bound, st.decimals(-30, 30, places=2) | st.integers(-3, 3).map(Decimal), st.booleans())
NUMBERS = st.decimals(-40, 40, places=3) | st.decimals(-40, 40, places=1) | st.integers(-40, 40).map(Decimal)


@settings(max_examples=60, deadline=None)
@given(ENDS, ENDS, st.sampled_from([1, 1, 2, 3, 7, 10]))
def test_whole_numbers_keep_their_bounds_and_multiples(low: int | None, high: int | None, step: int) -> None:
    automaton, _ = whole_automaton(Whole(least=low, most=high, multiple=step), tight=False)
    for n in range(-1300, 1300):
        wanted = (low is None or n >= low) and (high is None or n <= high) and n % step == 0
        assert matches(automaton, str(n)) == wanted
    assert not any(matches(automaton, text) for text in ("", "-", "-0", "01", "1.0", "+1"))


@settings(max_examples=100, deadline=None)
@given(BOUNDS, BOUNDS, st.lists(NUMBERS, min_size=20, max_size=60))
def test_numbers_keep_their_bounds(low: Bound | None, high: Bound | None, numbers: list[Decimal]) -> None:
    automaton, _ = number_automaton(Number(exact=True, low=low, high=high), tight=False)
    ends = [bound.value for bound in (low, high) if bound is not None]
    for n in [*numbers, *ends, *(end + Decimal("0.0001") for end in ends), *(end - Decimal("0.0001") for end in ends)]:
        above = low is None or n > low.value or (n == low.value and low.included)
        below = high is None or n < high.value or (n == high.value and high.included)
        if n != 0 or not n.is_signed():
            assert matches(automaton, format(n, "f")) == (above and below), n


def test_digits_are_counted() -> None:
    automaton, _ = number_automaton(Number(exact=True, digits=4, places=2), tight=False)
    assert all(matches(automaton, text) for text in ("0", "0.00", "99.99", "-12.3", "7"))
    assert not any(matches(automaton, text) for text in ("100", "9.999", "123", "1.", ".5"))
    fraction, _ = number_automaton(Number(exact=True, digits=2, places=2), tight=False)
    assert matches(fraction, "0.25") and not matches(fraction, "1.0")


def test_steps_that_cannot_be_counted_are_said() -> None:
    assert whole_automaton(Whole(multiple=7), tight=False)[1]
    assert not whole_automaton(Whole(multiple=250), tight=False)[1]
    assert number_automaton(Number(multiple=Decimal("0.01")), tight=False)[1]
    assert not number_automaton(Number(multiple=Decimal("0.25")), tight=False)[1]
