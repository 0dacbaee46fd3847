"""The table of what is enforced and how: every row is tried, with random texts of its grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homefire.errors import ConstraintError, SignatureError
from homefire.modules.constraints import ENFORCEMENT, Row, enforcement_table
from homefire.modules.signature import OutputField, Signature
from homefire.modules.type_grammar import TypeGrammar
from homefire.modules.type_words import in_words
from homefire.modules.values import value_type
from tests.grammar_samples import Sampler

xgrammar = pytest.importorskip("xgrammar")
SAMPLES = 60


def rows(how: str) -> Any:
    return pytest.mark.parametrize("row", [row for row in ENFORCEMENT if row.how == how], ids=lambda row: row.what)


@rows("grammar")
def test_every_text_of_the_grammar_is_a_value(row: Row) -> None:
    kind, types = value_type(row.example), TypeGrammar()
    term, bare = types.value(row.example, "x"), types.bare(row.example, "x")
    sampler = Sampler(types.builder.rules)
    for _ in range(SAMPLES):
        text = sampler.text(term)
        kind.load(json.loads(text))
        if bare is not None:
            kind.from_bare(sampler.text(bare))


@rows("grammar")
def test_tight_texts_are_values_no_longer_than_said(row: Row) -> None:
    kind, types = value_type(row.example), TypeGrammar(tight=True)
    term, bare = types.value(row.example, "x"), types.bare(row.example, "x")
    sampler = Sampler(types.builder.rules)
    for _ in range(SAMPLES // 3):
        text = sampler.text(term)
        kind.load(json.loads(text))
        assert len(text.encode()) <= types.longest(row.example, "x")
        if bare is not None:
            text = sampler.text(bare)
            kind.from_bare(text)
            assert len(text.encode()) <= types.length(bare)


@rows("retry")
def test_what_breaks_a_constraint_can_be_written_and_is_named_when_read(row: Row) -> None:
    from xgrammar.testing import _is_grammar_accept_string

    types = TypeGrammar()
    gbnf = types.builder.build(types.value(row.example, "x")).gbnf
    assert _is_grammar_accept_string(xgrammar.Grammar.from_ebnf(gbnf), json.dumps(row.breaks))
    with pytest.raises(ConstraintError) as raised:
        value_type(row.example).load(row.breaks)
    named = {"even", "multiple", "match", "at most", "at least", "after", "greater than or equal"}
    assert len(raised.value.problems) == 1
    assert any(word in raised.value.problems[0] for word in named), raised.value.problems


@rows("refused")
def test_what_is_refused_names_the_field(row: Row) -> None:
    with pytest.raises(SignatureError, match=r"The output 'wanted'.*(Use|Mend|Leave)"):
        Signature("question -> answer").append("wanted", OutputField(), row.example)


@pytest.mark.parametrize("row", [row for row in ENFORCEMENT if row.how != "refused"], ids=lambda row: row.what)
def test_what_is_not_refused_makes_a_signature_and_has_words(row: Row) -> None:
    Signature("question -> answer").append("wanted", OutputField(), row.example)
    assert in_words(row.example)


def test_the_table_has_a_line_for_each_row() -> None:
    lines = enforcement_table().splitlines()
    assert len(lines) == len(ENFORCEMENT) + 2
    assert len({row.what for row in ENFORCEMENT}) == len(ENFORCEMENT)
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines)
