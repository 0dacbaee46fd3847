"""Python files to Markdown: the docstrings of the module, its classes and functions, each under its name and parameters.

Knows no file, and imports and executes nothing of what it reads.
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from homefire.retrieval.document import Document
from homefire.retrieval.source_file import SourceFile, Unreadable

_Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_DEEPEST = 6
"""Level of a Markdown heading."""


def read_python(file: SourceFile) -> Iterator[Document]:
    """The docstrings of a file as one document, whose lines know where they are in the file; none when there are no docstrings.

    Raises:
        Unreadable: the file is not Python as this version reads it.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(file.data).readline)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code that is read
            module = ast.parse(file.data.decode(encoding))
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise Unreadable(f"it is not Python as this version reads it ({line}{error.msg}).") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"it is not Python that can be read ({type(error).__name__}: {error}).") from error
    path = PurePosixPath(file.source)
    name = path.parent.name if path.stem == "__init__" and path.parent.name else path.stem
    lines = list(_described(module, f"# {name}", 1))
    if lines:
        numbers, texts = zip(*lines, strict=True)
        yield Document(file.source, "\n".join(texts), lines=numbers)


def _described(node: ast.Module | _Definition, head: str, depth: int) -> Iterator[tuple[int, str]]:
    """Line in the file and text of each line of the description of a definition and of what is defined in it."""
    inner = [line for one in _definitions(node.body) for line in _described(one, _head(one, depth + 1), depth + 1)]
    docstring = ast.get_docstring(node, clean=False) or ""
    if not docstring.strip() and not inner:
        return
    line = 1 if isinstance(node, ast.Module) else node.lineno
    yield line, head
    if docstring.strip():
        yield line, ""
        first = node.body[0].lineno + docstring[: len(docstring) - len(docstring.lstrip())].count("\n")
        for number, text in enumerate(inspect.cleandoc(docstring).split("\n"), start=first):
            yield number, f"    {text}".rstrip()  # so that what is underlined in it is no heading of the file
    yield line, ""
    yield from inner


def _definitions(body: Sequence[ast.stmt]) -> Iterator[_Definition]:
    """The classes and functions of a body, also those that are defined under a condition."""
    for node in body:
        if isinstance(node, _Definition):
            yield node
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from _definitions([one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)])


def _head(node: _Definition, depth: int) -> str:
    marks = "#" * min(depth, _DEEPEST)
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"{marks} class {node.name}({bases})" if bases else f"{marks} class {node.name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{marks} {node.name}({ast.unparse(node.args)}){returns}"
