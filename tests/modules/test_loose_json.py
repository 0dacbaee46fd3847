"""JSON as models without a grammar write it is mended; JSON itself is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.modules.loose_json import read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from([None, 2]))
def test_what_is_json_is_read_as_json(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    assert read_json(text) == json.loads(text)


@given(
    st.dictionaries(st.text("ab"), JSON, max_size=3),
    st.sampled_from(["```json\n%s\n```", "Sure! Here it is:\n%s\nHope that helps.", "%s}"]),
)
def test_what_stands_around_an_object_is_left_out(value: dict[str, Any], around: str) -> None:
    assert read_json(around.replace("%s", json.dumps(value))) == value


@given(st.dictionaries(st.text("ab c'"), st.none() | st.booleans() | st.integers() | st.lists(st.text("ab c"), max_size=2), max_size=3))
def test_what_python_prints_is_read(value: dict[str, Any]) -> None:
    assert read_json(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "b": [1, 2,],}', {"a": 1, "b": [1, 2]}),
        ("{'a': 'it''s'}", {"a": "it''s"}),
        ("{a: yes, b: True, c: None}", {"a": "yes", "b": True, "c": None}),
        ('{"a": "he said "hi" there"}', {"a": 'he said "hi" there'}),
        ('{"a": "line\nbreak\\n\\u00e9\\ud83d\\ude00"}', {"a": "line\nbreak\né😀"}),
        ('{"a": "x\\u00e9",}', {"a": "xé"}),
        ('{\n  // why\n  "a": 1, /* and */ "b": .5 # so\n}', {"a": 1, "b": 0.5}),
        ("{\u201ca\u201d: \u201cb\u201d}", {"a": "b"}),
        ('I set {x} first: {"a": -1e3}', {"a": -1000.0}),
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
    ],
)
def test_mended(text: str, value: Any) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize("text", ["", "no", "{", '{"a": "open', '{"a": 1', "{:}", "[" * 100_000, '{"a": ' * 5000])
def test_what_cannot_be_mended_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)
