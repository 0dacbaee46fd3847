"""Parallel: several modules on several examples at once.

Knows no engine; calls run in threads that see the settings of the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from homefire.errors import InputError
from homefire.modules.example import Example
from homefire.modules.module import Module
from homefire.modules.parallel import run_all, shown
from homefire.modules.settings import current, patience_of

Pair = tuple[Callable[..., Any], Any]


class Parallel:
    """Runs pairs of a module and an example at once; the results come in order, None for a pair that failed.

    An example is an Example that knows its inputs, a mapping of inputs, a tuple of positional inputs, or a list as the only one.

    Args:
        num_threads: Most calls at once; by default as many as the engines batch.
        max_errors: Failures after which the rest is given up; by default only when all of the first ten fail.
        access_examples: Whether a module gets the inputs of an Example rather than the Example.
        return_failed_examples: Whether to return the failed examples and their errors too.
        provide_traceback: Whether to show failures with their tracebacks.
        disable_progress_bar: Whether to show no progress on a terminal.
        timeout: Seconds after which the last calls are begun a second time; never by default, for an engine on this machine would only
            have more to do.
        straggler_limit: Most calls that are begun a second time.
    """

    def __init__(
        self,
        num_threads: int | None = None,
        max_errors: int | None = None,
        access_examples: bool = True,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: float | None = None,
        straggler_limit: int = 3,
    ) -> None:
        self.num_threads = num_threads
        self.max_errors = max_errors
        self.access_examples = access_examples
        self.return_failed_examples = return_failed_examples
        self.provide_traceback = provide_traceback
        self.disable_progress_bar = disable_progress_bar
        self.timeout = timeout
        self.straggler_limit = straggler_limit

    def __call__(self, exec_pairs: Sequence[Pair], num_threads: int | None = None) -> Any:
        """Runs all pairs.

        Returns:
            The results in order; or a tuple of these, the failed examples and the errors.

        Raises:
            InputError: something that is no pair of a module and an example.
            TooManyFailures: see `max_errors`; it has what there is.
            EngineError: and other failures that every call would meet.
        """
        calls = [self._call(place, pair) for place, pair in enumerate(exec_pairs)]
        patience = patience_of(self.max_errors, self.provide_traceback, self.timeout, self.straggler_limit)
        with shown("Running", len(calls), hidden=self.disable_progress_bar) as task:
            outcomes = run_all(calls, num_threads or self.num_threads or current().num_threads or _useful(exec_pairs), patience, task)
        return outcomes.with_failures([example for _, example in exec_pairs]) if self.return_failed_examples else outcomes.results

    forward = __call__

    async def acall(self, exec_pairs: Sequence[Pair], num_threads: int | None = None) -> Any:
        """As calling it, without keeping the event loop waiting."""
        return await asyncio.to_thread(self, exec_pairs, num_threads)

    def _call(self, place: int, pair: Pair) -> Callable[[], Any]:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[0]) or isinstance(pair[0], type):
            raise InputError(f"Pair {place} is {pair!r}; expected a module and an example, as in Parallel()([(program, example), ...]).")
        program, example = pair
        match example:
            case Example() if self.access_examples:
                return partial(program, **example.inputs())
            case Example() | list():
                return partial(program, example)
            case Mapping():
                return partial(program, **example)
            case tuple():
                return partial(program, *example)
        raise InputError(f"The example of pair {place} is {example!r}; expected an Example, a dict of inputs, a tuple or a list.")


def _useful(pairs: Sequence[Pair]) -> int:
    modules = {id(program): program for program, _ in pairs if isinstance(program, Module)}
    return max((program.useful_threads() for program in modules.values()), default=8)
