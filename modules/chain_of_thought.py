"""ChainOfThought: the model reasons in a field of its own before it answers (Wei et al., arXiv 2201.11903).

Knows no engine and no format; it is a Predict over a signature with one more output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homefire.engine.callbacks import BaseCallback
from homefire.engine.lm_options import checked_callbacks
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.modules.predict import Predict
from homefire.modules.signature import OutputField, Signature


class ChainOfThought(Module):
    """Predicts a signature after an output `reasoning`, which comes first.

    Args:
        signature: A signature class or string.
        rationale_field: Says in an `OutputField` of your own what the reasoning is.
        rationale_field_type: Its type.
        callbacks: Hear the calls of this module, beside those of the settings.
        config: Sampling, as for `Predict`; with `n=5` five chains come from one request, as `prediction.completions`.
    """

    def __init__(
        self,
        signature: str | type[Signature],
        rationale_field: Any = None,
        rationale_field_type: Any = str,
        *,
        callbacks: Sequence[BaseCallback] | None = None,
        **config: Any,
    ) -> None:
        if callbacks:
            self.callbacks = checked_callbacks(callbacks)
        field = OutputField(desc="think step by step, briefly") if rationale_field is None else rationale_field
        self.predict = Predict(Signature(signature).prepend("reasoning", field, rationale_field_type), **config)

    def forward(self, **inputs: Any) -> Prediction:
        return self.predict(**inputs)

    async def aforward(self, **inputs: Any) -> Prediction:
        return await self.predict.acall(**inputs)
