"""Base weights and a LoRA adapter made into one checkpoint, for engines that serve LoRA slowly."""
from __future__ import annotations
from pathlib import Path
from homefire.engine.request import AdapterRef
def merged_checkpoint(base: Path, adapter: AdapterRef) -> Path: ...
