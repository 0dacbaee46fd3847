"""Numbers within bounds, as automata over their digits.

Knows of JSON only the form of a number: no leading zeros, at most one point; an exponent only where no bound is near.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from homefire.engine.grammar import Chars, Repeat, Term, choice, seq
from homefire.modules.automaton import Automaton, Ranges, TooManyStates, explore
from homefire.modules.type_shape import Bound, Number, Whole

WHOLE_DIGITS = 18
"""Most digits before the point of a number without bounds."""
PLACES = 17
"""Most digits behind the point: as many as a float can need."""
TIGHT_DIGITS = 9
TIGHT_PLACES = 6
GREATEST_STEP = 100
"""Multiples of greater numbers are not told by their remainders."""
_STATES = 5000
_LEAST_PLAIN, _GREATEST_PLAIN = Decimal("1e-4"), Decimal("1e16")
"""Python writes floats between these without exponent."""


@dataclass(frozen=True, slots=True)
class _Edge:
    """A bound on a magnitude, as digits before and behind the point."""

    whole: str
    fraction: str
    included: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The magnitudes of one sign."""

    low: _Edge
    high: _Edge | None
    whole_digits: int
    places: int
    digits: int
    step: int


@dataclass(frozen=True, slots=True)
class _State:
    """Where in a number, and how its digits so far compare with each bound (-1, 0, 1)."""

    part: str
    count: int = 0
    low: int = 0
    high: int = 0
    left: int = 0
    """Digits that may follow."""
    remainder: int = 0
    negative: bool = False


