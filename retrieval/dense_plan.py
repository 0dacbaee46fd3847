"""How vectors are searched: what was chosen for their number and the machine, and what recall that has.

Knows no library: numbers in, a choice out.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["flat", "lists"]
"""`flat` compares a query with every vector. `lists` sorts the vectors into lists around centres, looks into the lists whose centres are
nearest, at one byte a number, and scores the best of what it finds exactly (inverted files: Jégou et al. 2011, section IV)."""

_FLAT_NUMBERS = 2**25
"""Numbers that one core compares with a query in some ten milliseconds."""
_RECALL = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class DensePlan:
    """How a dense part is to be searched."""

    kind: Kind
    lists: int = 0
    """Number of lists, for that kind."""
    recall: float = _RECALL
    """Share of the true ten best that a search should find: so many lists are looked into as reach it on a sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseReport:
    """How a dense part is searched."""

    kind: Kind
    rows: int
    dim: int
    lists: int = 0
    """Number of lists; 0 for `flat`."""
    probes: int = 0
    """Lists that a search looks into."""
    recall: float = 1.0
    """Share of the true ten best that a search finds, as measured on a sample when the part was written; `flat` is exact."""


def choose_plan(rows: int, dim: int, *, cores: int | None = None, gpu_bytes: int = 0) -> DensePlan:
    """`flat` while a query is answered in tens of milliseconds or the vectors fit on a GPU twice, then `lists`.

    There are about twice as many lists as the root of the number of rows.

    Args:
        rows: Number of vectors.
        dim: Numbers in each.
        cores: That a search may use; none looks.
        gpu_bytes: Memory free on a GPU that will search.
    """
    cores = cores or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    if rows * dim <= max(_FLAT_NUMBERS * cores, gpu_bytes // 8):
        return DensePlan(kind="flat")
    return DensePlan(kind="lists", lists=2 ** round(math.log2(2 * math.sqrt(rows))))
