"""The value of every setting for this machine and this model, with a reason for each.

Knows no backend's code: `choose` is a pure function of values, so that every machine can be tested on any other.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from homefire.configs.load import InvalidConfig
from homefire.engine.machine import Machine, core_ranges, parse_cores
from homefire.engine.model_facts import ModelFacts
from homefire.engine.settings import GIB, BackendName, ChosenSettings, Device, Dtype, EngineSettings, Executor
from homefire.errors import EngineError

V = TypeVar("V")


def choose(settings: EngineSettings, machine: Machine, model: ModelFacts, backend: BackendName = "vllm") -> ChosenSettings:
    """Fills in everything that the user left open.

    Raises:
        ConfigError: every wish that this machine or model cannot fulfil, at once.
        EngineError: the model does not fit into the memory there is.
    """
    return _Choice(settings, machine, model, backend).made()


class _Choice:
    """One choice in progress: settles value after value, and collects reasons and problems."""

    def __init__(self, settings: EngineSettings, machine: Machine, model: ModelFacts, backend: BackendName) -> None:
        self.wish = settings
        self.machine = machine
        self.model = model
        self.backend: BackendName = backend
        self.reasons: dict[str, str] = {}
        self.dropped: dict[str, str] = {}
        self.problems: list[str] = []

    def made(self) -> ChosenSettings:
        device = self._device()
        dtype = self._dtype(device)
        fraction = self._fraction(device)
        copies = self._data_parallel(device)
        executor = self._executor(device)
        stages = self._pipeline_parallel(device)
        parallel = self._tensor_parallel(device, dtype, fraction, copies, stages, executor)
        memory = self._kv_memory(device, dtype, fraction, parallel * stages, copies)
        context = self._context(device, dtype, memory)
        max_batch = self._max_batch(device, dtype, memory)
        chosen = ChosenSettings(
            backend=self.backend,
            device=device,
            dtype=dtype,
            context=context,
            max_batch=max_batch,
            kv_cache_gib=self._kv_cache(device, dtype, memory, context, max_batch),
            cores=self._cores(device),
            eager=self._eager(device),
            prefix_caching=self._prefix_caching(),
            gpu_memory_fraction=fraction,
            tensor_parallel=parallel,
            pipeline_parallel=stages,
            data_parallel=copies,
            distributed_executor=executor or self._spread(parallel * stages),
            own_process=self._own_process(parallel * stages * copies),
            speculative_ngram=self._ngram(),
            adapter_mode=self._adapter_mode(device),
            seed=self._settle("seed", self.wish.seed, 0, "A fixed seed, so that sampling repeats from run to run."),
            reasons=self.reasons,
            dropped=self.dropped,
        )
        if self.problems:
            raise InvalidConfig("EngineSettings on this machine", self.problems)
        return chosen

    def _settle(self, name: str, wished: V | None, otherwise: V, reason: str) -> V:
        self.reasons[name] = reason if wished is None else "You set it."
        return otherwise if wished is None else wished

    def _fixed(self, name: str, wished: V | None, value: V, reason: str) -> V:
        """A value that nobody can choose here; a wish for another one is named as dropped."""
        self.reasons[name] = reason
        if wished is not None and wished != value:
            self.dropped[name] = f"You asked for {wished}. {reason}"
        return value

    def _device(self) -> Device:
        packages = self.machine.packages
        self.reasons["backend"] = "vLLM batches requests continuously." if self.backend == "vllm" else "The transformers engine serves."
        device: Device = "cpu"
        reason = "There is no GPU that can be used."
        if self.machine.gpus:
            if packages.get("torch", "").endswith("+cpu") or (self.backend == "vllm" and "vllm" not in packages):
                reason = (
                    f'The {self.machine.gpus[0].name} is not used: the CPU builds are installed. Install: pip install "homefire[vllm]".'
                )
            else:
                device, reason = "cuda", f"{self.machine.gpus[0].name}."
        elif self.machine.mps and self.backend == "transformers":
            device, reason = "mps", "The GPU of Apple silicon."
        self.reasons["device"] = reason
        return device

    def _dtype(self, device: Device) -> Dtype:
        features = self.machine.cpu_features
        best: Dtype = "bfloat16"
        if device == "cuda":
            major, minor = self.machine.gpus[0].capability
            if self.wish.dtype == "bfloat16" and major < 8:
                self.problems.append(
                    f"dtype is bfloat16; this GPU has compute capability {major}.{minor} and bfloat16 needs 8.0: use float16"
                )
            if major < 8:
                best, reason = "float16", f"A GPU of compute capability {major}.{minor} has no bfloat16."
            elif self.model.dtype == "float16":
                best, reason = "float16", "The model was made in float16, which this GPU computes as fast as bfloat16."
            else:
                reason = "Half the memory of float32, with its range, and native on this GPU."
        elif device == "mps":
            reason = "Half the memory of float32, with its range."
        elif features & {"avx512f", "amx_bf16", "bf16"}:
            how = "natively" if features & {"avx512_bf16", "amx_bf16", "bf16"} else "with AVX-512"
            reason = f"Half the memory traffic of float32, and this processor computes it {how}."
        elif self.model.weight_bytes("float32") > 0.4 * self.machine.memory_available:
            reason = "This processor would be faster in float32, but that would take most of the free memory."
        else:
            best, reason = "float32", "This processor has no fast bfloat16 (neither AVX-512 nor bf16 instructions), and float32 fits."
        return self._settle("dtype", self.wish.dtype, best, reason)

    def _fraction(self, device: Device) -> float | None:
        if device != "cuda":
            return self._fixed("gpu_memory_fraction", self.wish.gpu_memory_fraction, None, "Only for an NVIDIA GPU.")
        gpu = self.machine.gpus[0]
        free = math.floor(100 * (gpu.memory_free / gpu.memory_total - 0.03)) / 100
        reason = (
            "Leaves a tenth of the GPU to others."
            if free >= 0.9
            else f"Other programs hold {_gib(gpu.memory_total - gpu.memory_free)} of this GPU."
        )
        return self._settle("gpu_memory_fraction", self.wish.gpu_memory_fraction, max(0.01, min(0.9, free)), reason)

    def _data_parallel(self, device: Device) -> int:
        if self.backend != "vllm":
            return self._fixed("data_parallel", self.wish.data_parallel, 1, "Only under vLLM.")
        wished = self.wish.data_parallel or 1
        places = len(self.machine.gpus) if device == "cuda" else len(self.machine.physical_cores)
        if wished > places and self.wish.distributed_executor != "ray":
            what = "GPUs" if device == "cuda" else "cores that compute"
            self.problems.append(f"data_parallel is {wished}; this machine has {places} {what}, and every copy needs one of its own")
        return self._settle("data_parallel", self.wish.data_parallel, 1, "One copy of the model batches everything.")

    def _executor(self, device: Device) -> Executor | None:
        if self.backend != "vllm" or device != "cuda":
            return self._fixed("distributed_executor", self.wish.distributed_executor, None, "Only for several GPUs under vLLM.")
        return self._settle("distributed_executor", self.wish.distributed_executor, None, "Nothing is distributed.")

    def _spread(self, gpus: int) -> Executor | None:
        """The executor of a model that is spread over GPUs without one having been asked for."""
        if gpus < 2:
            return None
        self.reasons["distributed_executor"] = "Processes of this machine."
        return "mp"

    def _pipeline_parallel(self, device: Device) -> int:
        if device != "cuda" or self.backend != "vllm":
            return self._fixed("pipeline_parallel", self.wish.pipeline_parallel, 1, "Only for several GPUs under vLLM.")
        if (wished := self.wish.pipeline_parallel or 1) > self.model.layers:
            self.problems.append(f"pipeline_parallel is {wished}; the model has {self.model.layers} layers to share out")
        return self._settle("pipeline_parallel", self.wish.pipeline_parallel, 1, "Only for models that are spread over machines.")

    def _tensor_parallel(
        self, device: Device, dtype: Dtype, fraction: float | None, copies: int, stages: int, executor: Executor | None
    ) -> int:
        gpus = self.machine.gpus
        if device != "cuda" or fraction is None or self.backend != "vllm":
            return self._fixed("tensor_parallel", self.wish.tensor_parallel, 1, "Only for several GPUs under vLLM.")
        wished = self.wish.tensor_parallel
        if executor != "ray" and (wished or 1) * copies * stages > len(gpus):
            others = f" times data_parallel {copies} times pipeline_parallel {stages}" if copies * stages > 1 else ""
            has = f"this machine has {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} to use"
            self.problems.append(f"tensor_parallel is {wished or 1}{others}; {has}")
        if wished is not None and self.model.kv_heads % wished and wished % self.model.kv_heads:
            self.problems.append(
                f"tensor_parallel is {wished}; the model's {self.model.kv_heads} heads of keys and values do not divide by it"
            )
        weights = self.model.weight_bytes(dtype) / stages
        counts = [n for n in (1, 2, 4, 8, 16) if n * copies * stages <= len(gpus) and self.model.kv_heads % n == 0] or [1]
        fits = [n for n in counts if weights / n < 0.85 * fraction * gpus[0].memory_total]
        count = (fits or counts)[0] if fits else counts[-1]
        reason = "The weights fit on one GPU." if count == 1 else f"The weights need {_gib(weights)}: fewer GPUs would not hold them."
        return self._settle("tensor_parallel", wished, count, reason)

    def _own_process(self, processes: int) -> bool:
        if self.backend != "vllm":
            return self._fixed("own_process", self.wish.own_process, False, "The transformers engine computes in this process.")
        if processes > 1:
            return self._fixed("own_process", self.wish.own_process, True, "Several devices need processes of their own.")
        return self._settle("own_process", self.wish.own_process, False, "Computing in this process leaves no process behind.")

    def _ngram(self) -> int:
        if self.backend != "vllm":
            return self._fixed("speculative_ngram", self.wish.speculative_ngram, 0, "Only under vLLM.")
        return self._settle("speculative_ngram", self.wish.speculative_ngram, 0, "Guessing pays only where answers repeat their prompts.")

    def _kv_memory(self, device: Device, dtype: Dtype, fraction: float | None, gpus: int, copies: int) -> int:
        """Bytes that keys and values of one copy may take: what the user set, or what the weights leave."""
        weights = self.model.weight_bytes(dtype)
        if device == "cuda":
            total = gpus * self.machine.gpus[0].memory_total * (fraction or 0.9)
            room = share = total - weights - gpus * 1.5 * GIB
            where = f"{_gib(total)} of GPU memory"
        else:
            total = self._free_memory() / copies
            room = total - weights - GIB
            share = min(room, 0.35 * total)
            where = f"{_gib(total)} of memory that is free{f' for each of {copies} copies' if copies > 1 else ''}"
        least = 512 * self.model.kv_bytes_per_token(dtype)
        if share < least:
            raise EngineError(
                f"The model does not fit: its weights take {_gib(weights)} in {dtype}, the engine and the text in flight at least 1 GiB, "
                f"and there are {where}: {_gib(max(least - share, 0.05 * GIB))} are missing. {self._smaller(device, dtype, gpus, copies)}"
            )
        if self.wish.kv_cache_gib is None:
            return int(share)
        wished = int(self.wish.kv_cache_gib * GIB)
        if wished > room:
            missing = f"beside the weights there is room for {_gib(room)}, so {_gib(wished - room)} are missing"
            self.problems.append(f"kv_cache_gib is {self.wish.kv_cache_gib:g}; {missing}")
        return wished

    def _free_memory(self) -> int:
        """Bytes; of one memory node for vLLM, which takes no others."""
        free, node = self.machine.memory_available, self.machine.node_available
        return free if node is None or self.backend != "vllm" else min(free, node)

    def _smaller(self, device: Device, dtype: Dtype, gpus: int, copies: int) -> str:
        """What to change where a model does not fit."""
        advice = ["choose a smaller model", "close other programs", "use a larger machine"]
        if device == "cuda" and len(self.machine.gpus) >= 2 * gpus * copies and self.wish.tensor_parallel is not None:
            advice.insert(0, f"set tensor_parallel to {2 * gpus}")
        if copies > 1:
            advice.insert(0, "lower data_parallel")
        if dtype == "float32":
            advice.insert(0, "set dtype to bfloat16")
        text = f"{', '.join(advice[:-1])}, or {advice[-1]}."
        return text[0].upper() + text[1:]

    def _context(self, device: Device, dtype: Dtype, memory: int) -> int:
        per_token, longest = self.model.kv_bytes_per_token(dtype), self.model.max_position
        wished = self.wish.context
        if wished is not None and wished > longest:
            self.problems.append(f"context is {wished}; the model was made for at most {longest} tokens")
        elif wished is not None and wished * per_token > memory:
            self.problems.append(
                f"context is {wished}; its keys and values take {_gib(wished * per_token)}, and {_gib(memory)} are there for them: "
                f"at most {memory // per_token} tokens fit"
            )
        fitting = memory // per_token // 256 * 256 if memory // per_token >= 256 else memory // per_token
        limits = {longest: "The longest that the model was made for.", fitting: f"What {_gib(memory)} of keys and values hold."}
        if device == "cpu":
            limits.setdefault(8192, "Longer prompts take minutes without a GPU.")
        shortest = min(limits)
        return self._settle("context", wished, shortest, limits[shortest])

    def _max_batch(self, device: Device, dtype: Dtype, memory: int) -> int:
        most = (256 if device == "cuda" else 128) if self.backend == "vllm" else (8 if device == "cpu" else 32)
        held = max(1, memory // (256 * self.model.kv_bytes_per_token(dtype)))
        reason = "More requests at once bring no more tokens per second here."
        return self._settle(
            "max_batch", self.wish.max_batch, min(most, held), reason if held >= most else f"What {_gib(memory)} of keys and values hold."
        )

    def _kv_cache(self, device: Device, dtype: Dtype, memory: int, context: int, max_batch: int) -> float | None:
        if self.wish.kv_cache_gib is not None:
            return self._settle("kv_cache_gib", self.wish.kv_cache_gib, 0.0, "")
        if self.backend == "transformers":
            return self._fixed("kv_cache_gib", None, None, "Grows and shrinks with the batch.")
        if device == "cuda":
            self.reasons["kv_cache_gib"] = "vLLM measures what the weights leave of its part of the GPU."
            return None
        useful = max_batch * min(context, 2048) * self.model.kv_bytes_per_token(dtype)
        least = (context + 128) * self.model.kv_bytes_per_token(dtype)
        plenty = f"Room for {max_batch} requests of {min(context, 2048)} tokens."
        self.reasons["kv_cache_gib"] = plenty if useful <= memory else "About a third of the memory that is free."
        return math.ceil(100 * max(min(useful, memory), least) / GIB) / 100

    def _cores(self, device: Device) -> str:
        if device != "cpu":
            return self._fixed("cores", self.wish.cores, "", "The GPU computes.")
        if self.wish.cores is not None:
            absent = sorted(set(parse_cores(self.wish.cores)) - set(self.machine.cores))
            if absent:
                usable = core_ranges(self.machine.cores)
                self.problems.append(f"cores is {self.wish.cores}; {core_ranges(tuple(absent))} cannot be used here, {usable} can")
        reason = "One thread on every physical core that this process may use; left to itself vLLM keeps one idle."
        return self._settle("cores", self.wish.cores, core_ranges(self.machine.physical_cores), reason)

    def _eager(self, device: Device) -> bool:
        if self.backend == "transformers":
            return self._fixed("eager", self.wish.eager, True, "The transformers engine does not compile.")
        if device == "cuda":
            return self._settle("eager", self.wish.eager, False, "Compilation and CUDA graphs make tokens much faster on a GPU.")
        return self._settle(
            "eager", self.wish.eager, True, "Compiling takes minutes at every start and brings a few percent without a GPU."
        )

    def _prefix_caching(self) -> bool:
        if self.backend == "transformers":
            return self._fixed("prefix_caching", self.wish.prefix_caching, False, "The transformers engine keeps no prefixes.")
        return self._settle(
            "prefix_caching", self.wish.prefix_caching, True, "Prompts of one program begin alike: that part is computed once."
        )

    def _adapter_mode(self, device: Device) -> Literal["hot", "merged"]:
        if self.backend == "transformers":
            one = "The transformers engine serves one adapter at a time, merged."
            return self._fixed("adapter_mode", self.wish.adapter_mode, "merged", one)
        if device == "cuda":
            return self._settle(
                "adapter_mode", self.wish.adapter_mode, "hot", "LoRA kernels are quick on a GPU, so adapters mix in one batch."
            )
        return self._settle(
            "adapter_mode", self.wish.adapter_mode, "merged", "LoRA kernels are slow here; merged weights run at full speed."
        )


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
