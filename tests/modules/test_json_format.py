"""The JSON format: `parse(answer(x)) == x`, answers belong to the grammar, and what was cut off is closed."""

from __future__ import annotations

import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from homefire.errors import ConstraintError, InputError, ParseError
from homefire.modules.json_format import JsonFormat
from homefire.modules.signature import InputField, OutputField, Signature

xgrammar = pytest.importorskip("xgrammar")
FORMAT = JsonFormat()


class Kind(enum.Enum):
    CAT = "cat"
    DOG = "dog"


class Owner(BaseModel):
    name: str
    pets: list[Kind]


class Report(Signature):
    """Describe the visit."""

    text: str = InputField()
    summary: str = OutputField(desc="one sentence")
    kind: Kind = OutputField()
    mood: Literal["calm", "wild"] | None = OutputField()
    tags: list[str] = OutputField()
    owner: Owner = OutputField()
    weight: float = OutputField()


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
OUTPUTS = st.fixed_dictionaries(
    {
        "summary": TEXT,
        "kind": st.sampled_from(Kind),
        "mood": st.sampled_from(["calm", "wild", None]),
        "tags": st.lists(TEXT, max_size=3),
        "owner": st.builds(Owner, name=TEXT, pets=st.lists(st.sampled_from(Kind), max_size=2)),
        "weight": st.floats(0, 1e6, allow_subnormal=False).map(lambda x: round(x, 6)),
    }
)


def accepted(gbnf: str, text: str) -> bool:
    from xgrammar.testing import _is_grammar_accept_string

    return bool(_is_grammar_accept_string(xgrammar.Grammar.from_ebnf(gbnf), text))


@settings(max_examples=60, deadline=None)
@given(OUTPUTS)
def test_what_is_answered_is_parsed_and_belongs_to_the_grammar(outputs: dict[str, Any]) -> None:
    text = FORMAT.answer(Report, outputs)
    assert FORMAT.parse(Report, text) == outputs
    assert accepted(FORMAT.grammar(Report).gbnf, text)


@settings(max_examples=80, deadline=None)
@given(OUTPUTS, st.floats(0, 1))
def test_an_answer_cut_off_anywhere_can_be_closed(outputs: dict[str, Any], share: float) -> None:
    text = FORMAT.answer(Report, outputs)
    cut = text[: int(share * (len(text) - 1))]
    closing = FORMAT.close(Report, cut)
    rest = "" if closing.grammar is None else _shortest_rest(closing.prefill)
    if closing.grammar is not None:
        assert accepted(closing.grammar.gbnf, rest), (closing.prefill, rest)
        assert len(rest.encode()) <= closing.max_tokens
    parsed = FORMAT.parse(Report, closing.prefill + rest)
    assert list(parsed) == list(Report.output_fields)
    for name in outputs:
        if f'"{name}": ' in cut and f', "{_next(name)}": ' in cut:
            assert parsed[name] == outputs[name], "a value that was whole is kept"


def _next(name: str) -> str:
    names = list(Report.output_fields)
    return names[names.index(name) + 1] if name != names[-1] else "none"


def _shortest_rest(prefill: str) -> str:
    """A short end for each field that is still missing."""
    short = {"summary": '""', "kind": '"cat"', "mood": "null", "tags": "[]", "owner": '{"name": "", "pets": []}', "weight": "1"}
    names = list(Report.output_fields)
    first = next(name for name in names if prefill.endswith(f'"{name}":'))
    missing = names[names.index(first) :]
    return " " + ", ".join(short[name] if name == first else f'"{name}": {short[name]}' for name in missing) + "}"


def test_a_text_that_is_cut_off_keeps_what_there_is() -> None:
    closing = FORMAT.close(Signature("a -> b: str, c: bool"), '{"b": "half a sent\\')
    assert closing.prefill == '{"b": "half a sent", "c":'
    assert closing.grammar is not None
    whole = FORMAT.close(Signature("a -> b: str"), '{"b": "half')
    assert (whole.prefill, whole.grammar) == ('{"b": "half"}', None)


def test_a_list_keeps_its_whole_items() -> None:
    closing = FORMAT.close(Signature("a -> b: list[int], c: bool"), '{"b": [1, 22, 3')
    assert json.loads(closing.prefill[len('{"b": ') : -len(', "c":')]) in ([1, 22], [1, 22, 3])


def test_half_a_choice_is_dropped() -> None:
    closing = FORMAT.close(Signature("a -> b: Literal['yes', 'no']"), '{"b": "ye')
    assert closing.prefill == '{"b":'


