"""majority: the answer that most of several predictions give.

Knows no model.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from homefire.errors import InputError
from homefire.modules.example import Completions, Example, Prediction

Normalize = Callable[[Any], Any]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def default_normalize(value: Any) -> Any:
    """A text in small letters without articles, punctuation and needless blanks, None where nothing is left; other values as they are."""
    if not isinstance(value, str):
        return value
    return " ".join(_ARTICLES.sub(" ", value.lower().translate(_PUNCTUATION)).split()) or None


def majority(
    prediction_or_completions: Prediction | Completions | Sequence[Prediction | Example | dict[str, Any]],
    normalize: Normalize | None = default_normalize,
    field: str | None = None,
) -> Prediction:
    """The first prediction whose value is the most frequent one; of values that are equally frequent the first.

    >>> majority([Prediction(answer="Paris"), Prediction(answer="Rome"), Prediction(answer="paris.")]).answer
    'Paris'

    Args:
        prediction_or_completions: Predictions, or one with several completions.
        normalize: Makes values alike that mean the same; None as a result does not count. None compares them as they are.
        field: Whose value counts; by default the last one.

    Raises:
        InputError: there are no predictions, or one lacks the field.
    """
    given = prediction_or_completions
    several = given.completions if isinstance(given, Prediction) else Completions(given)
    name = field or list(several[0])[-1]
    if lacking := [one for one in several if name not in one]:
        raise InputError(f"{lacking[0]!r} has no field {name!r}. Name one that all have: majority(predictions, field='...').")
    values = [one[name] if normalize is None else normalize(one[name]) for one in several]
    counted = Counter(_key(value) for value in values if value is not None)
    if not counted:
        return Prediction.from_completions([several[0]], several.signature)
    most = max(counted.values())
    place = next(index for index, value in enumerate(values) if value is not None and counted[_key(value)] == most)
    return Prediction.from_completions([several[place].copy()], several.signature)


def _key(value: Any) -> Hashable:
    """Something that is equal for equal values; `1` and `True` are different answers."""
    return (
        (type(value).__name__, value)
        if isinstance(value, Hashable) and not isinstance(value, tuple)
        else (type(value).__name__, repr(value))
    )
