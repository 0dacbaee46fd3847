"""What an engine runs with: the user's wishes, and the choice for this machine and this model with a reason for each value.

Knows no backend's code: `choose` is a pure function of values, so that every machine can be tested on any other.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeVar, get_args

from homefire.configs.load import InvalidConfig
from homefire.engine.machine import Machine, core_ranges, parse_cores
from homefire.engine.model_facts import ModelFacts as ModelFacts
from homefire.engine.model_facts import model_facts as model_facts
from homefire.errors import EngineError

Dtype = Literal["bfloat16", "float16", "float32"]
Device = Literal["cpu", "cuda", "mps"]
BackendName = Literal["vllm", "transformers"]

GIB = 2**30
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What the user wants of an engine; None leaves the choice to homefire.

    Raises:
        ConfigError: every value that is out of its range, at once.
    """

    dtype: Dtype | None = None
    context: int | None = None
    """Most tokens of prompt and completion together."""
    max_batch: int | None = None
    """Most requests computed at once."""
    kv_cache_gib: float | None = None
    """Memory for keys and values of the requests in flight, in GiB."""
    cores: str | None = None
    """Cores that compute, as in `0-3` or `0,2`; only without a GPU."""
    eager: bool | None = None
    """True skips compilation: a quicker start, slower tokens on a GPU."""
    prefix_caching: bool | None = None
    gpu_memory_fraction: float | None = None
    """Part of each GPU's memory that the engine takes, above 0 and at most 1."""
    tensor_parallel: int | None = None
    """GPUs that share one model."""
    adapter_mode: Literal["hot", "merged"] | None = None
    """`hot`: adapters are chosen per request; `merged`: one adapter at a time, merged into the weights."""
    seed: int | None = None

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}; it must be {least} or more"
            for name, value, least in (
                ("context", self.context, 16),
                ("max_batch", self.max_batch, 1),
                ("tensor_parallel", self.tensor_parallel, 1),
                ("seed", self.seed, 0),
            )
            if value is not None and value < least
        ]
        if self.dtype is not None and self.dtype not in get_args(Dtype):
            problems.append(f"dtype is {self.dtype!r}; it must be one of {', '.join(get_args(Dtype))}")
        if self.adapter_mode is not None and self.adapter_mode not in ("hot", "merged"):
            problems.append(f"adapter_mode is {self.adapter_mode!r}; it must be hot or merged")
        if self.kv_cache_gib is not None and not self.kv_cache_gib > 0:
            problems.append(f"kv_cache_gib is {self.kv_cache_gib}; it must be above 0")
        if self.gpu_memory_fraction is not None and not 0 < self.gpu_memory_fraction <= 1:
            problems.append(f"gpu_memory_fraction is {self.gpu_memory_fraction}; it must be above 0 and at most 1")
        if self.cores is not None:
            try:
                parse_cores(self.cores)
            except ValueError as error:
                problems.append(f"cores is {self.cores!r}: {error}; write them as in 0-3 or 0,2")
        if problems:
            raise InvalidConfig("EngineSettings", problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSettings:
    """The value of every setting."""

    backend: BackendName
    device: Device
    dtype: Dtype
    context: int
    max_batch: int
    kv_cache_gib: float | None
    """GiB of keys and values; None: the backend measures what is left on the GPU, or grows as it needs."""
    cores: str
    """Cores that compute, as in `0-3`; empty on a GPU."""
    eager: bool
    prefix_caching: bool
    gpu_memory_fraction: float | None
    """None without a GPU."""
    tensor_parallel: int
    adapter_mode: Literal["hot", "merged"]
    seed: int
    reasons: dict[str, str] = field(default_factory=dict)
    """One sentence for each of the fields above, by its name."""

    @property
    def core_count(self) -> int:
        """How many cores compute; 0 on a GPU."""
        return len(parse_cores(self.cores)) if self.cores else 0

    def in_words(self) -> dict[str, str]:
        """Every setting as text, for reports and `EngineInfo.settings`."""
        words = {"True": "yes", "False": "no", "": "none"}
        values = asdict(self)
        del values["reasons"]
        values["kv_cache_gib"] = "measured at the start" if self.kv_cache_gib is None else f"{self.kv_cache_gib:g}"
        values["gpu_memory_fraction"] = "no GPU" if self.gpu_memory_fraction is None else f"{self.gpu_memory_fraction:g}"
        return {name: words.get(str(value), str(value)) for name, value in values.items()}


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
        self.problems: list[str] = []

    def made(self) -> ChosenSettings:
        device = self._device()
        dtype = self._dtype(device)
        fraction = self._fraction(device)
        parallel = self._tensor_parallel(device, dtype, fraction)
        memory = self._kv_memory(device, dtype, fraction, parallel)
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
            adapter_mode=self._adapter_mode(device),
            seed=self._settle("seed", self.wish.seed, 0, "A fixed seed, so that sampling repeats from run to run."),
            reasons=self.reasons,
        )
        if self.problems:
            raise InvalidConfig("EngineSettings on this machine", self.problems)
        return chosen

    def _settle(self, name: str, wished: V | None, otherwise: V, reason: str) -> V:
        self.reasons[name] = reason if wished is None else "You set it."
        return otherwise if wished is None else wished

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
            self.reasons["gpu_memory_fraction"] = "Only for an NVIDIA GPU."
            return None
        gpu = self.machine.gpus[0]
        free = math.floor(100 * (gpu.memory_free / gpu.memory_total - 0.03)) / 100
        reason = (
            "Leaves a tenth of the GPU to others."
            if free >= 0.9
            else f"Other programs hold {_gib(gpu.memory_total - gpu.memory_free)} of this GPU."
        )
        return self._settle("gpu_memory_fraction", self.wish.gpu_memory_fraction, max(0.01, min(0.9, free)), reason)

    def _tensor_parallel(self, device: Device, dtype: Dtype, fraction: float | None) -> int:
        gpus = self.machine.gpus
        if device != "cuda" or fraction is None or self.backend != "vllm":
            self.reasons["tensor_parallel"] = "Only for several GPUs under vLLM."
            return 1
        wished = self.wish.tensor_parallel
        if wished is not None and wished > len(gpus):
            self.problems.append(f"tensor_parallel is {wished}; this machine has {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} to use")
        weights = self.model.weight_bytes(dtype)
        counts = [n for n in (1, 2, 4, 8, 16) if n <= len(gpus) and self.model.kv_heads % n == 0]
        fits = [n for n in counts if weights / n < 0.85 * fraction * gpus[0].memory_total]
        count = (fits or counts)[0] if fits else counts[-1]
        reason = "The weights fit on one GPU." if count == 1 else f"The weights need {_gib(weights)}: fewer GPUs would not hold them."
        return self._settle("tensor_parallel", wished, count, reason)

    def _kv_memory(self, device: Device, dtype: Dtype, fraction: float | None, parallel: int) -> int:
        """Bytes that keys and values may take: what the user set, or what the weights leave."""
        weights = self.model.weight_bytes(dtype)
        if device == "cuda":
            total = parallel * self.machine.gpus[0].memory_total * (fraction or 0.9)
            room = share = total - weights - parallel * 1.5 * GIB
            where = f"{_gib(total)} of GPU memory"
        else:
            total = self.machine.memory_available
            room = total - weights - GIB
            share = min(room, 0.35 * total)
            where = f"{_gib(total)} of memory that is free"
        if share < 512 * self.model.kv_bytes_per_token(dtype):
            raise EngineError(
                f"The model does not fit: its weights take {_gib(weights)} in {dtype}, the engine and the text in flight at least 1 GiB, "
                f"and there are {where}. Choose a smaller model, close other programs, or use a larger machine."
            )
        if self.wish.kv_cache_gib is None:
            return int(share)
        wished = int(self.wish.kv_cache_gib * GIB)
        if wished > room:
            self.problems.append(f"kv_cache_gib is {self.wish.kv_cache_gib:g}; beside the weights there is room for {_gib(room)}")
        return wished

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
            self.reasons["kv_cache_gib"] = "Grows and shrinks with the batch."
            return None
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
            self.reasons["cores"] = "The GPU computes."
            return ""
        if self.wish.cores is not None:
            absent = sorted(set(parse_cores(self.wish.cores)) - set(self.machine.cores))
            if absent:
                usable = core_ranges(self.machine.cores)
                self.problems.append(f"cores is {self.wish.cores}; {core_ranges(tuple(absent))} cannot be used here, {usable} can")
        reason = "One thread on every physical core that this process may use; left to itself vLLM keeps one idle."
        return self._settle("cores", self.wish.cores, core_ranges(self.machine.physical_cores), reason)

    def _eager(self, device: Device) -> bool:
        if self.backend == "transformers":
            return self._settle("eager", None, True, "The transformers engine does not compile.")
        if device == "cuda":
            return self._settle("eager", self.wish.eager, False, "Compilation and CUDA graphs make tokens much faster on a GPU.")
        return self._settle(
            "eager", self.wish.eager, True, "Compiling takes minutes at every start and brings a few percent without a GPU."
        )

    def _prefix_caching(self) -> bool:
        if self.backend == "transformers":
            return self._settle("prefix_caching", None, False, "The transformers engine keeps no prefixes.")
        return self._settle(
            "prefix_caching", self.wish.prefix_caching, True, "Prompts of one program begin alike: that part is computed once."
        )

    def _adapter_mode(self, device: Device) -> Literal["hot", "merged"]:
        if self.backend == "transformers":
            return self._settle("adapter_mode", None, "merged", "The transformers engine serves one adapter at a time, merged.")
        if device == "cuda":
            return self._settle(
                "adapter_mode", self.wish.adapter_mode, "hot", "LoRA kernels are quick on a GPU, so adapters mix in one batch."
            )
        return self._settle(
            "adapter_mode", self.wish.adapter_mode, "merged", "LoRA kernels are slow here; merged weights run at full speed."
        )


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"
