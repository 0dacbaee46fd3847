"""Reads signature strings and the names in annotations: `question, context: list[str] -> answer: float`.

The one place that looks at the caller's frames, to find the types that its names mean; knows no grammar and no model.
"""

from __future__ import annotations

import ast
import builtins
import datetime
import decimal
import difflib
import enum
import inspect
import sys
import types
import typing
import uuid
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from homefire.errors import SignatureError
from homefire.modules.field_constraints import plain_field

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
    return {
        name: _evaluate(value, scope, f"{cls.__name__}.{name}", is_code=True) if isinstance(value, str) else value
        for name, value in own.items()
    }


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
        parameters = ast.parse(f"def _({half.strip()}): pass").body[0].args  # type: ignore[attr-defined]
    except SyntaxError:
        raise SignatureError(
            f"{half.strip()!r} in the signature {whole!r} cannot be read. Write names with types, as in `text, tags: list[str]`."
        ) from None
    if parameters.defaults:
        default = ast.unparse(parameters.defaults[0])
        raise SignatureError(
            f"{half.strip()!r} in the signature {whole!r} has the default {default}, which a string cannot have. Write a class, with "
            f"InputField(default={default})."
        )
    if parameters.posonlyargs or parameters.kwonlyargs or parameters.vararg or parameters.kwarg:
        raise SignatureError(f"{half.strip()!r} in the signature {whole!r} is not a list of fields. Write `text, tags: list[str]`.")
    return [
        (
            argument.arg,
            str if argument.annotation is None else _evaluate(ast.unparse(argument.annotation), scope, f"The field {argument.arg!r}"),
        )
        for argument in parameters.args
    ]


def _evaluate(annotation: str, scope: Mapping[str, Any], where: str, *, is_code: bool = False) -> Any:
    """The type that an annotation names; `is_code` says that it was written in a class body, where it may call what it likes."""
    seen = scope if is_code else {name: value for name, value in scope.items() if _may_name(name, value)}
    known = {**vars(typing), **_WELL_KNOWN, **seen, **_plain_builtins()}
    try:
        tree = _ClassForModule(known).visit(ast.parse(annotation.strip(), mode="eval"))
        if not is_code:
            _refuse_calls(tree, annotation, where)
        builtin_names = vars(builtins) if is_code else {}
        return eval(compile(ast.fix_missing_locations(tree), "<annotation>", "eval"), {"__builtins__": builtin_names}, known)
    except NameError as error:
        types = [name for name, value in known.items() if isinstance(value, type) or typing.get_origin(value) is not None]
        near = difflib.get_close_matches(str(error.name), [*types, "Literal", "Optional", "Union", "Any"], n=1)
        meant = f"did you mean {near[0]!r}? Otherwise import" if near else "import"
        unknown = f"{error.name!r} means nothing here: {meant} it, or pass custom_types={{{error.name!r}: ...}}."
        raise SignatureError(f"{where} has the type {annotation!r}, and {unknown}") from None
    except (SyntaxError, TypeError, AttributeError) as error:
        raise SignatureError(f"{where} has the type {annotation!r}, which cannot be read: {error}.") from None


_WELL_KNOWN: dict[str, Any] = {
    "datetime": datetime,
    "decimal": decimal,
    "enum": enum,
    "uuid": uuid,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "Field": plain_field,
    "PositiveInt": pydantic.PositiveInt,
    "NonNegativeInt": pydantic.NonNegativeInt,
    "PositiveFloat": pydantic.PositiveFloat,
    "NonNegativeFloat": pydantic.NonNegativeFloat,
}
"""Names of the standard library and pydantic that need no import."""


def _may_name(name: str, value: Any) -> bool:
    """Whether a name of the caller's can be meant; a variable that happens to be called `date` or `time` is not."""
    return name not in _WELL_KNOWN or isinstance(value, type | types.ModuleType) or typing.get_origin(value) is not None


def _plain_builtins() -> dict[str, Any]:
    return {name: value for name, value in vars(builtins).items() if isinstance(value, type)} | {"None": None, "True": True, "False": False}


class _ClassForModule(ast.NodeTransformer):
    """Lets `datetime` mean the class where it stands alone, and the module in `datetime.date`."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._active = known.get("datetime") is datetime

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Attribute(node, "datetime", node.ctx) if self._active and node.id == "datetime" else node


def _refuse_calls(tree: ast.AST, annotation: str, where: str) -> None:
    """Refuses all code in a type but `Field(...)` with plain values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda | ast.Await | ast.NamedExpr) or (isinstance(node, ast.Call) and not _is_plain_field(node)):
            raise SignatureError(f"{where} has the type {annotation!r}; a type calls nothing but Field(...) with plain values.")


def _is_plain_field(call: ast.Call) -> bool:
    named = isinstance(call.func, ast.Name) and call.func.id == "Field"
    values = [keyword.value.operand if isinstance(keyword.value, ast.UnaryOp) else keyword.value for keyword in call.keywords]
    return named and not call.args and all(isinstance(value, ast.Constant) for value in values)
