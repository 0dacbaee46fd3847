"""The house rules that a program can check: sizes, docstrings, who imports what, links, names.

Knows the files only as text and syntax trees; the layers themselves are import-linter's business.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("engine", "modules", "optimizers", "retrieval", "configs")
SOURCES = sorted(path for folder in ("homefire", *FOLDERS) for path in (ROOT / folder).glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = sorted((ROOT / "scripts").rglob("*.py"))
ONE_OWNER_OR_TWO = {"vllm", "faiss", "trl", "peft", "openai", "outlines", "xgrammar", "sentence_transformers", "gguf"}
ONE_OWNER_OR_TWO |= {"mcp", "langchain_core", "pydantic_monty", "opentelemetry", "pandas", "pyarrow"}
HEAVY = ONE_OWNER_OR_TWO | {"torch", "transformers", "datasets", "accelerate"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

sources = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
everything = pytest.mark.parametrize("path", SOURCES + TESTS + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(node: ast.AST) -> list[tuple[int, str]]:
    """The line and the dotted module of each thing that an import statement names; nothing for any other node."""
    if isinstance(node, ast.Import):
        return [(node.lineno, alias.name) for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.lineno, "." * node.level + (node.module or ""))]
    return []


def is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def run(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """Every node that runs, without what only type checkers see; with `functions` false, only what runs when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if not functions and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and is_type_checking(child):
            yield from run(ast.Module(body=child.orelse, type_ignores=[]), functions=functions)
            continue
        yield child
        yield from run(child, functions=functions)


def test_the_sources_are_found() -> None:
    assert {path.parent.name for path in SOURCES} == {"homefire", *FOLDERS}


@everything
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{path.name} has {lines} lines, {MAX_FILE_LINES} are allowed: it holds more than one idea"


@everything
def test_functions_are_short(path: Path) -> None:
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    long = {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES}
    assert not long, f"longer than {MAX_FUNCTION_LINES} lines: {long}"


@sources
def test_a_module_says_what_it_is_and_what_it_must_not_know(path: Path) -> None:
    text = ast.get_docstring(tree(path)) or ""
    sentences = re.findall(r"[.:](?:\s|$)", text)
    assert len(sentences) >= 2 or len(text.splitlines()) >= 2, f"the docstring has fewer than two sentences: {text!r}"


@sources
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    names = [name for node in run(tree(path), functions=False) for _, name in imported(node)]
    found = [name for name in names if name.split(".")[0] in HEAVY]
    assert not found, f"imported when the module is: {found}; move it into the function that uses it"


def test_a_heavy_library_has_one_owner_or_two() -> None:
    owners: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in run(tree(path), functions=True):
            for _, name in imported(node):
                owners.setdefault(name.split(".")[0], set()).add(f"{path.parent.name}/{path.name}")
    crowded = {name: sorted(files) for name, files in owners.items() if name in ONE_OWNER_OR_TWO and len(files) > 2}
    assert not crowded, f"imported in more than two files: {crowded}"


@sources
def test_imports_name_the_defining_module(path: Path) -> None:
    """No relative imports, no `from homefire import X`, and nothing inside the folders imports a file of homefire/ but its errors."""
    allowed = re.compile(rf"homefire\.(errors|({'|'.join(FOLDERS)})(\..+)?)$")
    for node in ast.walk(tree(path)):
        for line, name in imported(node):
            assert not name.startswith("."), f"line {line}: relative import"
            assert name.split(".")[0] not in FOLDERS, f"line {line}: import homefire.{name}, not {name}"
            if path.parent.name != "homefire" and name.split(".")[0] == "homefire":
                assert allowed.match(name), f"line {line}: {name} is above this module"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_links_lead_to_the_folders(folder: str) -> None:
    link = ROOT / "homefire" / folder
    if link.is_file():
        pytest.skip("this checkout was made without symbolic links; the build does not need them")
    assert os.readlink(link) == f"../{folder}"
    assert link.resolve() == ROOT / folder


def test_importing_homefire_loads_nothing_heavy() -> None:
    code = "import sys, homefire; dir(homefire); print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    assert not (HEAVY | {"numpy", "pydantic", "rich", "typer", "yaml"}) & set(loaded)


def test_test_files_have_different_names() -> None:
    counts = Counter(path.name for path in TESTS)
    assert [name for name, count in counts.items() if count > 1] == []


def tracked_text() -> Iterator[tuple[str, str]]:
    """Path and text of the files that git knows or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            yield name, path.read_text(encoding="utf-8")


def test_no_file_names_a_machine_or_leaves_work_open() -> None:
    folders = "|".join(["work", "tmp", "opt", "root", "home"])
    patterns = {
        "a path of one machine": re.compile(rf"(?<![\w.$}}~/-])/({folders})/\w"),
        "a package index": re.compile(r"https?://[\w.-]*(pypi|pythonhosted|/simple)\b|-ind" + r"ex-url"),
        "unfinished work": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"),
    }
    found = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {what}: {match.group()}"
        for name, text in tracked_text()
        if name != "LICENSE"
        for what, pattern in patterns.items()
        for match in pattern.finditer(text)
    ]
    assert found == []
