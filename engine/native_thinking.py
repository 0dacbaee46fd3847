"""Whether a model on this machine thinks before it answers, read off its chat template without loading it.

Knows no tokenizer and no engine.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from homefire.engine.thinking import find_tags


@lru_cache(maxsize=64)
def model_thinks(folder: Path) -> bool:
    """Whether the chat template of the model in a folder has a place for thoughts."""
    return find_tags(_template(folder)) is not None


def _template(folder: Path) -> str:
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except OSError:
        pass
    try:
        said = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template") or ""
    except (OSError, ValueError):
        return ""
    if isinstance(said, str):
        return said
    named = {one["name"]: one["template"] for one in said}
    return str(named.get("default", ""))
