"""Reads signature strings and the names in annotations: `question, context: list[str] -> answer: float`.

The one place that looks at the caller's frames, to find the types that its names mean; knows no grammar and no model.
"""

from __future__ import annotations

import ast
import builtins
import datetime
import decimal
import enum
import inspect
import sys
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from homefire.errors import SignatureError

Role = Literal["input", "output"]


def parse_signature(text: str, scope: Mapping[str, Any]) -> list[tuple[str, Any, Role]]:
    """Name, type and role of every field of a signature string; a field without a type is a `str`.

    Args:
        text: `inputs -> outputs`.
        scope: What names in annotations mean, beside builtins and `typing`.

    Raises:
        SignatureError: not of the form `inputs -> outputs`, or a name that means nothing.
    """
    halves = _split_arrow(text)
    if len(halves) != 2:
        raise SignatureError(
            f"{text!r} is not a signature. Write inputs, an arrow and outputs, as in `question, context: list[str] -> answer: float`."
        )
    roles: tuple[Role, Role] = ("input", "output")
    return [
        (name, annotation, role) for role, half in zip(roles, halves, strict=True) for name, annotation in _parse_half(half, text, scope)
    ]


def resolve_annotations(cls: type) -> dict[str, Any]:
    """The annotations of a class body as types, also where they are strings that name what is local to the caller."""
    scope = {**caller_scope(), **vars(sys.modules[cls.__module__])} if cls.__module__ in sys.modules else caller_scope()
    own = inspect.get_annotations(cls)
    return {name: _evaluate(value, scope, f"{cls.__name__}.{name}") if isinstance(value, str) else value for name, value in own.items()}


def caller_scope() -> dict[str, Any]:
    """Names that are visible where homefire was called: the locals and globals of the nearest frame outside the package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("homefire."):
        frame = frame.f_back
    scope = dict(frame.f_globals)
    outer: list[Mapping[str, Any]] = []
    depth = 0
    while frame is not None and depth < 8:
        outer.append(frame.f_locals)
        if frame.f_back is None:
            break
        frame, depth = frame.f_back, depth + 1
    for names in reversed(outer):
        scope.update(names)
    return scope


def _split_arrow(text: str) -> list[str]:
    parts, depth, quote, start = [], 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth -= 1
        elif text.startswith("->", index) and depth == 0:
            parts.append(text[start:index])
            start = index + 2
    return [*parts, text[start:]]


def _parse_half(half: str, whole: str, scope: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Reads `a, b: list[str]` as the parameters of a function, which have the same form."""
    try:
        arguments = ast.parse(f"def _({half.strip()}): pass").body[0].args.args  # type: ignore[attr-defined]
    except SyntaxError:
        raise SignatureError(
            f"{half.strip()!r} in the signature {whole!r} cannot be read. Write names with types, as in `text, tags: list[str]`."
        ) from None
    return [
        (
            argument.arg,
            str if argument.annotation is None else _evaluate(ast.unparse(argument.annotation), scope, f"The field {argument.arg!r}"),
        )
        for argument in arguments
    ]


def _evaluate(annotation: str, scope: Mapping[str, Any], where: str) -> Any:
    known = {**vars(typing), "datetime": datetime, "decimal": decimal, "enum": enum, "uuid": uuid, **scope, **_plain_builtins()}
    try:
        tree = ast.parse(annotation.strip(), mode="eval")
        _refuse_calls(tree, annotation, where)
        return eval(compile(tree, "<annotation>", "eval"), {"__builtins__": {}}, known)
    except NameError as error:
        unknown = f"{error.name!r} means nothing here. Import it, or pass custom_types={{{error.name!r}: ...}}."
        raise SignatureError(f"{where} has the type {annotation!r}, and {unknown}") from None
    except (SyntaxError, TypeError, AttributeError) as error:
        raise SignatureError(f"{where} has the type {annotation!r}, which cannot be read: {error}.") from None


def _plain_builtins() -> dict[str, Any]:
    return {name: value for name, value in vars(builtins).items() if isinstance(value, type)} | {"None": None, "True": True, "False": False}


def _refuse_calls(tree: ast.AST, annotation: str, where: str) -> None:
    if any(isinstance(node, ast.Call | ast.Lambda | ast.Await | ast.NamedExpr) for node in ast.walk(tree)):
        raise SignatureError(f"{where} has the type {annotation!r}; a type calls nothing.")
