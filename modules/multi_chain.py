"""MultiChainComparison: several chains of thought are shown to a model, which answers once more.

Knows no engine; it is a Predict over a signature with an input for each chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homefire.errors import InputError
from homefire.modules.example import Completions, Example, Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import InputField, OutputField, Signature

Chains = Prediction | Completions | Sequence[Prediction | Example | Mapping[str, Any]]


class MultiChainComparison(Module):
    """Compares M answers to the same inputs and gives a better one.

    Draw them in one request: `compare(ChainOfThought(signature, n=3)(question=q), question=q)`.

    Args:
        signature: A signature class or string; its last output is what is compared.
        M: How many answers there are.
        temperature: Of the comparison.
        config: Sampling, as for `Predict`.
    """

    def __init__(self, signature: str | type[Signature], M: int = 3, temperature: float = 0.7, **config: Any) -> None:
        if isinstance(M, bool) or not isinstance(M, int) or M < 1:
            raise InputError(f"M is {M!r}; expected a whole number, 1 or more, as in MultiChainComparison(signature, M=3).")
        self.M = M
        made = Signature(signature)
        self.last_key = list(made.output_fields)[-1]
        for number in range(1, M + 1):
            made = made.append(f"reasoning_attempt_{number}", InputField(desc="may be wrong"), str)
        rationale = OutputField(desc="compare the attempts and find what is right, briefly")
        self.predict = Predict(made.prepend("rationale", rationale, str), temperature=temperature, **config)

    def forward(self, completions: Chains, **inputs: Any) -> Prediction:
        """The answer after the comparison.

        Args:
            completions: M predictions, or one that has M completions.
            inputs: Those of the signature.

        Raises:
            InputError: there are not M.
        """
        return self.predict(**inputs, **self._attempts(completions))

    async def aforward(self, completions: Chains, **inputs: Any) -> Prediction:
        """As `forward`, awaited."""
        return await self.predict.acall(**inputs, **self._attempts(completions))

    def _attempts(self, completions: Chains) -> dict[str, str]:
        several = completions.completions if isinstance(completions, Prediction) else Completions(completions)
        if len(several) != self.M:
            raise InputError(
                f"There are {len(several)} completions, but M is {self.M}. Draw as many: ChainOfThought(signature, n={self.M})(...), "
                f"or write MultiChainComparison(signature, M={len(several)})."
            )
        return {f"reasoning_attempt_{number}": self._attempt(one) for number, one in enumerate(several, 1)}

    def _attempt(self, one: Prediction) -> str:
        if self.last_key not in one:
            raise InputError(f"{one!r} has no field {self.last_key!r}, which is compared.")
        thought = str(one.get("reasoning") or one.get("rationale") or "").strip()
        return f"{thought}\nAnswer: {one[self.last_key]}".strip()
