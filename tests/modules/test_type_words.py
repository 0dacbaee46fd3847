"""Types in words, as a model reads them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from homefire.modules.type_words import in_words


class Task(BaseModel):
    title: str = Field(alias="name", max_length=40)
    parts: list[Task] = []


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (list[int] | None, "list of whole number or null"),
        (Literal["a", 1, None], 'one of "a", 1, null'),
        (Annotated[int, Field(ge=1, le=5)], "whole number from 1 to 5"),
        (Annotated[int, Field(gt=0, multiple_of=5)], "whole number of at least 1 that is a multiple of 5"),
        (Annotated[float, Field(gt=0, lt=1)], "number greater than 0 and less than 1"),
        (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], "decimal number with at most 6 digits and at most 2 decimal places"),
        (Annotated[str, Field(max_length=80)], "text of at most 80 characters"),
        (Annotated[str, Field(min_length=1)], "text of at least 1 character"),
        (Annotated[str, Field(pattern="^a+$")], "text that matches ^a+$"),
        (Annotated[date, Field(ge=date(2024, 1, 1))], "date (YYYY-MM-DD) not before 2024-01-01"),
        (Annotated[list[str], Field(min_length=2, max_length=3)], "list of 2 to 3 text"),
        (set[bool], "list of different true or false"),
        (tuple[int, str], "list [whole number, text]"),
        (dict[str, int], "object with values whole number"),
        (dict[date, int], "object with keys date (YYYY-MM-DD) and values whole number"),
        (Task, '{"name": text of at most 40 characters, "parts": list of the same again}'),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert in_words(annotation) == words
