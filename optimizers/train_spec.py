"""What a training run is, as values: settings, rows, the spec that names the run, its events and its result.

Knows neither torch nor processes: `trainer` runs a spec, `train_child` computes it.
LoRA is arXiv 2106.09685.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from homefire.engine.fingerprint import base_fingerprint, tokenizer_fingerprint
from homefire.engine.request import Message
from homefire.errors import ConfigError, InputError, TrainingError

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bfloat16"]
EventKind = Literal["loading", "started", "dropped", "step", "validated", "saved", "finished"]

RUN_FORMAT = 1
"""Raised when the same spec would no longer give the same adapter, so that older runs are not taken for new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How a LoRA adapter is trained.

    Raises:
        ConfigError: values out of their range; all of them in one message.
    """

    rank: int = 16
    """Rank of the two matrices that are learnt beside each weight matrix; 1 to 512."""
    alpha: float = 32.0
    """The learnt update is scaled by alpha / rank; above 0. Usually twice the rank."""
    dropout: float = 0.0
    """Chance that an input of the update is zeroed in training; 0 to below 1. Above 0 each step takes longer."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which weight matrices get an update: `all-linear`, or names such as `("q_proj", "v_proj")`."""
    learning_rate: float = 1e-3
    """Peak learning rate; above 0, at most 1. LoRA wants about ten times that of full finetuning, small models more than large ones."""
    epochs: int = 3
    """Passes over the rows; 1 or more."""
    batch_size: int = 16
    """Rows computed at once; 1 or more. More needs more memory."""
    gradient_accumulation: int = 1
    """Batches summed into one step; 1 or more. One update of the weights sees batch_size times this many rows."""
    warmup_fraction: float = 0.05
    """Share of the steps in which the learning rate rises to its peak; 0 to 1."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after the warm-up: `cosine` or `linear` to 0, or `constant`."""
    max_tokens: int = 2048
    """Tokens of the longest row, prompt and completion together; longer rows are dropped and counted, never cut. 8 or more."""
    weight_decay: float = 0.0
    """Pull of the update towards 0 in each step (AdamW); 0 to 1."""
    dtype: Precision | None = None
    """Number format of the frozen weights; none chooses the fastest for the machine. The update itself is always float32."""
    seed: int = 0
    """Decides the order of the rows and the start of the update; 0 to 2**32 - 1."""
    checkpoint_every: int | None = None
    """Steps between two checkpoints, 1 or more; none chooses about ten in a run."""

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise ConfigError("The training settings cannot be used: " + "; ".join(problems) + ". Correct them and train again.")


