"""BAMLAdapter, whose types are described in few words: the JSON format does that already, so it is the same.

Holds no code: a name of `modules`.
"""

from __future__ import annotations

from homefire.modules.json_format import JsonFormat as BAMLAdapter

__all__ = ["BAMLAdapter"]
