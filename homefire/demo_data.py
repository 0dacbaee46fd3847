"""Labelled text that every Python has: the docstrings of its standard library.

Knows no model and no program: it returns rows; `labelled_text` splits them, `labelled_file` reads a file of the user's own.

The task is to name the area of the library that a docstring's summary comes from. The sources are parsed and never run. Modules whose
sources are not on the machine (some distributions ship parts of the library apart) are left out.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from homefire.errors import InputError
from homefire.labelled_file import read_labelled
from homefire.labelled_text import LabelledText, Splits, counts, distinct, split

__all__ = ["AREAS", "LabelledText", "Splits", "counts", "read_labelled", "split", "stdlib_docstrings"]

AREAS: Mapping[str, tuple[str, ...]] = {
    "archives": ("bz2", "gzip", "lzma", "tarfile", "zipapp", "zipfile", "_compression"),
    "collections": (
        "_collections_abc", "abc", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "graphlib",
        "heapq", "operator", "types", "typing", "weakref",
    ),
    "concurrency": ("asyncio", "concurrent", "multiprocessing", "queue", "sched", "selectors", "subprocess", "threading"),
    "dates": ("_pydatetime", "_strptime", "calendar", "datetime", "zoneinfo"),
    "email": ("email", "mailbox", "mailcap", "mimetypes", "quopri"),
    "files": (
        "_pyio", "filecmp", "fileinput", "fnmatch", "genericpath", "glob", "linecache", "ntpath", "os", "pathlib", "posixpath",
        "shutil", "stat", "tempfile",
    ),
    "markup": ("configparser", "csv", "html", "json", "plistlib", "tomllib", "xml"),
    "math": ("_pydecimal", "colorsys", "fractions", "numbers", "random", "statistics"),
    "network": (
        "ftplib", "http", "imaplib", "ipaddress", "nntplib", "poplib", "smtplib", "socket", "socketserver", "ssl", "telnetlib",
        "urllib", "wsgiref", "xmlrpc",
    ),
    "testing": ("bdb", "cProfile", "doctest", "pdb", "profile", "pstats", "timeit", "trace", "traceback", "tracemalloc", "unittest"),
}  # fmt: skip
"""Areas of the library after the chapters of its reference manual, each with its top-level modules."""

_IMPLEMENTS = {"_pydecimal": "decimal", "_pydatetime": "datetime", "_pyio": "io", "_collections_abc": "collections.abc"}
_FEWEST_WORDS = 4
_SENTENCE = re.compile(r"(.+?[.!?])(?=\s+[A-Z\"'(`]|$)")


def stdlib_docstrings() -> list[LabelledText]:
    """Summaries of the docstrings of the library's public functions, classes and methods, in a fixed order.

    Names of modules that occur in a summary stay: they are part of the text as its author wrote it.

    Raises:
        InputError: this Python comes without the sources of its library.
    """
    root = Path(sysconfig.get_path("stdlib"))
    rows = distinct(
        LabelledText(text, area, member, family)
        for area, modules in AREAS.items()
        for module in modules
        for path in _sources(root, module)
        for member, family, text in _summaries(root, path)
    )
    if not rows:
        raise InputError(
            f"The sources of Python's standard library were expected in {root}, and none of them is there. "
            "Run with a Python that ships them, or use your own data: homefire demo --data FILE.csv --text COLUMN --label COLUMN"
        )
    return rows


def _sources(root: Path, module: str) -> list[Path]:
    single = root / f"{module}.py"
    if single.is_file():
        return [single]
    package = root / module
    return sorted(path for path in package.rglob("*.py") if not {"test", "tests"} & set(path.relative_to(package).parts))


def _summaries(root: Path, path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    prefix = _IMPLEMENTS.get(module, module)
    for name, docstring in _documented(tree.body):
        text = summary(docstring)
        if len(text.split()) >= _FEWEST_WORDS:
            yield f"{prefix}.{name}", f"{prefix}.{name.partition('.')[0]}", text


def _documented(body: Sequence[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and docstring of all that is public, through `if` and `try`."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_"):
                continue
            docstring = ast.get_docstring(node)
            if docstring:
                yield prefix + node.name, docstring
            if isinstance(node, ast.ClassDef):
                yield from _documented(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If):
            yield from _documented([*node.body, *node.orelse], prefix)
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _documented([*node.body, *handlers, *node.orelse], prefix)


def summary(docstring: str) -> str:
    """The first sentence of the first paragraph, on one line."""
    paragraph = " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())
    sentence = _SENTENCE.match(paragraph)
    return sentence.group(1) if sentence else paragraph
