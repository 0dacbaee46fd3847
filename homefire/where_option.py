"""`--where FIELD=VALUE` as a filter of an index.

Knows no index: whether there is such a field is the index's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from homefire.errors import InputError

HELP = "Only passages whose metadata fit: lang=en, year>=2020, source^=docs/. Repeatable; one field twice with = means either."

_CONDITION = re.compile(r"(?P<field>[^=<>!^]+?)\s*(?P<sign>>=|<=|!=|\^=|=|>|<)\s*(?P<value>.*)", re.DOTALL)
_SIGNS = {">=": "ge", "<=": "le", ">": "gt", "<": "lt", "!=": "ne", "^=": "prefix"}


def where_of(texts: Sequence[str] | None) -> dict[str, Any] | None:
    """The filter that these conditions make together; None where there are none.

    Raises:
        InputError: a condition has no sign, or two of them cannot both be said of one field.
    """
    where: dict[str, Any] = {}
    for text in texts or ():
        found = _CONDITION.fullmatch(text.strip())
        if found is None:
            raise InputError(f"--where is {text!r}; expected FIELD=VALUE, or another of >= <= > < != ^= in the place of =.")
        field, sign, value = found.group("field", "sign", "value")
        _put(where, field, _SIGNS.get(sign, "in"), value)
    return where or None


def _put(where: dict[str, Any], field: str, sign: str, value: str) -> None:
    wanted = where.setdefault(field, {})
    if sign == "in":
        wanted["in"] = [*wanted.get("in", ()), *_either(value)]
    elif sign in wanted:
        raise InputError(f"--where says twice what {field!r} is compared with; give each comparison once.")
    else:
        wanted[sign] = value if sign == "prefix" else _plain(value)


def _either(value: str) -> list[str | int | float | bool]:
    """What the value may stand for: `2020` is a text in one file and a number in another."""
    plain = _plain(value)
    return [value] if isinstance(plain, str) else [plain, value]


def _plain(value: str) -> str | int | float | bool:
    try:
        found = json.loads(value, parse_constant=str)
    except ValueError:
        return value
    return found if isinstance(found, str | int | float | bool) else value
