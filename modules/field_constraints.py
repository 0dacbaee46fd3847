"""The constraints that a field can be declared with, as what stands behind a type in `Annotated`.

Knows no signature. Equal constraints give equal metadata, so that equal fields have equal types.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict

import annotated_types
from pydantic import Field, StringConstraints
from pydantic.fields import FieldInfo


class Constraints(TypedDict, total=False):
    """What values must hold to, as in pydantic's `Field`."""

    gt: Any
    ge: Any
    lt: Any
    le: Any
    multiple_of: Any
    min_length: int
    max_length: int
    pattern: str
    max_digits: int
    decimal_places: int
    discriminator: str


def constraint_metadata(constraints: Mapping[str, Any]) -> tuple[Any, ...]:
    """The metadata of these constraints, in a fixed order."""
    plain = {
        "gt": annotated_types.Gt,
        "ge": annotated_types.Ge,
        "lt": annotated_types.Lt,
        "le": annotated_types.Le,
        "multiple_of": annotated_types.MultipleOf,
        "min_length": annotated_types.MinLen,
        "max_length": annotated_types.MaxLen,
    }
    found: list[Any] = [make(constraints[name]) for name, make in plain.items() if name in constraints]
    found += [StringConstraints(pattern=constraints["pattern"])] if "pattern" in constraints else []
    rest = {name: constraints[name] for name in ("max_digits", "decimal_places", "discriminator") if name in constraints}
    return (*found, plain_field(**rest)) if rest else tuple(found)


@lru_cache(maxsize=512, typed=True)
def plain_field(**constraints: Any) -> FieldInfo:
    """Pydantic's `Field(...)`, the same one for the same constraints: two of them are never equal."""
    made: FieldInfo = Field(**constraints)
    return made
