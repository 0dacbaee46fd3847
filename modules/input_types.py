"""Whether inputs have the types that a signature gives them.

Knows no model; a value of another type is no error, for it can still be shown.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from homefire.modules.portable_types import portable
from homefire.modules.signature import Signature

Fits = Callable[[Any], bool]

_STRICT = frozenset({str, int, float, bool})
"""Types that others are not silently taken for: `"3"` is no int."""


def mismatches(signature: type[Signature], inputs: Mapping[str, Any]) -> list[str]:
    """A sentence for each input that has not the type of its field."""
    checks = _checks(signature)
    return [_said(signature, name, value) for name, value in inputs.items() if name in checks and not checks[name](value)]


def _said(signature: type[Signature], name: str, value: Any) -> str:
    wanted = _name(signature.input_fields[name].type)
    kind = type(value).__name__
    shown = repr(value) if len(repr(value)) < 60 else repr(value)[:57] + "..."
    return f"The input {name!r} is {shown}, a {kind}; the signature says {wanted}. Write {name}: {_kind_with_items(value)} there."


def _kind_with_items(value: Any) -> str:
    """The type as a signature has it: `list[str]` for a list of texts."""
    kinds = {type(item).__name__ for item in value} if type(value) is list else set()
    return f"list[{kinds.pop()}]" if len(kinds) == 1 else type(value).__name__


def _name(annotation: Any) -> str:
    if get_origin(annotation) is Annotated:
        return f"{_name(get_args(annotation)[0])} with constraints"
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation).replace("typing.", "")


_known: weakref.WeakKeyDictionary[type[Signature], dict[str, Fits]] = weakref.WeakKeyDictionary()


def _checks(signature: type[Signature]) -> dict[str, Fits]:
    checks = _known.get(signature)
    if checks is None:
        checks = {name: _check(field.type) for name, field in signature.input_fields.items() if field.type is not Any}
        _known[signature] = checks
    return checks


def _check(annotation: Any) -> Fits:
    if annotation is str:
        return _is_text
    return partial(_fits, _Lazy(annotation))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


class _Lazy:
    """A type's validator, made for the first value that needs it."""

    __slots__ = ("_adapter", "annotation")

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self._adapter: TypeAdapter[Any] | None = None

    def valid(self, value: Any) -> bool:
        try:
            if self._adapter is None:
                self._adapter = _adapter(self.annotation)
            self._adapter.validate_python(value, strict=True if self.annotation in _STRICT else None)
        except ValidationError:
            return False
        except Exception:
            return True  # a type or a value that pydantic cannot look at
        return True


def _fits(lazy: _Lazy, value: Any) -> bool:
    return type(value) is lazy.annotation or lazy.valid(value)


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(portable(annotation))
    except PydanticUserError:
        return TypeAdapter(portable(annotation), config=ConfigDict(arbitrary_types_allowed=True))
