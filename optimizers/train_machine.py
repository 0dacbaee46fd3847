"""What TRL and PEFT are told for a run on this machine: device, number format, training arguments, the shape of the adapter.

Knows no rows' contents and no loss; chooses what the settings leave open.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.optimizers.train_batches import TokenRow
from homefire.optimizers.train_spec import TrainSettings

if TYPE_CHECKING:
    import torch

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints inside its directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the run computes and in which number format."""

    device: str
    """`cuda`, `mps` or `cpu`."""
    half: bool
    """Whether frozen weights and products are bfloat16, else float32."""

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if self.half else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """Products in the run's number format; the adapter itself stays float32."""
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.half else nullcontext()


def arguments(settings: TrainSettings, machine: Machine, run_dir: Path, rows: Sequence[TokenRow], model: Any) -> Any:
    """The `SFTConfig` of a run."""
    from trl.trainer.sft_config import SFTConfig

    steps = settings.epochs * math.ceil(math.ceil(len(rows) / settings.batch_size) / settings.gradient_accumulation)
    return SFTConfig(
        output_dir=str(run_dir / CHECKPOINTS),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=round(settings.warmup_fraction * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=machine.half,
        use_cpu=machine.device == "cpu",
        gradient_checkpointing=_memory_is_short(machine, settings, rows, model),
        logging_steps=1,
        save_strategy="steps",
        save_steps=settings.checkpoint_every or math.ceil(steps / 10),
        save_total_limit=2,
        dataloader_pin_memory=machine.device == "cuda",
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        completion_only_loss=False,
        report_to="none",
        disable_tqdm=True,
    )


def lora(settings: TrainSettings) -> Any:
    """The `LoraConfig` of a run."""
    from peft import LoraConfig

    targets = settings.target_modules
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT computes with it as it is
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )


def encoder_lora(model: Any, rank: int) -> None:
    """Freezes the transformer of a sentence-transformers model and puts a LoRA adapter on all its linear layers; see `merge_lora`."""
    from peft import LoraConfig

    model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="FEATURE_EXTRACTION"))


def merge_lora(model: Any) -> None:
    """Adds what the adapters of a sentence-transformers model have learnt to its weights, and takes the adapters out."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    transformer = model.transformers_model
    adapted = [(name, layer) for name, layer in transformer.named_modules() if isinstance(layer, BaseTunerLayer)]
    for name, layer in adapted:
        layer.merge()
        above, _, own = name.rpartition(".")
        setattr(transformer.get_submodule(above), own, layer.get_base_layer())
    transformer._hf_peft_config_loaded = False
    del transformer.peft_config


def choose_machine(settings: TrainSettings) -> Machine:
    """bfloat16 where the machine multiplies it faster: GPUs that know it, and CPUs with instructions for it."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    cpuinfo = Path("/proc/cpuinfo")
    if device == "cuda":
        half = torch.cuda.is_bf16_supported()
    else:
        half = device == "cpu" and cpuinfo.is_file() and "bf16" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    return Machine(device=device, half=half if settings.dtype is None else settings.dtype == "bfloat16")


def be_deterministic(machine: Machine) -> None:
    """One sum of the same numbers in the same order gives one result; costs nothing on a CPU and much on a GPU."""
    import torch

    if machine.device == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        switches: Any = torch.utils.deterministic
        switches.fill_uninitialized_memory = False


def _memory_is_short(machine: Machine, settings: TrainSettings, rows: Sequence[TokenRow], model: Any) -> bool:
    """Whether a GPU would not hold the values that the backward pass needs, and has to compute them again.

    About 40 values of the hidden size per token and layer (arXiv 2205.05198, section 4.1, without dropout and with fused attention).
    """
    import torch

    if machine.device != "cuda":
        return False
    config = model.config.get_text_config()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    values = settings.batch_size * max(map(len, rows)) * config.num_hidden_layers * config.hidden_size * 40
    free, _ = torch.cuda.mem_get_info()
    return bool(weights + values * (2 if machine.half else 4) > 0.8 * free)


def peak_memory(machine: Machine) -> int:
    """Bytes; 0 where the system does not tell."""
    import torch

    if machine.device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
