"""`--where`: conditions in the user's words as a filter."""

from __future__ import annotations

from typing import Any

import pytest

from homefire.errors import InputError
from homefire.where_option import where_of


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        ([], None),
        (["lang=en"], {"lang": {"in": ["en"]}}),
        (["lang=en", "lang=de"], {"lang": {"in": ["en", "de"]}}),
        (["year=2020"], {"year": {"in": [2020, "2020"]}}),
        (["year >= 2020", "year<2024"], {"year": {"ge": 2020, "lt": 2024}}),
        (["source^=docs/", "lang!=en"], {"source": {"prefix": "docs/"}, "lang": {"ne": "en"}}),
        (["title=a=b <c>"], {"title": {"in": ["a=b <c>"]}}),
        (["done=true", "note="], {"done": {"in": [True, "true"]}, "note": {"in": [""]}}),
        (['tags=["a"]', "score=NaN"], {"tags": {"in": ['["a"]']}, "score": {"in": ["NaN"]}}),
    ],
)
def test_conditions(texts: list[str], where: dict[str, Any] | None) -> None:
    assert where_of(texts) == where


@pytest.mark.parametrize(("texts", "says"), [(["lang"], "'lang'"), (["=en"], "'=en'"), (["a>1", "a>2"], "twice"), ([""], "''")])
def test_what_is_no_condition(texts: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        where_of(texts)