def test_demos_are_turns_and_inputs_come_last() -> None:
    signature = Signature("question, notes: list[str] -> answer: int", "Count.")
    messages = FORMAT.render(signature, [{"question": "a?", "notes": [], "answer": 1}], {"question": "b?", "notes": ["x", "y"]})
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == '{"answer": 1}'
    assert "[1] x\n[2] y" in messages[3].content
    assert "Count." in messages[0].content and "whole number" in messages[0].content


@pytest.mark.parametrize("text", ["", "no", "[]", '{"b": 1}', '{"c": "text"}', '{"c": 1.5}'])
def test_what_is_no_answer_is_a_parse_error_with_the_text(text: str) -> None:
    with pytest.raises(ParseError) as raised:
        FORMAT.parse(Signature("a -> c: int"), text)
    assert raised.value.text == text


def test_a_label_outside_its_choices_is_refused() -> None:
    with pytest.raises(InputError, match="'maybe' is no value of the output 'b', which is one of \"yes\", \"no\""):
        FORMAT.answer(Signature("a -> b: Literal['yes', 'no']"), {"b": "maybe"})


def test_equal_signatures_have_equal_grammars() -> None:
    assert FORMAT.grammar(Signature("a -> b: int")) == FORMAT.grammar(Signature("a -> b: int"))


@pytest.mark.parametrize(
    "text",
    [
        'Sure:\n```json\n{"c": [1, 2], "d": true}\n```',
        "{'c': [1, 2,], 'd': True}",
        '{"D": true, "C": [1, 2]}',
        '{"c": [1, 2], "d": true, "e": "more"}',
    ],
)
def test_what_servers_without_grammars_write_is_mended(text: str) -> None:
    assert FORMAT.parse(Signature("a -> c: list[int], d: bool"), text) == {"c": [1, 2], "d": True}


def test_all_broken_constraints_are_told() -> None:
    class Bounded(Signature):
        a: int = OutputField(ge=1, le=5)
        b: str = OutputField(max_length=3)

    with pytest.raises(ConstraintError) as raised:
        FORMAT.parse(Bounded, '{"a": 7, "b": "abcd"}')
    assert [problem.split(":")[0] for problem in raised.value.problems] == ["a", "b"]
    assert all(problem in FORMAT.correction(Bounded, raised.value.problems) for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("", {}),
        ('{"b', {}),
        ('{"b": ', {"b": ""}),
        ('{"b": "a\\n\\u00e', {"b": "a\n"}),
        ('{"b": "\\ud83d', {"b": ""}),
        ('{"b": "\\ud83d\\ude00", "c": [1', {"b": "😀", "c": "[1"}),
        ('{ "b" : "x" , "c": [1, 2]}', {"b": "x", "c": "[1, 2]"}),
    ],
)
def test_what_is_shown_has_no_escapes(text: str, texts: dict[str, str]) -> None:
    assert FORMAT.partial(Signature("a -> b: str, c: list[int]"), text) == texts


def test_choices_are_told_apart() -> None:
    signature = Signature("a -> b: str, c: Literal['x', 'x y', 12, 1], d: bool")
    outputs = {"b": "t", "c": 1, "d": True}
    for name in ("c", "d"):
        choices = FORMAT.choices(signature, name, outputs)
        assert choices is not None
        assert FORMAT.answer(signature, outputs).startswith(choices.prefill + choices.texts[choices.values.index(outputs[name])])
        assert not any(one != other and other.startswith(one) for one in choices.texts for other in choices.texts)
    assert FORMAT.choices(signature, "b", {}) is None


def test_the_schema_is_that_of_the_answers() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(FORMAT.grammar(Report).json_schema or "")
    assert list(schema["properties"]) == schema["required"] == list(Report.output_fields)
    assert schema["additionalProperties"] is schema["$defs"]["Owner"]["additionalProperties"] is False
    outputs = {"summary": "s", "kind": Kind.CAT, "mood": None, "tags": ["t"], "owner": Owner(name="n", pets=[Kind.DOG]), "weight": 1.5}
    jsonschema.validate(json.loads(FORMAT.answer(Report, outputs)), schema)
    for wrong in ({"kind": "cow"}, {"weight": "1"}, {"owner": {"name": "n"}}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(FORMAT.answer(Report, outputs)) | wrong, schema)


def test_inputs_of_any_kind_are_put_into_the_prompt() -> None:
    endless: list[Any] = []
    endless.append(endless)
    signature = Signature("a: list -> b")
    for value in ("\ud800", b"\xff", float("nan"), {Kind.CAT: {1}}, Owner(name="n", pets=[]), object, [1, "a"], None, 10**400):
        FORMAT.render(signature, [], {"a": value})[1].content.encode()
    with pytest.raises(InputError, match="'a'"):
        FORMAT.render(signature, [], {"a": endless})
