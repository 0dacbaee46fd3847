"""Filters: what `where` may say about passages, as conditions of SQL.

Knows no index and no vector: a mapping of fields to wanted values in, one condition a field out.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from homefire.errors import InputError
from homefire.retrieval.document import Scalar

Where: TypeAlias = Mapping[str, Any]
"""As in `{"source": "a.md", "lang": ["en", "de"], "year": {"ge": 2020, "lt": 2024}}`: every field must be there and fit, a list by any of
its values."""

COLUMNS = ("id", "source", "position")
"""Fields that every passage has; the others are those of its metadata."""

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_COMPARISONS = ("eq", "ne", "in", "prefix", *_SIGNS)
_MOST = 10_000
"""Values in one list."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What one field must be."""

    field: str
    sql: str
    """With `{value}` where the field's value stands."""
    values: tuple[Any, ...]
    """For the question marks."""


def conditions(where: Where, known: Callable[[], Iterable[str]], stored: Callable[[str], Any]) -> list[Condition]:
    """Reads a filter.

    Args:
        where: The filter.
        known: Says which fields of metadata there are.
        stored: How a value stands in the table.

    Raises:
        InputError: it names a field that no passage has, or a value that cannot be compared.
    """
    if not isinstance(where, Mapping):
        raise InputError(f'where is {where!r}; expected a mapping, as in {{"source": "a.md"}}.')
    unknown = [field for field in where if field not in COLUMNS]
    if unknown:
        fields = sorted({*COLUMNS, *known()})
        for field in unknown:
            if field not in fields:
                near = difflib.get_close_matches(str(field), fields, 1)
                raise InputError(
                    f"where names the field {field!r}, which no passage of the index has"
                    f"{f'; did you mean {near[0]!r}?' if near else '.'} There are {', '.join(fields[:20])}."
                )
    return [one for field, wanted in where.items() for one in _conditions(field, wanted, stored)]


def _conditions(field: str, wanted: Any, stored: Callable[[str], Any]) -> list[Condition]:
    if not isinstance(wanted, Mapping):
        wanted = {"in" if _is_list(wanted) else "eq": wanted}
    if not wanted:
        raise InputError(f"where asks nothing of {field!r}; expected a value, a list of values, or a comparison such as {{'ge': 3}}.")
    found = []
    for sign, value in wanted.items():
        if sign not in _COMPARISONS:
            near = difflib.get_close_matches(str(sign), _COMPARISONS, 1)
            raise InputError(
                f"where compares {field!r} by {sign!r}{f'; did you mean {near[0]!r}?' if near else '.'} Expected {', '.join(_COMPARISONS)}."
            )
        if sign == "in":
            if not _is_list(value) or len(value) > _MOST:
                raise InputError(f"where wants {field!r} in {_short(value)}; expected a list of at most {_MOST} values.")
            values = tuple(_scalar(field, one, stored) for one in value)
            found.append(Condition(field, f"{{value}} IN ({','.join('?' * len(values))})", values))
        else:
            found.append(_comparison(field, sign, value, stored))
    return found


def _comparison(field: str, sign: str, value: Any, stored: Callable[[str], Any]) -> Condition:
    """Numbers are compared with numbers and texts with texts: in SQLite's order every text comes after every number."""
    plain = _scalar(field, value, stored)
    if sign == "eq":
        return Condition(field, "{value} = ?", (plain,))
    if sign == "ne":
        return Condition(field, "{value} <> ?", (plain,))
    if sign == "prefix":
        if not isinstance(plain, str):
            raise InputError(f"where wants {field!r} to begin with {_short(value)}; expected a text.")
        return Condition(field, "{value} >= ? AND {value} < ?", (plain, plain + chr(0x10FFFF)))
    bound = "{value} >= ''" if isinstance(plain, str) else "{value} < ''"
    return Condition(field, f"{{value}} {_SIGNS[sign]} ? AND {bound}", (plain,))


def _scalar(field: str, value: Any, stored: Callable[[str], Any]) -> Scalar | bytes:
    if isinstance(value, str):
        return stored(value)  # type: ignore[no-any-return]
    if not isinstance(value, bool | int | float) or value != value:
        raise InputError(f"where wants {field!r} to be {_short(value)}; expected a text, a number, true or false, or a list of these.")
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
