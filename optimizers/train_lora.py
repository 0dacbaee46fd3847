"""LoRA training with TRL's SFTTrainer and PEFT: from rows to an adapter, through checkpoints that a killed run resumes from.

Knows nothing of programs, and nothing of the process it runs in but a function to report to and an event that asks it to stop.

The loss is that of the completions, over logits of the completions only: off a GPU the trainer's own loss projects every prompt token onto
the vocabulary, which in a small model costs more than the layers do. Equal specs on one machine give equal adapters, interrupted or not.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homefire.configs.home import atomic_directory, write_atomic
from homefire.engine.prompt import PromptEncoder
from homefire.errors import InputError, MissingExtra
from homefire.optimizers.train_batches import IGNORED, TokenRow, batch, encode, end_of_turn
from homefire.optimizers.train_machine import CHECKPOINTS, Machine, arguments, be_deterministic, choose_machine, lora, peak_memory
from homefire.optimizers.train_spec import LossPoint, TrainEvent, TrainResult, TrainRow, TrainSpec

if TYPE_CHECKING:
    import torch

COMPLETE = "complete.json"
"""Written into a checkpoint once everything else of it is on the disk; holds the seconds spent so far."""
_BEFORE = "validation_before.json"
_LEAST_BUDGET = 384
"""Tokens of a sequence that rows share. Up to two thirds of the hidden size, attention costs little beside the weights."""
_LARGEST_DIFFERENCE = 0.05
"""Nats per token by which rows that share a sequence may differ from rows alone; rounding to bfloat16 stays far below."""

Report = Callable[[TrainEvent], None]


def train_lora(
    spec: TrainSpec,
    rows: Sequence[TrainRow],
    validation_rows: Sequence[TrainRow],
    *,
    run_dir: Path,
    report: Report,
    stop: threading.Event,
) -> TrainResult | None:
    """Trains, from the last complete checkpoint in `run_dir` if there is one; None if `stop` was set before the end.

    Raises:
        InputError: every row is longer than `max_tokens`, or the model's layers have other names than `target_modules`.
        MissingExtra: a library is not installed.
    """
    report(TrainEvent(kind="loading", message=f"Loading {spec.base}"))
    try:
        import trl  # noqa: F401
    except ImportError as error:
        raise MissingExtra(error.name or "trl", "train", "Finetuning") from error
    machine = choose_machine(spec.settings)
    encoder = PromptEncoder(spec.base_path)
    end = end_of_turn(encoder, spec.base_path)
    kept = _fitting(encode(encoder, rows, end), spec.settings.max_tokens, "training", report)
    held_out = _fitting(encode(encoder, validation_rows, end), spec.settings.max_tokens, "validation", report) if validation_rows else []
    resume = last_checkpoint(run_dir / CHECKPOINTS)
    run = _Run(spec, machine, run_dir, report, stop)
    trainer = run.trainer(encoder.tokenizer, kept, seconds=_seconds(resume))
    before = run.loss_before(trainer.model, held_out)
    if not stop.is_set():
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    state = trainer.state
    if stop.is_set() and state.global_step < state.max_steps:
        return None
    after = run.loss(trainer.model, held_out)
    if after is not None:
        report(TrainEvent(kind="validated", step=state.global_step, total_steps=state.max_steps, loss=after))
    _save_adapter(trainer.model, spec.base, run_dir / "adapter")
    return run.result(state, kept, dropped=len(rows) - len(kept), losses=(before, after), resumed=resume is not None)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; those that a killed process left half-written are removed."""
    complete = []
    for checkpoint in folder.glob("checkpoint-*"):
        if (checkpoint / COMPLETE).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(complete, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]), default=None)


