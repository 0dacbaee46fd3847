"""Requests that go on from another one's keys and values, down to its last token.

vLLM's prefix cache holds whole blocks, so every request behind the same prompt computes the prompt's last block again: with short tails,
most of what it computes. vLLM has what it takes to copy a block in part when requests part ways inside it (for models with states), but
does not look for such a place in plain ones. This tells it one, for an engine in this process. Knows no question and no text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLAIN = "FullAttentionManager"
"""vLLM's class for layers that look at all tokens before them."""
TRUNK, FORK = "homefire_trunk", "homefire_fork"


class Forks:
    """Lets requests of an engine in this process begin where another one's prompt ends.

    Where the trunk is no longer running, or was put off, a fork begins at the last whole block as any other request.

    Args:
        manager: The `KVCacheManager` of vLLM's scheduler.
    """

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._usual: Callable[[Any], tuple[Any, int, int]] = manager.get_computed_blocks
        self._trunks: dict[str, Any] = {}
        manager.get_computed_blocks = self._computed

    @classmethod
    def of(cls, engine: Any) -> Forks | None:
        """For vLLM's `LLMEngine`; None where the model keeps more than plain keys and values, or the scheduler is in another process."""
        core = getattr(engine.engine_core, "engine_core", None)
        if core is None:
            return None
        manager = core.scheduler.kv_cache_manager
        kinds = [type(kind).__name__ for kind in manager.coordinator.single_type_managers]
        return cls(manager) if kinds == [PLAIN] and manager.enable_caching else None

    def forget(self, name: str) -> None:
        """The trunk of this name is not needed any more."""
        self._trunks.pop(name, None)

    def _computed(self, request: Any) -> tuple[Any, int, int]:
        """What is there of a request when it is about to begin: blocks, how many tokens, and what vLLM says beside."""
        usual = self._usual(request)
        extra = (request.sampling_params.extra_args or {}) if request.sampling_params is not None else {}
        if TRUNK in extra:
            self._trunks[extra[TRUNK]] = request
        trunk = self._trunks.get(extra.get(FORK, ""))
        if trunk is None:
            return usual
        tokens, size = trunk.num_prompt_tokens, self._manager.coordinator.block_size
        blocks = self._manager.get_blocks(trunk.request_id).blocks[0][: -(-tokens // size)]
        if not usual[1] < tokens < request.num_tokens or tokens > trunk.num_computed_tokens or tokens > len(blocks) * size:
            return usual
        return self._manager.create_kv_cache_blocks((list(blocks),)), tokens, 0
