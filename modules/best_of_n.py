"""BestOfN: several attempts of a program, the best of which is the answer.

Knows no optimizer. Attempts run at once, and the answer is the one that they would give one after the other: the first, in their order,
whose reward reaches the threshold, otherwise the best.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from homefire.configs.console import note
from homefire.engine.stop import stoppable
from homefire.errors import InputError
from homefire.modules.attempts import attempted, keep
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.parallel import SYSTEM_FAILURES
from homefire.modules.trace import Trace

Reward = Callable[[dict[str, Any], Prediction], float | bool | Prediction]
"""Takes the inputs and a prediction; more is better."""
Tried = tuple[Prediction, float, Trace]


class BestOfN(Module):
    """Runs a module up to N times and returns the prediction with the highest reward.

    Args:
        module: Any program.
        N: Most attempts. As many as the engine batches run at once; each has a rollout id and, where the module names no temperature,
            the temperature 1.
        reward_fn: Takes the inputs as a dict and the prediction; returns a number, more is better.
        threshold: A reward that is good enough; attempts behind the first that has it are cancelled.
        fail_count: Failed attempts that are borne; one more is raised. By default all but the last.

    Raises:
        InputError: an argument is not what it must be.
    """

    def __init__(self, module: Module, N: int, reward_fn: Reward, threshold: float, fail_count: int | None = None) -> None:
        check_arguments(type(self).__name__, module, N, reward_fn, fail_count)
        self.module = module
        self.N = N
        self.reward_fn = reward_fn
        self.threshold = threshold
        self.fail_count = N - 1 if fail_count is None else fail_count

    def forward(self, **inputs: Any) -> Prediction:
        """The best prediction.

        Raises:
            Exception: of the attempt that was one failure too many.
        """
        choice = Choice(self.threshold, self.fail_count)
        with stoppable() as stop, ThreadPoolExecutor(self._at_once(), thread_name_prefix="homefire-attempt") as pool:
            try:
                attempts = [pool.submit(copy_context().run, self._try, number, inputs) for number in range(self.N)]
                for attempt in attempts:
                    if choice.take(attempt):
                        break
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                stop.stop()
        return choice.best()

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        choice, most = Choice(self.threshold, self.fail_count), asyncio.Semaphore(self._at_once())

        async def attempt(number: int) -> Tried:
            async with most:
                with attempted(number) as trace:
                    prediction = await self.module.acall(**inputs)
                return prediction, reward_of(self.reward_fn, inputs, prediction), trace

        tasks = [asyncio.create_task(attempt(number)) for number in range(self.N)]
        try:
            for task in tasks:
                await asyncio.wait([task])
                if choice.take(task):
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return choice.best()

    def _at_once(self) -> int:
        return max(1, min(self.N, self.module.useful_threads()))

    def _try(self, number: int, inputs: dict[str, Any]) -> Tried:
        with attempted(number) as trace:
            prediction = self.module(**inputs)
        return prediction, reward_of(self.reward_fn, inputs, prediction), trace


class Choice:
    """The best of the attempts so far."""

    def __init__(self, threshold: float, fail_count: int) -> None:
        self._threshold = threshold
        self._most_failures = fail_count
        self._failures: list[Exception] = []
        self._best: Tried | None = None

    def take(self, attempt: Future[Tried] | asyncio.Future[Tried]) -> bool:
        """Takes the next attempt in order; whether it is good enough.

        Raises:
            Exception: it failed, as one too many, or because the system did.
        """
        try:
            tried = attempt.result()
        except (*SYSTEM_FAILURES, CancelledError):
            raise
        except Exception as error:
            self.fail(error)
            return False
        return self.add(tried)

    def add(self, tried: Tried) -> bool:
        if self._best is None or tried[1] > self._best[1]:
            self._best = tried
        return tried[1] >= self._threshold

    def fail(self, error: Exception) -> None:
        """Bears a failure, or raises it."""
        self._failures.append(error)
        if len(self._failures) > self._most_failures:
            raise error
        note(f"An attempt failed, {len(self._failures)} of {self._most_failures} that are borne: {type(error).__name__}: {error}")

    def best(self) -> Prediction:
        """The prediction with the highest reward, whose steps go into the trace."""
        if self._best is None:
            raise self._failures[-1]
        prediction, _, trace = self._best
        keep(trace)
        return prediction


def reward_of(reward_fn: Reward, inputs: Mapping[str, Any], prediction: Prediction) -> float:
    """The reward as a number.

    Raises:
        InputError: it is none.
    """
    reward: Any = reward_fn(dict(inputs), prediction)
    if isinstance(reward, str) or reward is None:
        raise InputError(f"The reward is {reward!r}; expected a number, as from: def reward(inputs, prediction): return float(...).")
    return float(reward)


def check_arguments(name: str, module: object, n: object, reward_fn: object, fail_count: object) -> None:
    """Raises InputError where an argument of BestOfN or Refine is not what it must be."""
    call = f"homefire.{name}(module=program, N=3, reward_fn=lambda inputs, prediction: 1.0, threshold=1.0)"
    if not isinstance(module, Module):
        raise InputError(f"The module is {module!r}; expected a program, as in {call}.")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"N is {n!r}; expected a whole number, 1 or more, as in {call}.")
    if not callable(reward_fn):
        raise InputError(f"reward_fn is {reward_fn!r}; expected a function of the inputs and the prediction, as in {call}.")
    if fail_count is not None and (isinstance(fail_count, bool) or not isinstance(fail_count, int) or fail_count < 0):
        raise InputError(f"fail_count is {fail_count!r}; expected a whole number, 0 or more.")