class _Run:
    """One call that works on a run."""

    def __init__(self, spec: TrainSpec, machine: Machine, run_dir: Path, report: Report, stop: threading.Event) -> None:
        self.spec = spec
        self.machine = machine
        self.run_dir = run_dir
        self.report = report
        self.stop = stop
        self.share = False
        self.budget = 0

    def trainer(self, tokenizer: Any, rows: Sequence[TokenRow], *, seconds: float) -> Any:
        """The trainer over `rows`, its model with a fresh adapter in place."""
        import torch
        import transformers
        from datasets import Dataset

        be_deterministic(self.machine)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.spec.base_path, dtype=self.machine.dtype, attn_implementation="sdpa")
        columns = {
            "input_ids": [row.prompt + row.completion for row in rows],
            "labels": [(IGNORED,) * len(row.prompt) + row.completion for row in rows],
        }
        try:
            trainer = _trainer_class()(
                model=model,
                args=arguments(self.spec.settings, self.machine, self.run_dir, rows, model),
                data_collator=self.collate,
                train_dataset=Dataset.from_dict(columns),
                processing_class=tokenizer,
                peft_config=lora(self.spec.settings),
            )
        except ValueError as error:
            if "target modules" not in str(error).lower():
                raise
            wanted, found = (
                self.spec.settings.target_modules,
                sorted({n.rpartition(".")[2] for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}),
            )
            raise InputError(
                f"target_modules {wanted!r} names layers that {self.spec.base} does not have; it has {', '.join(found)}."
            ) from error
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.add_callback(_callback_class()(self, rows, seconds))
        self.budget = max(_LEAST_BUDGET, 2 * model.config.get_text_config().hidden_size // 3)
        self.share = self._sharing_is_exact(trainer.model, rows)
        return trainer

    def collate(self, columns: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """The batch of some rows of the trainer's data set."""
        rows = []
        for column in columns:
            start = sum(label == IGNORED for label in column["labels"])
            rows.append(TokenRow(prompt=tuple(column["input_ids"][:start]), completion=tuple(column["input_ids"][start:])))
        return batch(rows, budget=self.budget, share=self.share)

    def loss(self, model: Any, rows: Sequence[TokenRow]) -> float | None:
        """Mean loss per completion token, in nats; None without rows."""
        if not rows:
            return None
        size = self.spec.settings.batch_size
        totals = [self._total_loss(model, rows[start : start + size], share=self.share) for start in range(0, len(rows), size)]
        return sum(totals) / sum(len(row.completion) for row in rows)

    def loss_before(self, model: Any, rows: Sequence[TokenRow]) -> float | None:
        """The loss of the base model, computed once in a run and then read from its directory."""
        path = self.run_dir / _BEFORE
        if path.is_file():
            return float(json.loads(path.read_text(encoding="utf-8")))
        loss = self.loss(model, rows)
        if loss is not None:
            write_atomic(path, json.dumps(loss))
            self.report(TrainEvent(kind="validated", loss=loss))
        return loss

    def result(
        self, state: Any, rows: Sequence[TokenRow], *, dropped: int, losses: tuple[float | None, float | None], resumed: bool
    ) -> TrainResult:
        """What came out, once the last step is done and its checkpoint saved."""
        seconds, epochs = _seconds(last_checkpoint(self.run_dir / CHECKPOINTS)), self.spec.settings.epochs
        return TrainResult(
            run_id=self.spec.run_id,
            run_dir=self.run_dir,
            adapter=self.run_dir / "adapter",
            losses=_losses(state.log_history),
            validation_loss_before=losses[0],
            validation_loss_after=losses[1],
            rows=len(rows),
            dropped_rows=dropped,
            steps=state.global_step,
            tokens=epochs * sum(map(len, rows)),
            seconds=seconds,
            rows_per_second=epochs * len(rows) / seconds,
            peak_memory=peak_memory(self.machine),
            dtype="bfloat16" if self.machine.half else "float32",
            device=self.machine.device,
            resumed=resumed,
        )

    def _total_loss(self, model: Any, rows: Sequence[TokenRow], *, share: bool) -> float:
        import torch

        inputs = {name: tensor.to(self.machine.device) for name, tensor in batch(rows, budget=self.budget, share=share).items()}
        model.eval()
        with torch.no_grad(), self.machine.autocast():
            return float(_completion_loss(model, inputs))

    def _sharing_is_exact(self, model: Any, rows: Sequence[TokenRow]) -> bool:
        """Whether this model treats rows that share a sequence as it treats each alone.

        Models with recurrent layers do not, and nor do attention kernels that take no mask; so it is tried on a few rows.
        """
        few = sorted(rows, key=len)[:3]
        alone = sum(self._total_loss(model, [row], share=False) for row in few)
        together = self._total_loss(model, few, share=True)
        return abs(alone - together) <= _LARGEST_DIFFERENCE * sum(len(row.completion) for row in few)


def _completion_loss(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Sum of the losses of the tokens to learn, from logits of the last positions only."""
    import torch

    labels = inputs["labels"][:, 1:]
    wanted = labels != IGNORED
    given = {name: inputs[name] for name in ("input_ids", "position_ids", "attention_mask")}
    logits = model(**given, use_cache=False, logits_to_keep=labels.shape[1]).logits
    return torch.nn.functional.cross_entropy(logits[wanted].float(), labels[wanted], reduction="sum")


def _trainer_class() -> Any:
    """SFTTrainer with the loss above; made here so that importing this file needs no TRL."""
    from trl.trainer.sft_trainer import SFTTrainer

    class CompletionTrainer(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
            tokens = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            return _completion_loss(model, inputs) / tokens

        def create_model_card(self, *_: Any, **__: Any) -> None:
            """A checkpoint needs none."""

    return CompletionTrainer


def _callback_class() -> Any:
    """What happens between steps: reports, the wish to stop, the mark on a checkpoint."""
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def __init__(self, run: _Run, rows: Sequence[TokenRow], seconds: float) -> None:
            self.run = run
            self.rows = rows
            self.seconds_before = seconds
            self.first_step = 0
            self.started = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started, self.first_step = time.monotonic(), state.global_step
            self.run.report(TrainEvent(kind="started", step=state.global_step, total_steps=state.max_steps, rows=len(self.rows)))

        def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            logs: dict[str, float] = given["logs"]
            if "loss" not in logs:
                return
            done, elapsed = state.global_step - self.first_step, max(time.monotonic() - self.started, 1e-9)
            tokens = self.run.spec.settings.epochs * sum(map(len, self.rows)) * done / state.max_steps
            event = TrainEvent(
                kind="step",
                step=state.global_step,
                total_steps=state.max_steps,
                loss=logs["loss"],
                learning_rate=logs["learning_rate"],
                tokens_per_second=tokens / elapsed,
                eta=elapsed / done * (state.max_steps - state.global_step),
            )
            self.run.report(event)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_log = True
            if self.run.stop.is_set():
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            _sync(checkpoint)
            seconds = self.seconds_before + time.monotonic() - self.started
            write_atomic(checkpoint / COMPLETE, json.dumps({"seconds": seconds}))
            self.run.report(TrainEvent(kind="saved", step=state.global_step, total_steps=state.max_steps))

    return Reporter


def _fitting(rows: Sequence[TokenRow], most: int, what: str, report: Report) -> list[TokenRow]:
    """The rows of at most `most` tokens; the others are reported."""
    kept = [row for row in rows if len(row) <= most]
    if not kept:
        raise InputError(
            f"Every {what} row is longer than max_tokens={most}: the shortest has {min(map(len, rows))} tokens. "
            f"Set max_tokens to {max(map(len, rows))} to keep all, or shorten the inputs."
        )
    if len(kept) < len(rows):
        message = f"{len(rows) - len(kept)} of {len(rows)} {what} rows are longer than max_tokens={most} and are left out."
        report(TrainEvent(kind="dropped", rows=len(rows) - len(kept), message=message))
    return kept


def _save_adapter(model: Any, base: str, target: Path) -> None:
    """The adapter as PEFT writes it, but with the base model's name in place of its path, and in one spelling."""
    shutil.rmtree(target, ignore_errors=True)
    with atomic_directory(target) as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = base
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()
        path.write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")


def _losses(history: Sequence[dict[str, Any]]) -> tuple[LossPoint, ...]:
    return tuple(
        LossPoint(step=point["step"], loss=point["loss"], learning_rate=point["learning_rate"]) for point in history if "loss" in point
    )


def _seconds(checkpoint: Path | None) -> float:
    return 0.0 if checkpoint is None else float(json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))["seconds"])


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
