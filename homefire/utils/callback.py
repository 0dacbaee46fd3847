"""Callbacks under the name that DSPy's users import them from: `from homefire.utils.callback import BaseCallback`.

Holds no code: names of `engine`.
"""

from __future__ import annotations

from homefire.engine.callbacks import ACTIVE_CALL_ID, BaseCallback, with_callbacks

__all__ = ["ACTIVE_CALL_ID", "BaseCallback", "with_callbacks"]
