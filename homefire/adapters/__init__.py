"""Prompt dialects under the name that DSPy's users import them from: `from homefire.adapters import ChatAdapter`.

Holds no code: names of `modules`. A LoRA adapter is `homefire.AdapterStore`'s.
"""

from __future__ import annotations

from homefire.adapters import baml_adapter
from homefire.modules.adapter import Adapter
from homefire.modules.chat_format import ChatAdapter
from homefire.modules.json_format import JSONAdapter
from homefire.modules.two_step_format import TwoStepAdapter
from homefire.modules.xml_format import XMLAdapter

__all__ = ["Adapter", "ChatAdapter", "JSONAdapter", "TwoStepAdapter", "XMLAdapter", "baml_adapter"]
