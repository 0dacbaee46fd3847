"""Refine: attempts of a program one after the other, each with advice that a model gives from the one before.

Knows no optimizer. Advice is an input that a predictor has in one attempt only.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from homefire.modules.attempts import Advice, attempted
from homefire.modules.best_of_n import Choice, Reward, check_arguments, reward_of
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.parallel import SYSTEM_FAILURES
from homefire.modules.predict import Predict
from homefire.modules.prompt_text import input_text
from homefire.modules.settings import current
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.trace import Trace

MOST_SHOWN = 400
"""Characters of a value that the adviser sees."""


class OfferFeedback(Signature):
    """A program of several steps was scored below its target. Say to each step in one sentence what to do better."""

    steps: str = InputField(desc="what each step is for")
    run: str = InputField(desc="what each step got and answered")
    scored_by: str = InputField(desc="how the result is scored")
    score: str = InputField()
    advice: dict[str, str] = OutputField(desc="a sentence for each step by its name")


class Refine(Module):
    """Runs a module up to N times, each time with advice from the attempt before, and returns the prediction with the highest reward.

    Args:
        module: Any program.
        N: Most attempts.
        reward_fn: Takes the inputs as a dict and the prediction; returns a number, more is better.
        threshold: A reward that is good enough.
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
        self.adviser = Predict(OfferFeedback)
        self.adviser._compiled = True  # no part of the program that optimizers are given

    def forward(self, **inputs: Any) -> Prediction:
        """The best prediction.

        Raises:
            Exception: of the attempt that was one failure too many.
        """
        choice, advice = Choice(self.threshold, self.fail_count), dict[int, Advice]()
        for number in range(self.N):
            try:
                with attempted(number, advice) as trace:
                    prediction = self.module(**inputs)
                reward = reward_of(self.reward_fn, inputs, prediction)
            except SYSTEM_FAILURES:
                raise
            except Exception as error:
                choice.fail(error)
                continue
            if choice.add((prediction, reward, trace)):
                break
            if number + 1 < self.N and (asked := self._question(trace, reward)) is not None:
                advice = self._told(self.adviser(**asked).advice)
        return choice.best()

    async def aforward(self, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        choice, advice = Choice(self.threshold, self.fail_count), dict[int, Advice]()
        for number in range(self.N):
            try:
                with attempted(number, advice) as trace:
                    prediction = await self.module.acall(**inputs)
                reward = reward_of(self.reward_fn, inputs, prediction)
            except SYSTEM_FAILURES:
                raise
            except Exception as error:
                choice.fail(error)
                continue
            if choice.add((prediction, reward, trace)):
                break
            if number + 1 < self.N and (asked := self._question(trace, reward)) is not None:
                advice = self._told((await self.adviser.acall(**asked)).advice)
        return choice.best()

    def _question(self, trace: Trace, reward: float) -> dict[str, Any] | None:
        """What the adviser is asked; None where no predictor ran."""
        names = self._names()
        run = [step for step in trace.steps if id(step.predictor) in names]
        if not run:
            return None
        used = {id(step.predictor): step for step in run}
        steps = "\n".join(f"- {names[key]}: {step.signature.instructions}" for key, step in used.items())
        shown = "\n".join(f"{names[id(step.predictor)]} got {_fields(step.inputs)} and answered {_fields(step.prediction)}" for step in run)
        choices: Any = Literal[tuple(names[key] for key in used)]
        return {
            "lm": self.adviser.lm or current().lm or self.module.get_lm(),
            "steps": steps,
            "run": shown,
            "scored_by": _source(self.reward_fn),
            "score": f"{reward:g}, wanted: {self.threshold:g}",
            "signature": OfferFeedback.with_updated_fields("advice", dict[choices, str]),
        }

    def _told(self, advice: Mapping[str, str]) -> dict[int, Advice]:
        keys = {name: key for key, name in self._names().items()}
        return {keys[name]: Advice("hint_", "advice from an earlier attempt", text) for name, text in advice.items() if text.strip()}

    def _names(self) -> dict[int, str]:
        return {id(predictor): path for path, predictor in self.module.named_predictors(frozen=True)}


def _fields(values: Mapping[str, Any] | Prediction) -> str:
    return ", ".join(f"{name}={_short(input_text(name, values[name]))}" for name in values)


def _short(text: str) -> str:
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "...")


def _source(reward_fn: Reward) -> str:
    """The code of the reward, where it can be read; otherwise its name."""
    try:
        return _short_code(inspect.getsource(reward_fn).splitlines())
    except (OSError, TypeError):
        return str(reward_fn)


def _short_code(lines: Sequence[str]) -> str:
    return "\n".join(line for line in lines if line.strip())[: 3 * MOST_SHOWN]
