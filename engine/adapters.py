"""The store of LoRA adapters: numbered versions that never change, what each was trained from, and which is in service.

Knows neither how an adapter is trained nor how an engine loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homefire.engine.request import AdapterRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where an adapter comes from and how good it was found to be."""

    base_model: str
    """Name of the base model, as the user knows it."""
    base_fingerprint: str
    data_hash: str
    """SHA-256 of the training rows."""
    rows: int
    settings: dict[str, Any]
    """The training settings, as JSON values."""
    seed: int
    program: str
    """The signatures of the program that was finetuned, in text."""
    scores: dict[str, float]
    """Results by name, higher is better: `validation`, `base`, ..."""
    versions: dict[str, str]
    """Versions of homefire and of the libraries that trained."""
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """One row of a listing."""

    ref: AdapterRef
    sha256: str
    """Of the weights."""
    size: int
    """Bytes of the weights."""
    lineage: Lineage
    in_service: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One entry of the history of what was in service."""

    version: int | None
    """None is the base model."""
    at: str
    """ISO 8601, UTC."""
    note: str
    scores: dict[str, float]


class AdapterStore:
    """Adapters under one directory, safe for several processes at once."""

    def __init__(self, root: Path | None = None) -> None: ...
    def names(self) -> list[str]: ...
    def versions(self, name: str) -> list[AdapterVersion]: ...
    def add(self, name: str, source: Path, lineage: Lineage) -> AdapterRef: ...
    def resolve(self, text: str) -> AdapterRef: ...
    def in_service(self, name: str) -> AdapterRef | None: ...
    def promote(self, name: str, version: int, *, scores: Mapping[str, float] | None = None, note: str = "") -> AdapterRef: ...
    def rollback(self, name: str, *, note: str = "") -> AdapterRef | None: ...
    def history(self, name: str) -> list[Promotion]: ...
    def lineage(self, ref: AdapterRef) -> Lineage: ...
    def record_scores(self, ref: AdapterRef, scores: Mapping[str, float]) -> Lineage: ...
    def check_base(self, ref: AdapterRef, base_path: Path) -> None: ...
    def verify(self, ref: AdapterRef) -> str: ...


def base_fingerprint(path: Path) -> str: ...
def tokenizer_fingerprint(path: Path) -> str: ...
