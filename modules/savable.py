"""What a saved program consists of: objects with attributes that can be put back without a constructor.

Knows no predictor and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

from homefire.modules.copies import copied


class Savable:
    """Base of what programs are made of."""

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__setstate__({name: copied(value, memo) for name, value in self.__getstate__().items()})
        return made


M = TypeVar("M", bound=Savable)


def found_in(value: Any, path: str, kind: type[M]) -> Iterator[tuple[str, M]]:
    """The objects of a kind in an attribute, also in lists, tuples and dicts, each with its path."""
    match value:
        case Savable():
            if isinstance(value, kind):
                yield path, value
        case list() | tuple():
            for index, item in enumerate(value):
                yield from found_in(item, f"{path}[{index}]", kind)
        case dict():
            for key, item in value.items():
                yield from found_in(item, f"{path}[{key!r}]", kind)


def put_in_place(value: Any, new: Callable[[Savable], Any]) -> Any:
    """The attribute with other objects in the places of those that it has, as `new` says; lists and dicts stay the same ones."""
    match value:
        case Savable():
            return new(value)
        case list() if type(value) is list:
            value[:] = [put_in_place(item, new) for item in value]
        case dict() if type(value) is dict:
            value.update({key: put_in_place(item, new) for key, item in value.items()})
        case tuple() if type(value) is tuple:
            return tuple(put_in_place(item, new) for item in value)
    return value
