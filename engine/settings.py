"""What an engine runs with: the user's wishes, and the value of every setting with its reason.

Knows no machine and no backend: `choice` fills in what the user leaves open.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from homefire.configs.load import InvalidConfig
from homefire.engine.machine import parse_cores

Dtype = Literal["bfloat16", "float16", "float32"]
Device = Literal["cpu", "cuda", "mps"]
BackendName = Literal["vllm", "transformers"]
Executor = Literal["mp", "ray"]

GIB = 2**30


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
    """GPUs that share every layer of the model."""
    pipeline_parallel: int | None = None
    """Groups of GPUs that each hold a part of the layers; with Ray they may stand in several machines."""
    data_parallel: int | None = None
    """Whole copies of the model that share the requests, each in a process and on GPUs, or cores, of its own."""
    distributed_executor: Executor | None = None
    """What starts the processes of several GPUs: `mp` on this machine, `ray` on the machines of a Ray cluster that this one belongs to."""
    own_process: bool | None = None
    """True computes in a process of its own, so that a crash of the model cannot take the program with it."""
    speculative_ngram: int | None = None
    """Tokens to guess ahead wherever the text repeats what stood before it, as in extraction; the answers stay the same."""
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
                ("pipeline_parallel", self.pipeline_parallel, 1),
                ("data_parallel", self.data_parallel, 1),
                ("speculative_ngram", self.speculative_ngram, 1),
                ("seed", self.seed, 0),
            )
            if value is not None and value < least
        ]
        if self.dtype is not None and self.dtype not in get_args(Dtype):
            problems.append(f"dtype is {self.dtype!r}; it must be one of {', '.join(get_args(Dtype))}")
        if self.adapter_mode is not None and self.adapter_mode not in ("hot", "merged"):
            problems.append(f"adapter_mode is {self.adapter_mode!r}; it must be hot or merged")
        if self.distributed_executor is not None and self.distributed_executor not in get_args(Executor):
            problems.append(f"distributed_executor is {self.distributed_executor!r}; it must be mp or ray")
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
    pipeline_parallel: int = 1
    data_parallel: int = 1
    distributed_executor: Executor | None = None
    """None: nothing is distributed."""
    own_process: bool = False
    speculative_ngram: int = 0
    """0: nothing is guessed."""
    gpus: tuple[int, ...] = ()
    """Indices of the GPUs that one of several copies uses; empty: all."""
    reasons: dict[str, str] = field(default_factory=dict)
    """One sentence for each of the fields above, by its name."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Wishes that have no effect here, by name, each with a sentence that says why."""

    @property
    def core_count(self) -> int:
        """How many cores compute; 0 on a GPU."""
        return len(parse_cores(self.cores)) if self.cores else 0

    def in_words(self) -> dict[str, str]:
        """Every setting as text, for reports and `EngineInfo.settings`."""
        words = {"True": "yes", "False": "no", "": "none", "None": "none"}
        values = asdict(self)
        del values["reasons"], values["dropped"], values["gpus"]
        values["kv_cache_gib"] = "measured at the start" if self.kv_cache_gib is None else f"{self.kv_cache_gib:g}"
        values["gpu_memory_fraction"] = "no GPU" if self.gpu_memory_fraction is None else f"{self.gpu_memory_fraction:g}"
        return {name: words.get(str(value), str(value)) for name, value in values.items()}
