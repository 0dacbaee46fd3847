"""What users install and how: public names, extras, constraints.

Knows the package only from outside, as pip and a type checker see it; `wheel_smoke.py` tries the built wheel.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import homefire

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "modules", "optimizers", "retrieval", "configs")
SOURCES = sorted(path for folder in ("homefire", *FOLDERS) for path in (ROOT / folder).glob("*.py"))
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PYPROJECT["project"]["optional-dependencies"]
CONSTRAINTS = [line for line in (ROOT / "scripts" / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", homefire.__all__)
def test_a_public_name_leads_somewhere(name: str) -> None:
    assert getattr(homefire, name) is not None
    assert name in dir(homefire)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'homefire' has no attribute 'Predictt'"):
        getattr(homefire, "Predictt")  # noqa: B009


def test_type_checkers_see_the_names_that_programs_see() -> None:
    tree = ast.parse((ROOT / "homefire" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("homefire.")]
    seen = {alias.asname: node.module for node in imports for alias in node.names}
    assert seen == homefire._DEFINED_IN


def test_every_folder_is_a_package_of_the_wheel() -> None:
    inner = {path.parent.name for path in (ROOT / "homefire").glob("*/__init__.py")} - set(FOLDERS)
    packages = {"homefire", *(f"homefire.{folder}" for folder in (*FOLDERS, *inner))}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages
    assert set(PYPROJECT["tool"]["setuptools"]["package-dir"]) == packages


def test_errors_name_extras_that_exist() -> None:
    named = {
        extra
        for path in SOURCES
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "MissingExtra"
        for constant in ast.walk(call.args[1])
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str) and constant.value != "cuda"
        for extra in constant.value.split(",")
    }
    assert named and named <= set(EXTRAS)


def test_the_base_install_is_small() -> None:
    base = {Requirement(line).name.lower() for line in PYPROJECT["project"]["dependencies"]}
    with_pydantic = {"annotated-types", "typing-extensions"}  # it needs them too, so they cost nothing
    assert base <= {"filelock", "packaging", "psutil", "pydantic", "pyyaml", "rich", "typer"} | with_pydantic


def test_constraints_are_sorted_pins_without_hosts() -> None:
    assert sorted(CONSTRAINTS, key=str.lower) == CONSTRAINTS
    assert [line for line in CONSTRAINTS if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []


def test_constraints_pin_everything_that_is_asked_for_to_a_version_it_allows() -> None:
    pins = {_plain(name): version for name, version in (line.split("==") for line in CONSTRAINTS)}
    asked = [Requirement(line) for line in [*PYPROJECT["project"]["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]]
    wrong = [str(one) for one in asked if one.name != "homefire" and not one.specifier.contains(pins.get(_plain(one.name), "0"))]
    assert wrong == []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
