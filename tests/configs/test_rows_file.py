"""Files of rows: JSON lists and single objects, with the line of everything that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homefire.configs.rows_file import read_table
from homefire.errors import InputError


def read(path: Path, content: str) -> tuple[tuple[int, dict[str, Any]], ...]:
    path.write_text(content, encoding="utf-8")
    return read_table(path, ["text"]).rows


def test_a_list_knows_the_line_of_each_object(tmp_path: Path) -> None:
    content = '\n[\n  {"text": "a\\nb", "n": [1,\n 2]},\n\n {"text": "c"}, {"text": "d"}\n]\n'
    expected = ((3, {"text": "a\nb", "n": [1, 2]}), (6, {"text": "c"}), (6, {"text": "d"}))
    assert read(tmp_path / "a.json", content) == expected
    assert read_table(tmp_path / "a.json", ["text"]).columns == ("text", "n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", []),
        (" [ ] ", []),
        ('{"text": "a"}', ["a"]),
        ('{\n"text":\n"a"\n}', ["a"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('\n\n{"text": "a"}\n\n{"text": "b"}', ["a", "b"]),
    ],
)
def test_all_forms_of_json(content: str, expected: list[str], tmp_path: Path) -> None:
    assert [row["text"] for _, row in read(tmp_path / "a.json", content)] == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"text": 1},\n 2]', "broken in line 2: a JSON object is expected, such as"),
        ('[{"text": 1}\n {"text": 2}]', "broken in line 2: Expecting ',' or ']'"),
        ('[\n{"text": 1},\n]', "broken in line 3: Expecting value"),
        ('[\n{"text": 1},\n', "broken in line 3"),
        ('[\n{"text": "a}\n]', "broken in line 2"),
        ("[", "broken in line 1"),
        ('{"text": 1}\n{"text":', "broken in line 2.*or the file one list of them"),
        ('"text"', "broken in line 1: a JSON object is expected"),
    ],
)
def test_what_is_broken_is_named_with_its_line(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.json", content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), st.one_of(st.text(), st.floats(allow_nan=False), st.lists(st.none())))),
    indent=st.sampled_from([None, 0, 3]),
)
def test_a_list_is_read_as_it_was_written(rows: list[dict[str, Any]], indent: int | None, tmp_path: Path) -> None:
    found = read(tmp_path / "a.json", json.dumps(rows, indent=indent, ensure_ascii=False))
    assert [row for _, row in found] == rows
