"""Optimizers under the name that DSPy's users import them from: `from homefire.teleprompt import BootstrapFewShot`.

Holds no code: names of `optimizers`.
"""

from __future__ import annotations

from homefire.optimizers.bootstrap_finetune import BootstrapFinetune
from homefire.optimizers.few_shot import BootstrapFewShot, LabeledFewShot

__all__ = ["BootstrapFewShot", "BootstrapFinetune", "LabeledFewShot"]
