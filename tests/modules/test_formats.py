"""What all formats promise, over generated signatures and hostile values: answers come back, belong to the grammar and can be closed."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from homefire.errors import ConstraintError
from homefire.modules.chat_format import ChatFormat
from homefire.modules.format import Format
from homefire.modules.json_format import JsonFormat
from homefire.modules.signature import Signature, make_signature
from homefire.modules.xml_format import XmlFormat
from tests.modules.grammar_walk import accepts, walk
from tests.strategies import Case, cases

FORMATS = [JsonFormat(), ChatFormat(), XmlFormat()]
every_format = pytest.mark.parametrize("form", FORMATS, ids=["json", "chat", "xml"])
often = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@every_format
@often
@given(case=cases())
def test_what_is_answered_is_parsed_and_belongs_to_the_grammar(form: Format, case: Case) -> None:
    text = form.answer(case.signature, case.outputs)
    note(text)
    parsed = form.parse(case.signature, text)
    assert parsed == case.outputs
    assert {name: type(value) for name, value in parsed.items()} == {name: type(value) for name, value in case.outputs.items()}
    assert accepts(form.grammar(case.signature).gbnf, text)


@every_format
@often
@given(case=cases(), data=st.data())
def test_an_answer_cut_off_anywhere_is_closed_with_values_of_all_types(form: Format, case: Case, data: st.DataObject) -> None:
    text = form.answer(case.signature, case.outputs).encode()
    cut = text[: data.draw(st.integers(0, len(text) - 1))].decode(errors="replace")
    note(cut)
    parsed, kept = _closed(form, case.signature, cut, data.draw(st.integers(0, 2**32)))
    whole = len(form.partial(case.signature, cut)) - 1
    for name in list(parsed and case.outputs)[: max(0, whole)]:
        assert parsed[name] == case.outputs[name], "a value that was whole is kept"
    assert len(kept.encode()) > 0


@every_format
@often
@given(case=cases(), data=st.data())
def test_whatever_a_decoder_writes_is_parsed_or_closed(form: Format, case: Case, data: st.DataObject) -> None:
    source = random.Random(data.draw(st.integers(0, 2**32)))
    written, ended = walk(form.grammar(case.signature).gbnf, source, data.draw(st.integers(0, 300)))
    text = written.decode(errors="replace")
    note(text)
    if ended:
        _parsed(form, case.signature, text)
    else:
        _closed(form, case.signature, text, source.random())


@every_format
@often
@given(case=cases(), data=st.data())
def test_what_is_shown_of_a_text_only_grows(form: Format, case: Case, data: st.DataObject) -> None:
    text = form.answer(case.signature, case.outputs)
    before: dict[str, str] = {}
    for end in sorted([*data.draw(st.lists(st.integers(0, len(text)), max_size=12)), len(text)]):
        now = form.partial(case.signature, text[:end])
        assert list(now)[: len(before)] == list(before)
        for name, value in before.items():
            if case.signature.output_fields[name].type is str:
                assert now[name].startswith(value), (name, text[:end])
                assert case.outputs[name].startswith(now[name]), (name, text[:end])
        before = now
    for name, value in case.outputs.items():
        if case.signature.output_fields[name].type is str:
            assert before[name] == value


@every_format
@often
@given(case=cases())
def test_equal_signatures_have_equal_grammars_and_prompts(form: Format, case: Case) -> None:
    fields = list(case.signature.fields.values())
    same = make_signature(fields, case.signature.instructions)
    assert same is not case.signature
    assert form.grammar(same) == form.grammar(case.signature)
    assert type(form)().grammar(same) == form.grammar(case.signature)
    assert form.render(same, [], case.inputs) == form.render(case.signature, [], case.inputs)


@every_format
@often
@given(case=cases(), wild=st.text(max_size=30))
def test_a_prompt_can_be_encoded_and_demos_are_turns(form: Format, case: Case, wild: str) -> None:
    inputs = {name: wild if index == 0 else value for index, (name, value) in enumerate(case.inputs.items())}
    messages = form.render(case.signature, [{**case.inputs, **case.outputs}], inputs)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2].content == form.answer(case.signature, case.outputs)
    for message in messages:
        message.content.encode()


def _closed(form: Format, signature: type[Signature], cut: str, seed: float) -> tuple[dict[str, Any], str]:
    closing = form.close(signature, cut)
    note(repr(closing.prefill))
    text = closing.prefill
    if closing.grammar is not None:
        rest, ended = walk(closing.grammar.gbnf, random.Random(seed), closing.max_tokens)
        assert ended, f"{rest!r} is longer than {closing.max_tokens} tokens of a byte"
        assert closing.max_tokens <= form.reserve(signature)
        text += rest.decode(errors="replace")
    return _parsed(form, signature, text), closing.prefill


def _parsed(form: Format, signature: type[Signature], text: str) -> dict[str, Any]:
    """The values; a constraint that no grammar enforces may be broken."""
    note(text)
    try:
        parsed = form.parse(signature, text)
    except ConstraintError as error:
        assert error.problems
        return {}
    assert list(parsed) == list(signature.output_fields)
    return parsed
