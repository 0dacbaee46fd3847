"""Signatures as classes and as strings."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel

from homefire.errors import SignatureError
from homefire.modules.signature import InputField, OutputField, Signature


class Review(Signature):
    """Say how the review sounds."""

    text: str = InputField(desc="what the guest wrote")
    mood: Literal["good", "bad"] = OutputField()
    stars: int = OutputField(desc="one to five")


def test_a_class_gives_fields_types_and_instructions() -> None:
    assert list(Review.input_fields) == ["text"]
    assert list(Review.output_fields) == ["mood", "stars"]
    assert Review.output_fields["stars"].type is int
    assert Review.output_fields["stars"].description == "one to five"
    assert Review.instructions == "Say how the review sounds."


def test_a_string_says_the_same() -> None:
    made = Signature("text -> mood: Literal['good', 'bad'], stars: int", "Say how the review sounds.")
    assert made.with_updated_fields("text", desc="what the guest wrote").with_updated_fields("stars", desc="one to five").equals(Review)


def test_types_of_the_callers_scope_are_found() -> None:
    class Local(BaseModel):
        value: int

    assert Signature("a -> b: list[Local]").output_fields["b"].type == list[Local]


def test_a_class_may_name_local_types() -> None:
    class Local(BaseModel):
        value: int

    class Uses(Signature):
        a: str = InputField()
        b: Local = OutputField()

    assert Uses.output_fields["b"].type is Local


def test_an_arrow_inside_a_choice_is_no_arrow() -> None:
    assert Signature("a -> b: Literal['x -> y', 'z']").output_fields["b"].type == Literal["x -> y", "z"]


def test_changes_make_new_signatures() -> None:
    longer = Review.prepend("reasoning", OutputField(), str).append("year", InputField(), int)
    assert list(longer.output_fields) == ["reasoning", "mood", "stars"]
    assert list(longer.input_fields) == ["text", "year"]
    assert list(longer.delete("mood").output_fields) == ["reasoning", "stars"]
    assert list(Review.output_fields) == ["mood", "stars"]
    assert longer.instructions == Review.instructions


def test_a_subclass_adds_fields() -> None:
    class More(Review):
        """Say more."""

        why: str = OutputField()

    assert list(More.output_fields) == ["mood", "stars", "why"]
    assert More.instructions == "Say more."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question", "is not a signature"),
        ("question ->", "no output"),
        ("a -> b -> c", "is not a signature"),
        ("a -> a", "twice"),
        ("a b -> c", "cannot be read"),
        ("a -> b: Unknown", "means nothing here"),
        ("a -> b: set[int]", "no grammar"),
        ("a -> b: print('x')", "calls nothing"),
        ("a -> class", "cannot be read"),
        ("a -> _b", "cannot be the name"),
    ],
)
def test_a_wrong_string_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(SignatureError, match=says):
        Signature(text)


def test_a_field_that_is_neither_is_refused() -> None:
    with pytest.raises(SignatureError, match="neither an input nor an output"):
        type("Wrong", (Signature,), {"__annotations__": {"a": str}, "a": "text", "__module__": __name__})


def test_an_endless_type_is_refused() -> None:
    with pytest.raises(SignatureError, match="without end"):
        Signature("a -> b: Endless", custom_types={"Endless": Endless})


class Endless(BaseModel):
    inner: Endless
