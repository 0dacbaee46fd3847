"""Types as pydantic takes them on every Python: `typing.TypedDict` is read by pydantic only from Python 3.12 on.

Knows no field and no grammar; an annotation goes in and one of the same meaning comes out.
"""

from __future__ import annotations

import operator
import sys
import types
from contextlib import suppress
from dataclasses import is_dataclass
from functools import lru_cache, reduce
from typing import Annotated, Any, NotRequired, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

import typing_extensions


def portable(annotation: Any) -> Any:
    """The annotation with every `typing.TypedDict` in it replaced, where this Python needs that."""
    if sys.version_info >= (3, 12):
        return annotation
    return _replaced(annotation)


def _replaced(annotation: Any) -> Any:
    if is_typeddict(annotation) and not isinstance(annotation, type(_Newer)):
        return _twin(annotation)
    if _has_fields(annotation):
        _teach_fields(annotation)
        return annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = _replaced(arguments[0])
        return annotation if inner is arguments[0] else Annotated[(inner, *arguments[1:])]
    changed = tuple(_replaced(argument) if _may_hold(argument) else argument for argument in arguments)
    if all(new is old for new, old in zip(changed, arguments, strict=True)):
        return annotation
    if origin in (Union, types.UnionType):
        return reduce(operator.or_, changed)
    return origin[changed] if origin is not None else annotation


def _may_hold(argument: Any) -> bool:
    return is_typeddict(argument) or get_origin(argument) is not None or _has_fields(argument)


def _has_fields(annotation: Any) -> bool:
    """Whether it is a dataclass or a NamedTuple, whose fields are types."""
    return isinstance(annotation, type) and (is_dataclass(annotation) or (issubclass(annotation, tuple) and "_fields" in vars(annotation)))


def _teach_fields(cls: Any, around: tuple[Any, ...] = ()) -> None:
    """Tells pydantic how to read the TypedDicts in the fields of a class, which cannot be replaced: its values are to be of this class.

    Args:
        cls: The class.
        around: Classes whose fields are being looked at already; one may contain itself.
    """
    hints: dict[str, Any] = {}
    with suppress(NameError, TypeError):  # names of a local scope, which pydantic finds
        hints = get_type_hints(cls, include_extras=True)
    for hint in hints.values():
        for one in _inside(hint):
            if is_typeddict(one) and not isinstance(one, type(_Newer)):
                one.__get_pydantic_core_schema__ = classmethod(_schema)
            elif _has_fields(one) and one is not cls and one not in around:
                _teach_fields(one, (*around, cls))


def _schema(own: Any, source: Any, handler: Any) -> Any:
    return handler.generate_schema(_twin(own))


def _inside(annotation: Any) -> list[Any]:
    """An annotation and those that it holds."""
    return [annotation, *(one for argument in get_args(annotation) if _may_hold(argument) for one in _inside(argument))]


class _Newer(typing_extensions.TypedDict):
    """Tells the kind of class that pydantic takes from the other."""


@lru_cache(maxsize=256)
def _twin(cls: Any) -> Any:
    hints = get_type_hints(cls, include_extras=True)
    fields = {}
    for name, hint in hints.items():
        said = get_origin(hint) if get_origin(hint) in (Required, NotRequired) else None
        bare = hint if said is None else get_args(hint)[0]
        required = said is Required if said is not None else name in cls.__required_keys__
        wrapper = typing_extensions.Required if required else typing_extensions.NotRequired
        fields[name] = wrapper[_replaced(bare)]
    return typing_extensions.TypedDict(cls.__name__, fields)  # type: ignore[operator]
