"""Deep copies of what a program holds, in which what cannot be copied is shared.

Knows no module; classes that share or copy themselves in their own way say so with `__deepcopy__`.
"""

from __future__ import annotations

import copy
from typing import Any


def copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy of a value, item by item where it is a list, tuple, set or dict; locks, files and connections are shared.

    Args:
        value: What to copy.
        memo: As of `copy.deepcopy`.
    """
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind is list:
        made: Any = []
        memo[id(value)] = made
        made += [copied(item, memo) for item in value]
        return made
    if kind is dict:
        made = {}
        memo[id(value)] = made
        made.update({copied(key, memo): copied(item, memo) for key, item in value.items()})
        return made
    if kind is tuple or kind is set or kind is frozenset:
        return kind(copied(item, memo) for item in value)
    return _whole(value, memo)


def _whole(value: Any, memo: dict[int, Any]) -> Any:
    """The copy of one object, or the object itself. A copy that fails half-way leaves nothing in the memo."""
    trial = dict(memo)
    try:
        made = copy.deepcopy(value, trial)
    except Exception:
        memo[id(value)] = value
        return value
    kept = trial.pop(id(trial), [])
    memo.update(trial)
    memo.setdefault(id(memo), []).extend(kept)
    return made
