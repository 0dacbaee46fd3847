"""What DSPy's users import from there: `from homefire.utils import BaseCallback`.

Holds no code: names of `engine` and `modules`.
"""

from __future__ import annotations

from homefire.engine.callbacks import BaseCallback
from homefire.modules.streaming import StatusMessage, StatusMessageProvider

__all__ = ["BaseCallback", "StatusMessage", "StatusMessageProvider"]
