"""The values of all outputs of an answer, written and read by name.

Knows no format: what stands around a value is its caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from homefire.errors import ConstraintError, InputError, ParseError
from homefire.modules.signature import REQUIRED, Field

T = TypeVar("T")


def written(name: str, write: Callable[[Any], Any], value: Any) -> Any:
    """What `write` makes of a value of the output.

    Raises:
        InputError: the value is none of the output's type.
    """
    try:
        return write(value)
    except InputError as error:
        wanted = str(error).removeprefix(f"{value!r} is not ")
        raise InputError(f"{value!r} is no value of the output {name!r}, which is {wanted}") from None


def check_all_given(fields: Iterable[str], given: Mapping[str, Any]) -> None:
    """Refuses outputs that lack one.

    Raises:
        InputError: they do.
    """
    if missing := [name for name in fields if name not in given]:
        raise InputError(f"The outputs {', '.join(missing)} are missing; got {', '.join(given) or 'none'}.")


def read_all(fields: Mapping[str, Field], texts: Mapping[str, T], read: Callable[[str, T], Any], whole: str) -> dict[str, Any]:
    """The typed value of every output.

    Args:
        fields: The outputs; one that has a default may be missing, which only servers without grammars leave it to be.
        texts: What stands for each of them.
        read: Makes a value of that.
        whole: The answer, for the errors.

    Raises:
        ConstraintError: all have their types, but some break constraints; it names all of them.
        ParseError: an output is missing, or not of its type.
    """
    if missing := [name for name, field in fields.items() if name not in texts and field.default is REQUIRED]:
        raise ParseError(f"The completion lacks the fields {', '.join(missing)}: {whole!r}", whole)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in fields.items():
        try:
            values[name] = read(name, texts[name]) if name in texts else field.default
        except ConstraintError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
        except ParseError as error:
            raise ParseError(f"The completion has a value of the wrong type for {name!r}. {error}", whole) from None
    if problems:
        raise ConstraintError(tuple(problems), whole)
    return values
