"""The package as a user gets it: built, installed without extras, used from `/`. Run as: .venv/bin/python tests/wheel_smoke.py

Knows no test framework: a build can succeed and be empty, and only a place without the checkout shows it. Needs a package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "modules", "optimizers", "retrieval", "configs")

PARTS_OF_SERVERS = ("patient_http", "search_app")
"""Classes of uvicorn's and starlette's kind, which a server imports when it starts."""

IN_THE_EMPTY_ENVIRONMENT = f"""
import importlib, importlib.util, pkgutil, sys
import homefire
heavy = {{"torch", "vllm", "transformers", "faiss", "numpy", "pydantic", "rich", "typer", "yaml"}} & set(sys.modules)
assert not heavy, f"import homefire loads {{heavy}}"
for name in {FOLDERS!r}:
    assert importlib.util.find_spec(name) is None, f"the wheel installs a top-level package {{name}}"
    package = importlib.import_module(f"homefire.{{name}}")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in {PARTS_OF_SERVERS}:
            importlib.import_module(f"homefire.{{name}}.{{module.name}}")
for name in homefire.__all__:
    getattr(homefire, name)
"""

WITHOUT_EXTRAS = (
    "from homefire.retrieval.encoder import HashEncoder; HashEncoder().encode_passages(['a'])",
    "from homefire.engine.machine import detect; from homefire.engine.backend import choose_backend; choose_backend('auto', detect())",
)


def run(*command: str | Path, expected: int = 0) -> str:
    """Run from `/`, without what this checkout has put into the environment; returns what was printed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=Path("/").resolve(), env=clean, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        sys.exit(f"{' '.join(words)[:300]}\nleft with {done.returncode}, not {expected}:\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def build(folder: Path) -> Path:
    """The wheel, built from the source archive, so that both are known to be complete."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel


def check_content(wheel: Path) -> None:
    """Everything of the checkout is in the wheel, and nothing else."""
    inside = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {f"homefire/{path.name}" for path in [*(ROOT / "homefire").glob("*.py"), ROOT / "homefire" / "py.typed"]}
    own = [path for path in (ROOT / "homefire").glob("*/*.py") if path.parent.name not in FOLDERS]
    expected |= {f"homefire/{path.parent.name}/{path.name}" for path in own}
    for folder in FOLDERS:
        expected |= {f"homefire/{folder}/{path.name}" for kind in ("*.py", "*.yaml") for path in (ROOT / folder).glob(kind)}
    if inside != expected:
        sys.exit(f"the wheel lacks {sorted(expected - inside)} and has too much: {sorted(inside - expected)}")


def main() -> None:
    """Leaves with a message at the first thing that is wrong."""
    with tempfile.TemporaryDirectory(prefix="homefire-wheel-") as scratch:
        wheel = build(Path(scratch) / "dist")
        check_content(wheel)
        venv.create(Path(scratch) / "empty", with_pip=True)
        programs = Path(scratch) / "empty" / ("Scripts" if os.name == "nt" else "bin")
        run(programs / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "scripts" / "constraints.txt", wheel)
        run(programs / "python", "-c", IN_THE_EMPTY_ENVIRONMENT)
        for code in WITHOUT_EXTRAS:
            said = run(programs / "python", "-c", code, expected=1)
            if "MissingExtra" not in said or 'pip install "homefire[' not in said:
                sys.exit(f"{code!r} should say which extra to install, but says:\n{said}")
        for arguments in (["--help"], ["--version"], ["models", "list"]):
            run(programs / "homefire", *arguments)
        run(programs / "python", "-m", "homefire", "--help")
        run(programs / "homefire", "no-such-command", expected=2)
    print(f"{wheel.name}: complete, and works in an empty environment")


if __name__ == "__main__":
    main()
