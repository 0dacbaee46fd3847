r"""Regular expressions as automata: the patterns that are regular, as pydantic's default engine reads them.

Knows no JSON. Not regular or not read here: look-around, back references, word boundaries, flags, Unicode classes by name; such patterns
give no automaton. Letters of `\w` are those of the larger scripts, digits of `\d` are 0 to 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from homefire.modules.automaton import Automaton, Ranges, TooManyStates, explore, union, without

STATES = 300
"""Most states of an automaton that becomes a grammar."""
_ANY: Ranges = ((0, 0xD7FF), (0xE000, 0x10FFFF))
_DIGITS: Ranges = ((48, 57),)
_SPACES: Ranges = ((9, 13), (32, 32))
_LETTERS: Ranges = union(
    [(65, 90), (97, 122), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F), (0x391, 0x3A1), (0x3A3, 0x3F5), (0x400, 0x481), (0x48A, 0x52F)]
) + union([(0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3)])
_WORD: Ranges = union([*_LETTERS, *_DIGITS, (95, 95)])
_MARKS: Ranges = union([(0, 8), (14, 31), (33, 47), (58, 64), (91, 94), (96, 96), (123, 126), (0x2010, 0x2027), (0x2030, 0x203E)])
"""Characters that are neither letters, digits nor white space."""
_KNOWN: Ranges = union([*_WORD, *_MARKS, *_SPACES])
_CLASSES = {
    "d": _DIGITS,
    "w": _WORD,
    "s": _SPACES,
    "D": without(_KNOWN, _DIGITS),
    "W": without(_KNOWN, _WORD),
    "S": without(_KNOWN, _SPACES),
}
_CONTROLS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_MOST_COPIES = 2000


class Irregular(Exception):
    """The pattern has no automaton here."""


@dataclass
class _Net:
    """A nondeterministic automaton: free moves, some of them only at an end of the text, and moves by a character."""

    free: list[list[tuple[str, int]]] = field(default_factory=list)
    moves: list[list[tuple[Ranges, int]]] = field(default_factory=list)

    def state(self) -> int:
        if len(self.free) > _MOST_COPIES:
            raise Irregular("too large")
        self.free.append([])
        self.moves.append([])
        return len(self.free) - 1

    def closure(self, states: frozenset[int], conditions: tuple[str, ...]) -> frozenset[int]:
        seen, queue = set(states), list(states)
        while queue:
            for condition, to in self.free[queue.pop()]:
                if condition in conditions and to not in seen:
                    seen.add(to)
                    queue.append(to)
        return frozenset(seen)


@lru_cache(maxsize=256)
def pattern_automaton(pattern: str, least: int, most: int | None) -> tuple[Automaton, bool] | None:
    """The automaton of the texts in which a pattern is found, and whether it also sees to their length; None when it has none.

    Args:
        pattern: A regular expression, searched as pydantic does: anywhere unless anchored.
        least: Fewest characters.
        most: Most characters.
    """
    try:
        net, start, end = _compiled(pattern)
    except (Irregular, IndexError):
        return None
    counted = most if most is not None else least
    for count in (counted, 0) if 0 < counted <= STATES else (0,):
        try:
            found = _deterministic(net, start, end, least if count else 0, most if count else None)
        except TooManyStates:
            continue
        if len(found.edges) <= STATES:
            return found, count == counted
    return None


def _compiled(pattern: str) -> tuple[_Net, int, int]:
    net = _Net()
    before, start, end, behind = net.state(), net.state(), net.state(), net.state()
    parser = _Parser(pattern, net)
    parser.alternatives(start, end)
    if parser.place != len(pattern):
        raise Irregular("an unmatched parenthesis")
    net.free[before].append(("", start))
    net.moves[before].append((_ANY, before))
    net.free[end].append(("", behind))
    net.moves[behind].append((_ANY, behind))
    return net, before, behind


def _deterministic(net: _Net, start: int, end: int, least: int, most: int | None) -> Automaton:
    first = net.closure(frozenset([start]), ("", "start"))
    top = most if most is not None else least

    def step(state: tuple[frozenset[int], int, bool]) -> Iterator[tuple[Ranges, tuple[frozenset[int], int, bool]]]:
        states, count, _ = state
        if most is not None and count >= most:
            return
        targets: dict[frozenset[int], list[tuple[int, int]]] = {}
        for piece, to in _pieces([move for one in states for move in net.moves[one]]):
            targets.setdefault(net.closure(to, ("",)), []).append(piece)
        for closed, ranges in targets.items():
            yield union(ranges), (closed, min(count + 1, top), False)

    def accepts(state: tuple[frozenset[int], int, bool]) -> bool:
        states, count, beginning = state
        return count >= least and end in net.closure(states, ("", "end", "start") if beginning else ("", "end"))

    return explore((first, 0, True), step, accepts, 5 * STATES)


def _pieces(moves: list[tuple[Ranges, int]]) -> Iterator[tuple[tuple[int, int], frozenset[int]]]:
    """The ranges in which the same states follow."""
    cuts = sorted({edge for ranges, _ in moves for low, high in ranges for edge in (low, high + 1)})
    for low, beyond in pairwise(cuts):
        to = frozenset(to for ranges, to in moves if any(first <= low <= last for first, last in ranges))
        if to:
            yield (low, beyond - 1), to


@dataclass
class _Parser:
    """Reads a pattern into a net, from one state to another."""

    text: str
    net: _Net
    place: int = 0

    def alternatives(self, start: int, end: int) -> None:
        while True:
            self._sequence(start, end)
            if not self._take("|"):
                return

    def _sequence(self, start: int, end: int) -> None:
        state = start
        while self.place < len(self.text) and self.text[self.place] not in "|)":
            begin = self.place
            after = self.net.state()
            self._atom(state, after)
            stop = self.place
            counts = self._counts()
            if counts is not None:
                after = self._repeated(state, begin, stop, *counts)
            state = after
        self.net.free[state].append(("", end))

    def _repeated(self, start: int, begin: int, stop: int, least: int, most: int | None) -> int:
        """The atom at `begin` as often as wanted. Its first reading hangs from `start` without a way on, and so means nothing."""
        behind = self.place
        state, end = self.net.state(), self.net.state()
        self.net.free[start].append(("", state))
        for index in range(least if most is None else most):
            if index >= least:
                self.net.free[state].append(("", end))
            after = self.net.state()
            self.place = begin
            self._atom(state, after)
            state = after
        if most is None:
            around = self.net.state()
            self.net.free[state].append(("", around))
            self.place = begin
            again = self.net.state()
            self._atom(around, again)
            self.net.free[again].append(("", around))
            state = around
        self.net.free[state].append(("", end))
        self.place = behind
        assert stop <= behind
        return end

    def _atom(self, start: int, end: int) -> None:
        char = self._next()
        if char == "(":
            self._group(start, end)
        elif char == "[":
            self.net.moves[start].append((self._class(), end))
        elif char in "^$":
            self.net.free[start].append(("start" if char == "^" else "end", end))
        elif char == ".":
            self.net.moves[start].append((without(_ANY, ((10, 10),)), end))
        elif char == "\\":
            self._escape(start, end)
        elif char in "*+?{}":
            raise Irregular(f"{char} without what it repeats")
        else:
            self.net.moves[start].append((((ord(char), ord(char)),), end))

    def _group(self, start: int, end: int) -> None:
        if self._take("?") and not self._take(":"):
            if not (self._take("P<") or self._take("<")) or self.text[self.place] in "=!":
                raise Irregular("a group that is not regular")
            self.place = self.text.index(">", self.place) + 1 if ">" in self.text[self.place :] else len(self.text) + 1
        self.alternatives(start, end)
        if not self._take(")"):
            raise Irregular("an open parenthesis")

    def _escape(self, start: int, end: int) -> None:
        char = self._next()
        if char in "AzZ":
            self.net.free[start].append(("start" if char == "A" else "end", end))
        else:
            self.net.moves[start].append((self._escaped(char), end))

    def _escaped(self, char: str) -> Ranges:
        if char in _CLASSES:
            return _CLASSES[char]
        if char in _CONTROLS:
            return ((_CONTROLS[char], _CONTROLS[char]),)
        if char in "xu":
            digits = self._next(2 if char == "x" else 4)
            if not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise Irregular("an escape in braces")
            return ((int(digits, 16), int(digits, 16)),)
        if char.isalnum():
            raise Irregular(f"the escape {char}")
        return ((ord(char), ord(char)),)

    def _class(self) -> Ranges:
        negated, found, by_name = self._take("^"), list[tuple[int, int]](), False
        first = True
        while first or self.text[self.place] != "]":
            low = self._member(first)
            first = False
            by_name |= len(low) != 1 or low[0][0] != low[0][1]
            if self.text[self.place] == "-" and self.text[self.place + 1] != "]":
                self.place += 1
                high = self._member(False)
                if len(low) != 1 or len(high) != 1 or high[0][1] < low[0][0]:
                    raise Irregular("a range that is none")
                low = ((low[0][0], high[0][1]),)
            found.extend(low)
        self.place += 1
        return without(_KNOWN if by_name else _ANY, union(found)) if negated else union(found)

    def _member(self, first: bool) -> Ranges:
        char = self._next()
        if char == "\\":
            return self._escaped(self._next())
        if char == "[" or (char == "]" and first) or (char in "&~-" and self.text[self.place] == char):
            raise Irregular("a class within a class")
        return ((ord(char), ord(char)),)

    def _counts(self) -> tuple[int, int | None] | None:
        """The repetition that follows; a lazy one means the same language."""
        char = self.text[self.place] if self.place < len(self.text) else ""
        counts: tuple[int, int | None]
        if char and char in "*+?":
            self.place += 1
            counts = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        elif char == "{":
            stop = self.text.index("}", self.place) if "}" in self.text[self.place :] else self.place
            low, comma, high = self.text[self.place + 1 : stop].partition(",")
            if not low.isdecimal() or not (high.isdecimal() or not high):
                raise Irregular("a brace that counts nothing")
            counts = int(low), (int(high) if high else None) if comma else int(low)
            self.place = stop + 1
        else:
            return None
        if self._take("+") or self.text[self.place : self.place + 1] in ("*", "{"):
            raise Irregular("a repetition of a repetition")
        self._take("?")
        return counts

    def _take(self, text: str) -> bool:
        if self.text.startswith(text, self.place):
            self.place += len(text)
            return True
        return False

    def _next(self, count: int = 1) -> str:
        if self.place + count > len(self.text):
            raise Irregular("an end where more was expected")
        self.place += count
        return self.text[self.place - count : self.place]
