"""What vLLM itself is started with, in this process and as a server.

Knows no vLLM: names and values only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from homefire.engine.settings import GIB, ChosenSettings

MOST_ADAPTERS = 4
"""Adapters that a GPU engine holds at once; vLLM loads and drops them as requests come."""
LARGEST_RANK = 64
CPU_BLOCK = 32
"""Tokens whose keys and values are cached together. vLLM takes 128 without a GPU, and the shared beginning of most prompts, which is
shorter, would never be found in the cache; it wants multiples of 32."""
NGRAM = {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
"""Tokens that must repeat before the ones behind them are guessed."""


def vllm_arguments(path: Path, settings: ChosenSettings) -> dict[str, Any]:
    """The arguments of vLLM itself for these settings, by their names in Python."""
    arguments: dict[str, Any] = {
        "model": str(path),
        "dtype": settings.dtype,
        "max_model_len": settings.context,
        "max_num_seqs": settings.max_batch,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": settings.prefix_caching,
        "tensor_parallel_size": settings.tensor_parallel,
        "seed": settings.seed,
        "disable_log_stats": True,
        "use_tqdm_on_load": os.environ.get("HOMEFIRE_VERBOSE") == "1",
    }
    if settings.device == "cpu":
        arguments["block_size"] = CPU_BLOCK
    if settings.kv_cache_gib is not None:
        arguments["kv_cache_memory_bytes"] = int(settings.kv_cache_gib * GIB)
    if settings.gpu_memory_fraction is not None:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_fraction
    if settings.device == "cuda":
        arguments["enable_sleep_mode"] = True
    if settings.distributed_executor is not None:
        arguments |= {"pipeline_parallel_size": settings.pipeline_parallel, "distributed_executor_backend": settings.distributed_executor}
    if settings.gpus:
        arguments["device_ids"] = list(settings.gpus)
    if settings.speculative_ngram:
        guess = {"method": "ngram", "num_speculative_tokens": settings.speculative_ngram, **NGRAM}
        arguments["speculative_config"] = guess
    if settings.adapter_mode == "hot":
        arguments |= {"enable_lora": True, "max_loras": MOST_ADAPTERS, "max_lora_rank": LARGEST_RANK}
    return arguments
