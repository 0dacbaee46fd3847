"""Deterministic automata over characters, and the right-recursive rules that say the same.

Knows no regular expressions and no numbers; who knows them says which state follows which.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from homefire.engine.grammar import GrammarBuilder, Rule, Term, choice, seq

Ranges = tuple[tuple[int, int], ...]
"""Code points as sorted inclusive ranges that do not touch."""
S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Automaton:
    """States are numbers and the start is 0; from every state an end can be reached, unless the language is empty."""

    edges: tuple[tuple[tuple[Ranges, int], ...], ...]
    """Of each state, the characters that lead to others, which are disjoint."""
    accepting: tuple[bool, ...]

    @property
    def empty(self) -> bool:
        return not any(self.accepting)

    def shortest(self) -> Automaton:
        """Only the texts that take a shortest way to an end; they are finitely many."""
        distances = _distances(self.edges, self.accepting)
        edges = [
            [(ranges, to) for ranges, to in own if distances[to] == distances[state] - 1 and not self.accepting[state]]
            for state, own in enumerate(self.edges)
        ]
        return _least(edges, list(self.accepting))


class TooManyStates(Exception):
    """An automaton would have more states than allowed."""


def explore(start: S, step: Callable[[S], Iterable[tuple[Ranges, S]]], accepts: Callable[[S], bool], limit: int) -> Automaton:
    """The least automaton of the states reached from `start`.

    Args:
        start: The first state.
        step: Disjoint character ranges and the state each leads to.
        accepts: Whether a text may end in a state.
        limit: Most states to look at.

    Raises:
        TooManyStates: there are more than `limit`.
    """
    numbers = {start: 0}
    order = [start]
    edges: list[list[tuple[Ranges, int]]] = []
    for state in order:
        own = []
        for ranges, to in step(state):
            if to not in numbers:
                if len(order) >= limit:
                    raise TooManyStates(f"more than {limit} states")
                numbers[to] = len(order)
                order.append(to)
            own.append((ranges, numbers[to]))
        edges.append(own)
    return _least(edges, [accepts(state) for state in order])


def rules(
    automaton: Automaton,
    builder: GrammarBuilder,
    name: str,
    write: Callable[[Ranges], list[Term]],
    end: Term | str = "",
    *,
    first: Callable[[Ranges], list[Term]] | None = None,
) -> Rule:
    """The automaton as rules `name-0`, `name-1`, ...

    Args:
        automaton: Of a language that is not empty.
        builder: Gets the rules.
        name: Beginning of their names.
        write: The terms of a character of some ranges, one for each way in which it is written; none where it cannot be.
        end: What follows the text.
        first: `write` for the first character.
    """

    def state_rule(state: int, own: str, write: Callable[[Ranges], list[Term]]) -> Rule:
        ways: list[Term | str] = [seq(term, Rule(f"{name}-{to}")) for ranges, to in automaton.edges[state] for term in write(ranges)]
        return builder.define(own, choice([*ways, end] if automaton.accepting[state] else ways))

    for state in range(len(automaton.edges)):
        state_rule(state, f"{name}-{state}", write)
    return state_rule(0, f"{name}-start", first) if first is not None else Rule(f"{name}-0")


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, with those that touch joined."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def without(ranges: Ranges, removed: Ranges) -> Ranges:
    """The code points of the first that are not in the second."""
    left: list[tuple[int, int]] = []
    for low, high in ranges:
        begin = low
        for cut_low, cut_high in removed:
            if cut_high < begin or cut_low > high:
                continue
            if cut_low > begin:
                left.append((begin, cut_low - 1))
            begin = cut_high + 1
        if begin <= high:
            left.append((begin, high))
    return tuple(left)


def _least(edges: list[list[tuple[Ranges, int]]], accepting: list[bool]) -> Automaton:
    """Without states that reach no end, and with those that mean the same made one.

    States mean different things when their nearest or farthest ends are at different distances, so the refinement starts from there.
    """
    distances = _distances(edges, accepting)
    pieces, table = _table(edges, [distance != _NEVER for distance in distances])
    heights = _heights(table)
    keys: list[Hashable] = list(zip(distances, heights, strict=True))
    block = _numbers(keys)
    while True:
        refined = _numbers([(block[state], tuple(to if to < 0 else block[to] for to in row)) for state, row in enumerate(table)])
        if max(refined) == max(block):
            break
        block = refined
    return _numbered(pieces, table, accepting, block)


def _numbers(keys: Iterable[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _table(edges: list[list[tuple[Ranges, int]]], alive: list[bool]) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """The ranges that no edge tells apart, and of each state what follows each of them, or -1."""
    cuts = sorted({cut for own in edges for ranges, _ in own for low, high in ranges for cut in (low, high + 1)})
    place = {cut: index for index, cut in enumerate(cuts)}
    table = []
    for own in edges:
        row = [-1] * max(0, len(cuts) - 1)
        for ranges, to in own:
            for low, high in ranges if alive[to] else ():
                row[place[low] : place[high + 1]] = [to] * (place[high + 1] - place[low])
        table.append(row)
    return [(low, beyond - 1) for low, beyond in pairwise(cuts)], table


def _heights(table: list[list[int]]) -> list[int]:
    """Characters from each state to the farthest end; -1 where there is no farthest."""
    following = [{to for to in row if to >= 0} for row in table]
    into: list[list[int]] = [[] for _ in table]
    for state, own in enumerate(following):
        for to in own:
            into[to].append(state)
    open_edges = [len(own) for own in following]
    heights = [0 if not own else -1 for own in following]
    queue = [state for state, own in enumerate(following) if not own]
    for state in queue:
        for before in into[state]:
            open_edges[before] -= 1
            if not open_edges[before]:
                heights[before] = 1 + max(heights[to] for to in following[before])
                queue.append(before)
    return heights


def _numbered(pieces: list[tuple[int, int]], table: list[list[int]], accepting: list[bool], block: list[int]) -> Automaton:
    """One state for each block that the start's block reaches, in the order in which they are met."""
    member = {own: state for state, own in reversed(list(enumerate(block)))}
    order, numbers = [block[0]], {block[0]: 0}
    edges = []
    for own in order:
        targets: dict[int, list[tuple[int, int]]] = {}
        for piece, to in zip(pieces, table[member[own]], strict=True):
            if to >= 0:
                targets.setdefault(block[to], []).append(piece)
        for to in targets:
            if to not in numbers:
                numbers[to] = len(order)
                order.append(to)
        edges.append(tuple((union(ranges), numbers[to]) for to, ranges in targets.items()))
    return Automaton(tuple(edges), tuple(accepting[member[own]] for own in order))


_NEVER = -1


def _distances(edges: Iterable[Iterable[tuple[Ranges, int]]], accepting: Iterable[bool]) -> list[int]:
    """Characters from each state to the nearest end; `_NEVER` where there is none."""
    found = [0 if flag else _NEVER for flag in accepting]
    into: list[list[int]] = [[] for _ in found]
    for state, own in enumerate(edges):
        for _, to in own:
            into[to].append(state)
    queue = [state for state, distance in enumerate(found) if distance == 0]
    for state in queue:
        for before in into[state]:
            if found[before] == _NEVER:
                found[before] = found[state] + 1
                queue.append(before)
    return found