def _problems(settings: TrainSettings) -> list[str]:
    """One phrase for each value out of its range."""
    found: list[str] = []

    def whole(name: str, value: object, least: int, most: int = 2**32 - 1) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            found.append(f"{name} is {value!r}, expected a whole number from {least} to {most}")

    def real(name: str, value: object, least: float, most: float, *, open_below: bool = False, open_above: bool = False) -> None:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        if not fits or (open_below and value == least) or (open_above and value == most):
            low, high = "above" if open_below else "from", "to below" if open_above else "to"
            found.append(f"{name} is {value!r}, expected a number {low} {least:g} {high} {most:g}")

    def one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
        if value not in choices:
            found.append(f"{name} is {value!r}, expected one of {', '.join(map(repr, choices))}")

    whole("rank", settings.rank, 1, 512)
    real("alpha", settings.alpha, 0, 1e6, open_below=True)
    real("dropout", settings.dropout, 0, 1, open_above=True)
    targets = settings.target_modules
    if targets != "all-linear" and (isinstance(targets, str) or not targets or not all(isinstance(n, str) and n for n in targets)):
        found.append(f"target_modules is {targets!r}, expected 'all-linear' or names of layers such as ('q_proj', 'v_proj')")
    real("learning_rate", settings.learning_rate, 0, 1, open_below=True)
    whole("epochs", settings.epochs, 1)
    whole("batch_size", settings.batch_size, 1)
    whole("gradient_accumulation", settings.gradient_accumulation, 1)
    real("warmup_fraction", settings.warmup_fraction, 0, 1)
    one_of("schedule", settings.schedule, get_args(Schedule))
    whole("max_tokens", settings.max_tokens, 8)
    real("weight_decay", settings.weight_decay, 0, 1)
    one_of("dtype", settings.dtype, (*get_args(Precision), None))
    whole("seed", settings.seed, 0)
    if settings.checkpoint_every is not None:
        whole("checkpoint_every", settings.checkpoint_every, 1)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """One sample: the chat as the engine will see it when serving, and the answer to learn."""

    prompt: tuple[Message, ...]
    completion: str
    """The assistant's text without the token that ends its turn."""

    def __post_init__(self) -> None:
        if media := [str(one) for message in self.prompt for one in message.media]:
            raise TrainingError(f"A row for training holds {media[0]}, and only text can be trained on. Leave such examples out.")

    def to_json(self) -> dict[str, Any]:
        return {"prompt": [{"role": m.role, "content": m.content} for m in self.prompt], "completion": self.completion}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainRow:
        return cls(prompt=tuple(Message(m["role"], m["content"]) for m in record["prompt"]), completion=record["completion"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """All that decides which adapter comes out of a run. Equal specs share a run directory: a second call resumes the first."""

    base: str
    """Name of the base model, as the user knows it."""
    base_path: Path
    """Checkpoint folder of the base model. Not part of the run's identity: the fingerprints are."""
    base_fingerprint: str
    tokenizer_fingerprint: str
    settings: TrainSettings
    data_hash: str
    """SHA-256 of the rows in their order."""
    validation_hash: str
    """SHA-256 of the validation rows in their order."""

    @classmethod
    def of(
        cls,
        *,
        base: str,
        base_path: Path,
        rows: Sequence[TrainRow],
        validation_rows: Sequence[TrainRow] = (),
        settings: TrainSettings | None = None,
    ) -> TrainSpec:
        """The spec of training `rows` on the checkpoint at `base_path`.

        Raises:
            InputError: the folder holds no model.
        """
        return cls(
            base=base,
            base_path=base_path,
            base_fingerprint=base_fingerprint(base_path),
            tokenizer_fingerprint=tokenizer_fingerprint(base_path),
            settings=settings or TrainSettings(),
            data_hash=rows_hash(rows),
            validation_hash=rows_hash(validation_rows),
        )

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the hash of everything that decides the adapter."""
        identity = self.to_json()
        del identity["base_path"]
        return hashlib.sha256(canonical_json({"format": RUN_FORMAT, **identity})).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "base_path": str(self.base_path),
            "base_fingerprint": self.base_fingerprint,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "settings": dataclasses.asdict(self.settings),
            "data_hash": self.data_hash,
            "validation_hash": self.validation_hash,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TrainSpec:
        targets = record["settings"]["target_modules"]
        settings = {**record["settings"], "target_modules": targets if isinstance(targets, str) else tuple(targets)}
        return cls(**{**record, "base_path": Path(record["base_path"]), "settings": TrainSettings(**settings)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainEvent:
    """Something that happened in a run, in the order it happened. Fields that say nothing for a kind keep their defaults."""

    kind: EventKind
    step: int = 0
    """Updates of the weights so far."""
    total_steps: int = 0
    loss: float | None = None
    """`step`: mean loss of the step's completion tokens, in nats. `validated`: the same over the validation rows. Lower is better."""
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    """Tokens of the rows, prompts included, over the seconds of this call's steps so far."""
    eta: float | None = None
    """Seconds until the last step, at the speed so far."""
    rows: int = 0
    """`started`: rows that are trained on. `dropped`: rows left out because they are longer than `max_tokens`."""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """Training loss of one step."""

    step: int
    loss: float
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a finished run left behind."""

    run_id: str
    run_dir: Path
    adapter: Path
    """Folder with `adapter_config.json` and `adapter_model.safetensors`."""
    losses: tuple[LossPoint, ...]
    """Every step, also those before an interruption."""
    validation_loss_before: float | None
    """Nats per completion token of the validation rows with the base model; none without such rows."""
    validation_loss_after: float | None
    rows: int
    dropped_rows: int
    steps: int
    tokens: int
    """Tokens of all rows of all epochs, prompts included."""
    seconds: float
    """Spent in training steps, over all calls that worked on the run."""
    rows_per_second: float
    peak_memory: int
    """Bytes; the accelerator's where there is one, else the child process's."""
    dtype: str
    device: str
    resumed: bool
    """Whether the run was interrupted at least once."""

    def to_json(self) -> dict[str, Any]:
        record = dataclasses.asdict(self)
        del record["run_dir"], record["adapter"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any], run_dir: Path) -> TrainResult:
        losses = tuple(LossPoint(**point) for point in record["losses"])
        return cls(**{**record, "losses": losses, "run_dir": run_dir, "adapter": run_dir / "adapter"})


def canonical_json(value: object) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def rows_hash(rows: Iterable[TrainRow]) -> str:
    """SHA-256 over the rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(canonical_json(row.to_json()) + b"\n")
    return digest.hexdigest()


def check_rows(rows: Sequence[TrainRow], what: str) -> None:
    """Refuses rows that nothing can be learnt from.

    Raises:
        InputError: no rows at all, or a row with an empty prompt or completion.
    """
    if not rows:
        raise InputError(
            f"The {what} set has no rows; training needs at least one. Check the metric that selects the rows, or give more examples."
        )
    for index, row in enumerate(rows):
        if not row.prompt or not row.completion:
            missing = "completion" if row.prompt else "prompt"
            raise InputError(
                f"Row {index} of the {what} set has an empty {missing}; expected a prompt and the text to learn. Leave the row out."
            )
