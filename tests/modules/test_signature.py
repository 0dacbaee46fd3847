"""Signatures as classes and as strings."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel

from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import SignatureError
from homefire.modules.chat_format import ChatFormat
from homefire.modules.json_format import JsonFormat
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.modules.signature import InputField, OutputField, Signature
from homefire.modules.type_words import in_words
from homefire.modules.xml_format import XmlFormat


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
        ("a -> b: complex", "no grammar"),
        ("a -> b: print('x')", "calls nothing"),
        ("a -> b: Annotated[int, Field(default_factory=print)]", "calls nothing"),
        ("a -> b: Annotated[int, Field(ge=5, le=3)]", "there is none"),
        ("a -> class", "cannot be read"),
        ("a -> _b", "cannot be the name"),
    ],
)
def test_a_wrong_string_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(SignatureError, match=says):
        Signature(text)


def test_a_field_without_a_type_is_text_in_its_place() -> None:
    class Mixed(Signature):
        first = InputField(desc="comes first")
        second: list[str] = InputField()
        answer = OutputField()

    assert [(field.name, field.type) for field in Mixed.fields.values()] == [("first", str), ("second", list[str]), ("answer", str)]


def test_a_field_that_is_neither_is_refused() -> None:
    with pytest.raises(SignatureError, match="neither an input nor an output"):
        type("Wrong", (Signature,), {"__annotations__": {"a": str}, "a": "text", "__module__": __name__})


def test_an_endless_type_is_refused() -> None:
    with pytest.raises(SignatureError, match="without end"):
        Signature("a -> b: Endless", custom_types={"Endless": Endless})


class Endless(BaseModel):
    inner: Endless


def test_constraints_become_part_of_the_type() -> None:
    class Rated(Signature):
        text: str = InputField()
        stars: int = OutputField(desc="five is best", ge=1, le=5)
        title: str | None = OutputField(description="short", max_length=80)

    assert in_words(Rated.output_fields["stars"].type) == "whole number from 1 to 5"
    assert in_words(Rated.output_fields["title"].type) == "text of at most 80 characters or null"
    assert Rated.output_fields["title"].description == "short"
    assert Rated.append("more", OutputField(ge=1, pattern="a"), str | int) is not None


def test_equal_constraints_make_equal_fields() -> None:
    one, other = (Signature("a -> b").append("c", OutputField(max_digits=3, ge=low), Decimal) for low in (1, 1))
    assert one.equals(other)
    assert not one.equals(Signature("a -> b").append("c", OutputField(max_digits=3, ge=2), Decimal))
    assert Signature("a -> b: Annotated[int, Field(ge=1)]").equals(Signature("a -> b: Annotated[int, Field(ge=1)]"))


@pytest.mark.parametrize(
    ("field", "type_", "says"),
    [
        (OutputField(ge=5, le=3), int, "there is none"),
        (OutputField(ge=3), str, "does not apply"),
        (OutputField(max_length=3), int, "does not apply"),
        (OutputField(min_length=4, max_length=3), list[int], "nothing is"),
        (OutputField(pattern="^a$", min_length=3), str, "no text of its length does"),
        (OutputField(pattern="("), str, "cannot be used"),
        (OutputField(max_digits=2, decimal_places=0, ge=100), Decimal, "contradict"),
        (OutputField(multiple_of=7, ge=8, le=13), int, "there is none"),
        (OutputField(min_length=3), set[bool], "different items"),
    ],
)
def test_constraints_that_nothing_meets_are_refused(field: Any, type_: Any, says: str) -> None:
    with pytest.raises(SignatureError, match=f"The output 'c' .*{says}"):
        Signature("a -> b").append("c", field, type_)


def test_an_unknown_constraint_is_named() -> None:
    with pytest.raises(TypeError, match="OutputField\\(\\) takes no argument 'colour'"):
        OutputField(colour="red")  # type: ignore[call-arg]


def test_well_known_types_need_no_import() -> None:
    date = "a variable that is no type"
    made = Signature("a -> day: date, at: datetime, start: datetime.time, price: Decimal, key: UUID, count: PositiveInt")
    types = [field.type for field in made.output_fields.values()]
    assert types[:5] == [datetime.date, datetime.datetime, datetime.time, Decimal, UUID]
    assert in_words(types[5]) == "whole number of at least 1"
    assert date


def test_names_of_dict_methods_are_fine_as_fields() -> None:
    assert list(Signature("text -> items: list[str], keys: str, values: int").output_fields) == ["items", "keys", "values"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a -> a", "'a' stands twice"),
        ("a: strr -> b", "did you mean 'str'"),
        ("a -> b: List[itn]", "did you mean 'int'"),
        ("a -> b: Xyzzy", r"custom_types=\{'Xyzzy'"),
        ("a -> b: int = 5", r"InputField\(default=5\)"),
        ("*a -> b", "not a list of fields"),
        ("a, *, b -> c", "not a list of fields"),
        ("signature -> b", "such as signature_text"),
        ("demos -> b", "such as demos_text"),
        ("class -> b", "cannot be read"),
        ("a b -> c", "cannot be read"),
        ("a", "an arrow"),
        ("a -> b -> c", "an arrow"),
        ("a ->", "has no output"),
    ],
)
def test_a_string_that_is_no_signature_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(SignatureError, match=said):
        Signature(text)


def test_what_is_no_signature_at_all() -> None:
    for wrong in (5, None, int, ["a -> b"]):
        with pytest.raises(SignatureError, match=r"Signature\('question -> answer'\)"):
            Signature(wrong)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match=r"\(str, InputField\(\)\)"):
        Signature({"a": str})
    with pytest.raises(SignatureError, match="neither an input nor an output"):

        class NotCalled(Signature):
            a: str = InputField


def test_fields_may_be_called_like_methods_of_signatures() -> None:
    class Named(Signature):
        """Name it."""

        insert: str = InputField()
        fields: int = OutputField()
        instructions: str = OutputField()
        delete: str = OutputField()

    class Below(Named):
        more: str = InputField()

    assert list(Named.fields) == ["insert", "fields", "instructions", "delete"] and Named.instructions == "Name it."
    assert list(Named.delete("delete").fields) == ["insert", "fields", "instructions"]
    assert list(Below.fields) == ["insert", "more", "fields", "instructions", "delete"] and Below.instructions == "Name it."


def test_a_prefix_is_warned_of() -> None:
    for field in (InputField, OutputField):
        with pytest.warns(UserWarning, match=rf"{field.__name__}\(prefix='Question:'\) shows nothing") as warned:
            field(prefix="Question:", desc="what is asked")
        assert warned[0].filename == __file__


@pytest.mark.parametrize("form", [JsonFormat(), ChatFormat(), XmlFormat()])
def test_an_output_that_an_answer_leaves_out_is_its_default(form: Any) -> None:
    class Rate(Signature):
        text: str = InputField()
        stars: int = OutputField()
        why: str | None = OutputField(default=None)

    only = Rate.delete("why")
    lm = ScriptedLM([form.answer(only, {"stars": 4}), form.answer(Rate, {"stars": 4, "why": "so"})])
    with context(lm=lm, format=form):
        assert Predict(Rate)(text="Fine.").toDict() == {"stars": 4, "why": None}
        assert Predict(Rate)(text="Fine.").toDict() == {"stars": 4, "why": "so"}


def test_pairs_of_types_and_fields_are_a_signature() -> None:
    made = Signature({"n": (int, InputField(desc="a number")), "word": (str, OutputField(max_length=3))}, "Say it.")
    assert made.signature == "n -> word" and made.instructions == "Say it." and made.fields["n"].desc == "a number"
    assert made.fields["n"].annotation is int


def test_states_and_more_instructions() -> None:
    made = Signature("a, b: int -> c", "Do it.").append_instructions("  Twice.")
    assert made.instructions == "Do it.\n\nTwice."
    state = made.with_updated_fields("c", desc="the end").dump_state()
    again = Signature("a, b: int -> c").load_state(state)
    assert again.equals(made.with_updated_fields("c", desc="the end"))
    with pytest.raises(SignatureError, match="state has the fields a, b, c, but"):
        Signature("a -> c").load_state(state)
    assert Signature("a -> c").insert(0, "b", InputField(), None).fields["b"].type is str


def test_a_mapping_of_fields_without_types_is_of_texts() -> None:
    made = Signature({"text": InputField(), "stars": (int, OutputField())})
    assert [made.fields[name].annotation for name in ("text", "stars")] == [str, int]


def test_self_is_no_name_of_a_field() -> None:
    with pytest.raises(SignatureError, match="'self' cannot be the name"):
        Signature("self -> answer")
