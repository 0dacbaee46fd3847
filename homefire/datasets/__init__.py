"""Data: `from homefire.datasets import DataLoader, HotPotQA, GSM8K, gsm8k_metric`.

Holds no code: names of `optimizers`, gathered under the name that other systems give them.
"""

from __future__ import annotations

from homefire.datasets import gsm8k
from homefire.optimizers.benchmarks import GSM8K, MATH, Banking77, HotPotQA
from homefire.optimizers.data_loader import DataLoader
from homefire.optimizers.data_splits import Dataset
from homefire.optimizers.math_answers import gsm8k_metric, math_metric

__all__ = ["GSM8K", "MATH", "Banking77", "DataLoader", "Dataset", "HotPotQA", "gsm8k", "gsm8k_metric", "math_metric"]
