"""The store of LoRA adapters: numbered versions that never change, what each was trained from, and which one is in service.

Knows neither how an adapter is trained nor how an engine loads it.

On the disk a version is a folder NAME/v0001 with PEFT's two files and `version.json`; scores found later go to `scores.json` beside them.
`service.json` of a name is the pointer: the version in service is the last entry of its history.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from homefire.configs.home import atomic_directory, home, require_directory, write_atomic
from homefire.engine.fingerprint import base_fingerprint as base_fingerprint
from homefire.engine.fingerprint import file_hash
from homefire.engine.request import AdapterRef
from homefire.errors import AdapterError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_RECORD = "version.json"
_SCORES = "scores.json"
_SERVICE = "service.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_REPAIR = "Train it again or restore the folder from a copy."
_Value = TypeVar("_Value")
_FOLDER = re.compile(r"v(\d{4,})")


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
    """What was measured, by name."""
    versions: dict[str, str]
    """Versions of homefire and of the libraries that trained."""
    created: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """One version in a listing."""

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
    note: str = ""
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    before: int | None = None
    """Entry of the history, counted from 0, that a rollback goes to; none is the base model."""


class AdapterStore:
    """Adapters under one directory; several processes may use it at once.

    Args:
        root: The directory; none is `adapters` in homefire's own folder.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "adapters"

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(
            folder.name for folder in self.root.glob("*") if folder.is_dir() and _NAME.fullmatch(folder.name) and _numbers(folder)
        )

    def versions(self, name: str) -> list[AdapterVersion]:
        """All versions of a name, oldest first.

        Raises:
            AdapterError: there is no such adapter, or a version is damaged.
        """
        serving = self.in_service(name)
        listed = []
        for number in self._existing(name):
            ref = self._ref(name, number)
            record, size = self._record(ref), (ref.path / WEIGHTS).stat().st_size
            listed.append(AdapterVersion(ref=ref, sha256=record["sha256"], size=size, lineage=self.lineage(ref), in_service=ref == serving))
        return listed

    def add(self, name: str, source: Path, lineage: Lineage) -> AdapterRef:
        """Copies the adapter in `source` into the store as the next version; weights that the name already has keep their version.

        Raises:
            AdapterError: the name cannot be one, or `source` holds no adapter.
            DiskError: no space, or the store cannot be written.
        """
        folder = self._folder(name)
        for file in (CONFIG, WEIGHTS):
            if not (source / file).is_file():
                raise AdapterError(f"The folder {source} holds no adapter: {file} is missing. Expected a folder as PEFT saves it.")
        size = (source / WEIGHTS).stat().st_size
        require_directory(folder, f"the adapter {name!r}", free_bytes=2 * size)
        digest = file_hash(source / WEIGHTS)
        with self._lock(name):
            numbers = _numbers(folder)
            for number in numbers:
                if self._record(self._ref(name, number))["sha256"] == digest:
                    return self._ref(name, number)
            ref = self._ref(name, max(numbers, default=0) + 1)
            with atomic_directory(ref.path) as new:
                shutil.copyfile(source / CONFIG, new / CONFIG)
                shutil.copyfile(source / WEIGHTS, new / WEIGHTS)
                if file_hash(new / WEIGHTS) != digest:
                    raise AdapterError(f"The adapter in {source} changed while it was copied. Add it again once nothing writes there.")
                record = {"sha256": digest, "size": size, "lineage": dataclasses.asdict(lineage)}
                (new / _RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        return ref

    def resolve(self, text: str) -> AdapterRef:
        """The version that `name`, `name@3` or `name@latest` means; a bare name is the version in service.

        Raises:
            AdapterError: no such adapter or version, none in service, or it is damaged.
        """
        name, at, which = text.partition("@")
        if not at:
            ref = self.in_service(name)
            if ref is None:
                newest = self._existing(name)[-1]
                raise AdapterError(
                    f"No version of the adapter {name!r} is in service. "
                    f"Put one in service with: homefire adapters promote {name}@{newest}, or name a version: {name}@{newest}."
                )
            return ref
        numbers = self._existing(name)
        if which == "latest":
            return self._checked(self._ref(name, numbers[-1]))
        if not which.isascii() or not which.isdecimal() or int(which) not in numbers:
            known = ", ".join(map(str, numbers))
            raise AdapterError(
                f"The adapter {name!r} has no version {which!r}; it has {known}. Write {name}@{numbers[-1]} or {name}@latest."
            )
        return self._checked(self._ref(name, int(which)))

    def in_service(self, name: str) -> AdapterRef | None:
        """The promoted version; none when there is none or the base model is in service again.

        Raises:
            AdapterError: the version or the pointer is damaged.
        """
        history = self.history(name)
        return None if not history or history[-1].version is None else self._checked(self._ref(name, history[-1].version))

    def promote(self, name: str, version: int, *, scores: Mapping[str, float] | None = None, note: str = "") -> AdapterRef:
        """Puts a version in service; what was in service before is remembered for `rollback`. One that is in service already stays so.

        Raises:
            AdapterError: no such version, or its weights are not what was stored.
        """
        ref = self.resolve(f"{name}@{version}")
        self.verify(ref)
        with self._lock(name):
            history = self.history(name)
            if history and history[-1].version == version:
                return ref
            before = len(history) - 1 if history else None
            self._append(name, history, Promotion(version=version, at=_now(), note=note, scores=dict(scores or {}), before=before))
        return ref

    def rollback(self, name: str, *, note: str = "") -> AdapterRef | None:
        """Undoes the last promotion that is not undone yet: what was in service before it is again. None means the base model.

        Raises:
            AdapterError: nothing of that name was ever promoted, or the base model is in service already.
        """
        self._existing(name)
        with self._lock(name):
            history = self.history(name)
            if not history or history[-1].version is None:
                raise AdapterError(f"The base model is in service for {name!r} already, so there is nothing to roll back.")
            back = None if history[-1].before is None else history[history[-1].before]
            version = None if back is None else back.version
            ref = None if version is None else self._checked(self._ref(name, version))
            entry = Promotion(
                version=version,
                at=_now(),
                note=note or f"rolled back from {history[-1].version}",
                before=None if back is None else back.before,
            )
            self._append(name, history, entry)
        return ref

    def history(self, name: str) -> list[Promotion]:
        """What was in service and since when, oldest first.

        Raises:
            AdapterError: the file that says so is damaged.
        """
        path = self._folder(name) / _SERVICE
        return [_read(Promotion, entry, path) for entry in _read_json(path, list)] if path.is_file() else []

    def lineage(self, ref: AdapterRef) -> Lineage:
        """Where a version comes from, with all scores recorded so far."""
        lineage = _read(Lineage, self._record(ref)["lineage"], ref.path / _RECORD)
        later = ref.path / _SCORES
        return dataclasses.replace(lineage, scores={**lineage.scores, **_read_json(later, dict)}) if later.is_file() else lineage

    def record_scores(self, ref: AdapterRef, scores: Mapping[str, float]) -> Lineage:
        """Adds results of an evaluation to a version's lineage; equal names are replaced."""
        with self._lock(ref.name):
            path = ref.path / _SCORES
            known = _read_json(path, dict) if path.is_file() else {}
            write_atomic(path, json.dumps({**known, **scores}, indent=1))
        return self.lineage(ref)

    def check_base(self, ref: AdapterRef, base_path: Path) -> None:
        """Makes sure that an adapter belongs to the model in `base_path`.

        Raises:
            AdapterError: it was trained for another one.
        """
        lineage = self.lineage(ref)
        if base_fingerprint(base_path) != lineage.base_fingerprint:
            raise AdapterError(
                f"The adapter {ref} was trained for {lineage.base_model!r}, but the model in {base_path} is another one. "
                f"Use it with {lineage.base_model!r}, or train an adapter for this model."
            )

    def verify(self, ref: AdapterRef) -> str:
        """The SHA-256 of a version's weights, read anew.

        Raises:
            AdapterError: the weights are not those that were stored.
        """
        self._checked(ref)
        digest = file_hash(ref.path / WEIGHTS)
        if digest != self._record(ref)["sha256"]:
            raise AdapterError(f"The weights of the adapter {ref} in {ref.path} changed after they were stored. {_REPAIR}")
        return digest

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise AdapterError(
                f"{name!r} cannot name an adapter; expected lower-case letters, digits, '.', '_' and '-', such as 'support-triage'."
            )
        return self.root / name

    def _existing(self, name: str) -> list[int]:
        numbers = _numbers(self._folder(name))
        if not numbers:
            known = ", ".join(self.names()) or "none"
            raise AdapterError(f"There is no adapter {name!r}; known adapters: {known}. List them with: homefire adapters list.")
        return numbers

    def _ref(self, name: str, number: int) -> AdapterRef:
        return AdapterRef(name, number, self._folder(name) / f"v{number:04d}")

    def _checked(self, ref: AdapterRef) -> AdapterRef:
        record = self._record(ref)
        for file in (CONFIG, WEIGHTS):
            if not (ref.path / file).is_file():
                raise AdapterError(f"The adapter {ref} is damaged: {ref.path / file} is missing. {_REPAIR}")
        size = (ref.path / WEIGHTS).stat().st_size
        if size != record["size"]:
            raise AdapterError(f"The adapter {ref} is damaged: its weights have {size} bytes, {record['size']} were stored. {_REPAIR}")
        return ref

    def _record(self, ref: AdapterRef) -> dict[str, Any]:
        path = ref.path / _RECORD
        if not path.is_file():
            raise AdapterError(f"The adapter {ref} is damaged: {path} is missing. {_REPAIR}")
        record: dict[str, Any] = _read_json(path, dict)
        if missing := {"sha256", "size", "lineage"} - set(record):
            raise AdapterError(f"The file {path} is damaged: it lacks {', '.join(sorted(missing))}. {_REPAIR}")
        return record

    def _append(self, name: str, history: list[Promotion], entry: Promotion) -> None:
        write_atomic(self._folder(name) / _SERVICE, json.dumps([dataclasses.asdict(each) for each in [*history, entry]], indent=1))

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with FileLock(self._folder(name) / ".lock"):
            yield


def _numbers(folder: Path) -> list[int]:
    """Version numbers in a folder, in order."""
    return sorted(int(match[1]) for path in folder.glob("v*") if (match := _FOLDER.fullmatch(path.name)) and path.is_dir())


def _read_json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"The file {path} cannot be read: {error}. {_REPAIR}") from error
    if not isinstance(value, kind):
        raise AdapterError(f"The file {path} is damaged: it holds a {type(value).__name__}, expected a {kind.__name__}. {_REPAIR}")
    return value


def _read(kind: type[_Value], record: Any, path: Path) -> _Value:
    try:
        return kind(**record)
    except TypeError as error:
        raise AdapterError(f"The file {path} is damaged or of another version of homefire: {error}. {_REPAIR}") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