@lru_cache(maxsize=256)
def whole_automaton(shape: Whole, *, tight: bool) -> tuple[Automaton, bool]:
    """The automaton of whole numbers within bounds, and whether it also sees to their multiple."""
    low = None if shape.least is None else Bound(Decimal(shape.least), included=True)
    high = None if shape.most is None else Bound(Decimal(shape.most), included=True)
    most = TIGHT_DIGITS if tight else WHOLE_DIGITS
    if 1 < shape.multiple <= GREATEST_STEP:
        try:
            digits = max(4, min(most, 500 // shape.multiple))
            return _automaton(low, high, whole_digits=digits, places=0, digits=None, step=shape.multiple), True
        except TooManyStates:
            pass
    return _automaton(low, high, whole_digits=most, places=0, digits=None, step=1), shape.multiple == 1


@lru_cache(maxsize=256)
def number_automaton(shape: Number, *, tight: bool) -> tuple[Automaton, bool]:
    """The automaton of numbers within bounds, without exponents, and whether it also sees to their multiple."""
    places = _places(shape, tight=tight)
    if shape.digits is not None and shape.places is not None:
        whole = shape.digits - shape.places
    else:
        whole = min(TIGHT_DIGITS if tight else WHOLE_DIGITS, shape.digits or WHOLE_DIGITS)
    automaton = _automaton(shape.low, shape.high, whole_digits=whole, places=places, digits=shape.digits, step=1)
    return automaton, shape.multiple is None or _tenths(shape.multiple) is not None


def exponents(shape: Number) -> list[Term]:
    """The numbers with exponents that keep all bounds, as Python writes floats that are very small or very large."""
    if shape.exact or shape.multiple is not None:
        return []
    digits = seq(Chars("1-9"), choice(["", seq(".", Repeat(Chars("0-9"), 1, PLACES))]))
    small = seq(
        digits, "e-", choice([seq("0", Chars("5-9")), seq(Chars("1-9"), Chars("0-9")), seq(Chars("12"), Repeat(Chars("0-9"), 2, 2))])
    )
    large = seq(
        digits, "e+", choice([seq("1", Chars("6-9")), seq(Chars("2-9"), Chars("0-9")), seq(Chars("12"), Repeat(Chars("0-9"), 2, 2))])
    )
    low, high = shape.low, shape.high
    signs = [("", low, high), ("-", _mirrored(high), _mirrored(low))]
    found: list[Term] = []
    for sign, least, most in signs:
        if (least is None or least.value <= 0) and (most is None or most.value >= _LEAST_PLAIN):
            found.append(seq(sign, small))
        if (least is None or least.value < _GREATEST_PLAIN) and most is None:
            found.append(seq(sign, large))
    return found


def write_digit(ranges: Ranges) -> list[Term]:
    """The term of a character of a number."""
    return [Chars("".join(chr(low) if low == high else f"{chr(low)}-{chr(high)}" for low, high in ranges))]


def _places(shape: Number, *, tight: bool) -> int:
    """Digits behind the point; fewer beside a bound that is excluded, so that none of these floats is rounded to it."""
    places = TIGHT_PLACES if tight else PLACES
    if not shape.exact:
        excluded = [bound.value for bound in (shape.low, shape.high) if bound is not None and not bound.included]
        places = min([places, *(max(0, 14 - len(str(abs(int(value))))) for value in excluded)])
    limits = [shape.places, shape.digits, _tenths(shape.multiple) if shape.multiple is not None else None]
    return min([places, *(limit for limit in limits if limit is not None)])


def _tenths(step: Decimal) -> int | None:
    """How many places the multiples of 1, 0.1, 0.01 and so on have; None for other steps."""
    sign, digits, exponent = step.normalize().as_tuple()
    return -exponent if digits == (1,) and not sign and isinstance(exponent, int) and exponent <= 0 else None


def _mirrored(bound: Bound | None) -> Bound | None:
    return None if bound is None else Bound(-bound.value, bound.included)


def _automaton(low: Bound | None, high: Bound | None, *, whole_digits: int, places: int, digits: int | None, step: int) -> Automaton:
    positive = _side(low, high, Bound(Decimal(0), included=True))
    negative = _side(_mirrored(high), _mirrored(low), Bound(Decimal(0), included=False))
    sides: dict[bool, _Side] = {}
    for is_negative, edges in ((False, positive), (True, negative)):
        if edges is not None:
            least, most = edges
            longest = len(most.whole) if most else max(whole_digits, len(least.whole) + 1)
            longest = longest if digits is None else min(longest, whole_digits)
            left = longest + places if digits is None else digits
            sides[is_negative] = _Side(low=least, high=most, whole_digits=longest, places=places, digits=left, step=step)

    def follow(state: _State) -> Iterator[tuple[Ranges, _State]]:
        if state.part == "start":
            if True in sides:
                yield ((45, 45),), _State("sign", negative=True, left=sides[True].digits)
            if False in sides:
                yield from _digits(sides[False], replace(state, left=sides[False].digits))
        else:
            yield from _digits(sides[state.negative], state)

    def accepts(state: _State) -> bool:
        return state.part not in ("start", "sign", "point") and _ends(sides[state.negative], state)

    return explore(_State("start"), follow, accepts, _STATES)


def _side(low: Bound | None, high: Bound | None, zero: Bound) -> tuple[_Edge, _Edge | None] | None:
    """The ends of the magnitudes from zero on; None when there are none."""
    if high is not None and (high.value < zero.value or (high.value == 0 and not (high.included and zero.included))):
        return None
    least = zero if low is None or low.value < 0 else Bound(low.value, low.included and (low.value > 0 or zero.included))
    return _edge(least), None if high is None else _edge(high)


def _edge(bound: Bound) -> _Edge:
    whole, _, fraction = format(bound.value, "f").partition(".")
    return _Edge(whole, fraction.rstrip("0"), bound.included)


def _digits(side: _Side, state: _State) -> Iterator[tuple[Ranges, _State]]:
    """What may follow: a digit, or the point."""
    if state.part in ("whole", "zero") and side.places and state.left > 0:
        low, high = _compared(side, state)
        if low >= 0 and high <= 0:
            yield ((46, 46),), replace(state, part="point", count=0, low=low, high=high)
    if state.part == "zero":
        return
    fraction = state.part in ("point", "fraction")
    begins = state.part in ("start", "sign")
    room = state.left > 0 and state.count < (side.places if fraction else side.whole_digits)
    for digit in range(10 if room else 1 if begins else 0):
        low = _compare(state.low, digit, side.low.fraction if fraction else side.low.whole, state.count)
        high = _compare(state.high, digit, side.high.fraction if fraction else side.high.whole, state.count) if side.high else -1
        if fraction and (low < 0 or high > 0):
            continue
        zero = begins and digit == 0
        following = _State(
            part="fraction" if fraction else "zero" if zero else "whole",
            count=state.count + 1,
            low=low,
            high=high,
            left=state.left if zero else state.left - 1,
            remainder=(state.remainder * 10 + digit) % side.step,
            negative=state.negative,
        )
        yield ((48 + digit, 48 + digit),), following


def _compare(so_far: int, digit: int, bound: str, place: int) -> int:
    """How the digits compare with the bound's, one digit later; behind the bound's last digit come zeros."""
    if so_far:
        return so_far
    other = int(bound[place]) if place < len(bound) else 0
    return (digit > other) - (digit < other)


def _compared(side: _Side, state: _State) -> tuple[int, int]:
    """How a complete whole part compares with those of the bounds: a longer one is greater."""
    by_length = [(state.count > len(edge.whole)) - (state.count < len(edge.whole)) if edge else -1 for edge in (side.low, side.high)]
    return by_length[0] or state.low, by_length[1] or state.high


def _ends(side: _Side, state: _State) -> bool:
    """Whether a number may end here."""
    if state.remainder:
        return False
    fraction = state.part == "fraction"
    low, high = (state.low, state.high) if fraction else _compared(side, state)
    read = state.count if fraction else 0
    at_low = low == 0 and not side.low.fraction[read:] and side.low.included
    at_high = side.high is None or high < 0 or (high == 0 and (bool(side.high.fraction[read:]) or side.high.included))
    return (low > 0 or at_low) and at_high
