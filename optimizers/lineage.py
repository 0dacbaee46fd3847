"""Where an adapter comes from, written down when it is stored.

Knows no trainer's insides and no store's files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from homefire.engine.adapters import Lineage, base_fingerprint
from homefire.modules.module import Module
from homefire.modules.signature import Signature
from homefire.optimizers.train_spec import TrainResult, TrainRow, TrainSettings, rows_hash

_PACKAGES = ("homefire", "torch", "transformers", "trl", "peft")


def lineage_of(
    training: TrainResult, base: str, base_path: Path, program: Module, settings: TrainSettings, rows: Sequence[TrainRow]
) -> Lineage:
    """The lineage of a run's adapter, without scores yet."""
    losses = {"validation_loss": training.validation_loss_after} if training.validation_loss_after is not None else {}
    return Lineage(
        base_model=base,
        base_fingerprint=base_fingerprint(base_path),
        data_hash=rows_hash(rows),
        rows=len(rows),
        settings=asdict(settings),
        seed=settings.seed,
        program="; ".join(f"{path or 'self'}: {in_text(predictor.signature)}" for path, predictor in program.named_predictors()),
        scores=losses,
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def is_same_training(one: Lineage, other: Lineage) -> bool:
    """Whether both come from the same base, rows and settings, so that their weights are the same."""
    return (one.base_fingerprint, one.data_hash, _plain(one)) == (other.base_fingerprint, other.data_hash, _plain(other))


def _plain(lineage: Lineage) -> str:
    return json.dumps(lineage.settings, sort_keys=True)


def in_text(signature: type[Signature]) -> str:
    """A signature as a string, types in short."""
    sides = (signature.input_fields, signature.output_fields)
    return " -> ".join(", ".join(f"{field.name}: {_type_name(field.type)}" for field in side.values()) for side in sides)


def _type_name(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
