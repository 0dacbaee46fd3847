"""Probabilities of the choices of an output: how likely each value is, given all that came before it.

Knows no engine: the LM scores texts, this turns the scores of a field's values into probabilities that sum to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from homefire.engine.lm import LM
from homefire.engine.request import Request
from homefire.errors import InputError
from homefire.modules.format import Choices, Format
from homefire.modules.signature import Signature


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores the fields of one answer under the prompt that the answer was given to."""

    model: LM
    dialect: Format
    signature: type[Signature]
    request: Request

    def probabilities(self, name: str, outputs: Mapping[str, Any]) -> dict[Any, float]:
        """Probability of each value of a Literal, Enum or bool output behind the given outputs, the likeliest first.

        Raises:
            InputError: no such output, or one without a fixed set of values.
            EngineError: the engine cannot score texts.
        """
        choices, request = self._asked(name, outputs)
        return _normalized(choices, self.model.score(request, choices.texts))

    async def aprobabilities(self, name: str, outputs: Mapping[str, Any]) -> dict[Any, float]:
        """As `probabilities`, awaited."""
        choices, request = self._asked(name, outputs)
        return _normalized(choices, await self.model.ascore(request, choices.texts))

    def _asked(self, name: str, outputs: Mapping[str, Any]) -> tuple[Choices, Request]:
        if name not in self.signature.output_fields:
            raise InputError(f"{name!r} is no output of this signature, which has {', '.join(self.signature.output_fields)}.")
        choices = self.dialect.choices(self.signature, name, outputs)
        if choices is None:
            raise InputError(f"The output {name!r} has no fixed set of values; probabilities are for Literal, Enum and bool.")
        return choices, replace(self.request, generated=(), prefill=choices.prefill, grammar=None, reserve=0)


def _normalized(choices: Choices, scores: list[float]) -> dict[Any, float]:
    """Softmax of the scores: natural log-probabilities up to a constant."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    whole = sum(weights)
    pairs = zip(choices.values, weights, strict=True)
    return {value: weight / whole for value, weight in sorted(pairs, key=lambda pair: -pair[1])}
