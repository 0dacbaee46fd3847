"""What DSPy's users import from there: `from homefire.utils import BaseCallback, DummyLM`.

Holds no code: names of `engine` and `modules`.
"""

from __future__ import annotations

from homefire.engine.callbacks import BaseCallback, with_callbacks
from homefire.modules.dummies import DummyLM, DummyVectorizer, dummy_rm
from homefire.modules.streaming import StatusMessage, StatusMessageProvider
from homefire.utils import callback

__all__ = ["BaseCallback", "DummyLM", "DummyVectorizer", "StatusMessage", "StatusMessageProvider", "callback", "dummy_rm", "with_callbacks"]
