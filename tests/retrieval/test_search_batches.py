"""Calls of several threads are answered together, in order, and never spoil each other; a lone call waits for nobody."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from homefire.retrieval.search_batches import Together


def test_a_lone_call_is_a_batch_of_one() -> None:
    seen: list[list[int]] = []

    def double(key: str, items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        return [2 * item for item in items]

    together = Together(double)
    assert [together("a", 1), together("a", 2)] == [2, 4]
    assert seen == [[1], [2]]


def test_calls_that_come_while_one_runs_are_the_next_batch() -> None:
    begun, go = threading.Event(), threading.Event()
    batches: list[tuple[str, list[int]]] = []

    def work(key: str, items: Sequence[int]) -> list[int]:
        batches.append((key, list(items)))
        begun.set()
        assert go.wait(30)
        return [10 * item for item in items]

    together = Together(work, most=3)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(together, "a", 0)
        assert begun.wait(30)
        rest = [pool.submit(together, "b" if item % 4 == 3 else "a", item) for item in range(1, 9)]
        while len(together._waiting) < 8:
            pass
        go.set()
        assert [future.result() for future in [first, *rest]] == [10 * item for item in range(9)]
    assert batches[0] == ("a", [0])
    assert sorted(item for _, items in batches for item in items) == list(range(9))
    assert [len(items) for key, items in batches if key == "a"] == [1, 3, 3], "as many as `most` says"
    assert [sorted(items) for key, items in batches if key == "b"] == [[3, 7]], "another key is another batch"


def test_one_that_fails_fails_alone() -> None:
    begun, go = threading.Event(), threading.Event()

    def invert(key: None, items: Sequence[int]) -> list[float]:
        begun.set()
        assert go.wait(30)
        return [1 / item for item in items]

    together = Together(invert)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(together, None, 1)
        assert begun.wait(30)
        rest = [pool.submit(together, None, item) for item in (2, 0, 4)]
        while len(together._waiting) < 3:
            pass
        go.set()
        assert (first.result(), rest[0].result(), rest[2].result()) == (1, 0.5, 0.25)
        with pytest.raises(ZeroDivisionError):
            rest[1].result()


def test_a_thread_that_is_ended_leaves_the_others_their_answers() -> None:
    begun, go = threading.Event(), threading.Event()
    ended: list[int] = []

    def work(key: None, items: Sequence[int]) -> list[int]:
        begun.set()
        assert go.wait(30)
        if 1 in items and not ended:
            ended.append(1)
            raise KeyboardInterrupt
        return list(items)

    together = Together(work)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(together, None, 0)
        assert begun.wait(30)
        rest = [pool.submit(together, None, item) for item in (1, 2)]
        while len(together._waiting) < 2:
            pass
        go.set()
        assert first.result() == 0
        outcomes = [future.exception() or future.result() for future in rest]
    assert sum(isinstance(outcome, KeyboardInterrupt) for outcome in outcomes) == 1
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] in ([1], [2])


def test_too_few_answers_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        Together(lambda key, items: [])(None, 1)
