"""Grade-school maths under the name that DSPy's users import it from: `from homefire.datasets.gsm8k import GSM8K, gsm8k_metric`.

Holds no code: names of `optimizers`.
"""

from __future__ import annotations

from homefire.optimizers.benchmarks import GSM8K
from homefire.optimizers.math_answers import gsm8k_metric

__all__ = ["GSM8K", "gsm8k_metric"]
