"""Types as pydantic takes them on every Python: `typing.TypedDict` is read by pydantic only from Python 3.12 on.

Knows no field and no grammar; an annotation goes in and one of the same meaning comes out.
"""

from __future__ import annotations

import operator
import sys
import types
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
    return is_typeddict(argument) or get_origin(argument) is not None


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
