"""Search batches: calls from several threads that come while one runs are answered together by the next.

Knows no index: work on many items at once is given. A lone call waits for nobody, not even for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(slots=True, eq=False)
class _Call(Generic[K, Q, A]):
    """One call that waits for its answer."""

    key: K
    item: Q
    answer: list[A] | None = None
    """Holds the one answer, once there is one."""
    error: Exception | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class Together(Generic[K, Q, A]):
    """Calls `work` with the items of all threads that wait at the moment.

    Threads take turns: one works for all that wait with an equal key, and the others find their answers done when their turn comes.

    Args:
        work: Gives one answer for each item, in order. Where it fails for several, each is tried alone: one cannot spoil the others.
        most: Items in one call of `work`.
    """

    def __init__(self, work: Callable[[K, Sequence[Q]], Sequence[A]], most: int = 64) -> None:
        self._work = work
        self._most = most
        self._turn = Lock()
        self._list = Lock()
        self._waiting: list[_Call[K, Q, A]] = []

    def __call__(self, key: K, item: Q) -> A:
        """The answer for one item.

        Args:
            key: What the whole call of `work` is about; only calls with equal keys are answered together.
            item: The item.

        Raises:
            Exception: what `work` raises for this item.
        """
        own: _Call[K, Q, A] = _Call(key, item)
        with self._list:
            self._waiting.append(own)
        with self._turn:
            while not own.done:
                self._run(self._next())
        if own.error is not None:
            raise own.error
        assert own.answer is not None
        return own.answer[0]

    def _next(self) -> list[_Call[K, Q, A]]:
        """The calls to answer now: those that are like the one that has waited longest."""
        with self._list:
            first = self._waiting[0]
            batch = [call for call in self._waiting if call.key == first.key][: self._most]
            chosen = set(map(id, batch))
            self._waiting = [call for call in self._waiting if id(call) not in chosen]
            return batch

    def _run(self, batch: list[_Call[K, Q, A]]) -> None:
        try:
            answers = self._work(batch[0].key, [call.item for call in batch])
            for call, answer in zip(batch, answers, strict=True):
                call.answer = [answer]
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for call in batch:
                call.answer = None
                self._run([call])
        except BaseException:  # this thread is being ended: the next one works for those that wait
            with self._list:
                self._waiting = [call for call in batch if not call.done] + self._waiting
            raise
