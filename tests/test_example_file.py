"""Examples from files: types of every kind, what is left out, and values that do not fit."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from homefire.configs.rows_file import read_table, write_rows
from homefire.errors import DiskError, InputError
from homefire.example_file import choices_of, read_examples
from homefire.modules.example import Example
from homefire.modules.signature import Field, Signature, make_signature


class Mood(enum.Enum):
    """An enum of texts."""

    GOOD = "good"
    BAD = "bad"


class Point(BaseModel):
    """A model."""

    x: int
    y: int = 0


def signature(**outputs: Any) -> type[Signature]:
    return make_signature([Field("text", str, "input"), *(Field(name, type_, "output") for name, type_ in outputs.items())])


def file(folder: Path, content: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def read(path: Path, wanted: type[Signature], *, needs_outputs: bool = True) -> list[Example]:
    return read_examples(path, wanted, needs_outputs=needs_outputs, notice=pytest.fail)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, " a  b ", "a  b"),
        (int, " 7 ", 7),
        (float, "1e3", 1000.0),
        (bool, "yes", True),
        (bool, "0", False),
        (Literal["ham", "spam"], "spam ", "spam"),
        (Literal[1, 2], "2", 2),
        (Mood, "bad", Mood.BAD),
        (int | None, "", None),
        (int | None, "4", 4),
        (list[str], '["a", "b"]', ["a", "b"]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Point, '{"x": 1}', Point(x=1)),
    ],
)
def test_text_becomes_the_type_of_its_field(annotation: Any, text: str, value: Any, tmp_path: Path) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    examples = read(file(tmp_path, f"more,answer,text\nx,{quoted},  hello \n"), signature(answer=annotation))
    assert examples == [Example(text="  hello ", answer=value)]
    assert type(examples[0].answer) is type(value)
    assert examples[0].inputs().toDict() == {"text": "  hello "}


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 7, 7),
        (float, 7, 7.0),
        (Mood, "good", Mood.GOOD),
        (list[Point], [{"x": 1, "y": 2}], [Point(x=1, y=2)]),
        (int | None, None, None),
    ],
)
def test_json_lines_keep_their_types(annotation: Any, value: Any, expected: Any, tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps({"text": "a", "answer": value, "more": [1]}), "a.jsonl")
    assert read(path, signature(answer=annotation)) == [Example(text="a", answer=expected)]


@pytest.mark.parametrize(("annotation", "value"), [(int, "7"), (str, 7), (int, True), (bool, 1), (Literal["1", "2"], 1)])
def test_json_lines_are_not_converted(annotation: Any, value: Any, tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps({"text": "a", "answer": value}), "a.jsonl")
    with pytest.raises(InputError, match=rf"line 1: answer is {value!r}; expected"):
        read(path, signature(answer=annotation))


def test_values_that_do_not_fit_are_named_together(tmp_path: Path) -> None:
    rows = "".join(f"t,ham,{index}\n" for index in range(3)) + "t,spm,3\nt,Ham,many\n" + "t,x,1\n" * 6
    path = file(tmp_path, "text,label,count\n" + rows)
    with pytest.raises(InputError) as caught:
        read(path, signature(label=Literal["ham", "spam"], count=int))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"8 rows do not fit the signature in {path}:"
    assert lines[1] == "  - line 5: label is 'spm'; expected one of 'ham', 'spam'; did you mean 'spam'?"
    assert lines[2].startswith(
        "  - line 6: label is 'Ham'; expected one of 'ham', 'spam'; did you mean 'ham'?; count is 'many'; expected a whole"
    )
    assert lines[3:6] == [f"  - line {line}: label is 'x'; expected one of 'ham', 'spam'" for line in (7, 8, 9)]
    assert lines[6:] == ["  - and 3 more rows", "Correct the values, or the types in the signature."]


def test_many_choices_are_shortened(tmp_path: Path) -> None:
    path = file(tmp_path, "text,label\na,name77\n")
    names = (*(f"name{index:02}" for index in range(69)), "name7")
    with pytest.raises(InputError, match=r"'name29' and 40 more; did you mean 'name7'\?"):
        read(path, signature(label=Literal[names]))


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (list[str], "a", r"expected list\[str\] as JSON \(Invalid JSON"),
        (Point, '"{""x"": ""one""}"', r"expected Point as JSON \(Input should be a valid integer"),
        (int | None, "one", r"expected a whole number or nothing"),
        (bool, "maybe", "expected true or false"),
        (int, "x" * 100, r"x{59}\.\.\.; expected"),
    ],
)
def test_what_was_expected(annotation: Any, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, f"text,answer\nhello,{text}\n"), signature(answer=annotation))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Text,label\na,b\n", r"has no column 'text'. Did you mean 'Text'\?.*The signature has the inputs text and the outputs label"),
        ("text,labels\na,b\n", r"has no column 'label'. Did you mean 'labels'\?"),
        ("text,label\n", "has no rows that can be used"),
        ("", "is empty"),
    ],
)
def test_missing_columns_and_rows(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, content), signature(label=str))
    if "labels" in content:
        assert read(file(tmp_path, content), signature(label=str), needs_outputs=False) == [Example(text="a")]


def test_empty_json_lines(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty; rows with text and label are expected"):
        read(file(tmp_path, "\n", "a.jsonl"), signature(label=str))


def test_one_output_is_enough(tmp_path: Path) -> None:
    path = file(tmp_path, "text,label\na,b\n")
    assert read(path, signature(reason=str, label=str)) == [Example(text="a", label="b")]


def test_rows_without_values_are_left_out_and_told(tmp_path: Path) -> None:
    path = file(tmp_path, "text,label\na,b\n,b\nc,\nd,e\n")
    told: list[str] = []
    assert len(read_examples(path, signature(label=str), needs_outputs=True, notice=told.append)) == 2
    assert told == [f"{path}: 2 rows lack their inputs or an expected output and were left out: lines 3, 4."]
    unlabelled = read_examples(path, signature(label=str), needs_outputs=False, notice=told.append)
    assert [set(example) for example in unlabelled] == [{"text", "label"}, {"text"}, {"text", "label"}]


def test_a_type_that_no_file_can_hold(tmp_path: Path) -> None:
    class Odd:
        pass

    wanted = make_signature([Field("text", Odd, "input"), Field("label", str, "output")])
    with pytest.raises(InputError, match="cannot be read from a file"):
        read(file(tmp_path, "text,label\na,b\n"), wanted)


@pytest.mark.parametrize(
    ("name", "content", "annotation", "expected"),
    [
        ("a.csv", "label\nb\na \nb\n\n", str, ("a", "b")),
        ("a.csv", "label\n10\n9\n", int, (9, 10)),
        ("a.jsonl", '{"label": 2}\n{"label": "b"}\n{"label": 1}\n{"label": null}\n', str, (1, 2, "b")),
    ],
)
def test_choices(name: str, content: str, annotation: Any, expected: Any, tmp_path: Path) -> None:
    assert choices_of([read_table(file(tmp_path, content, name), ["label"])], Field("label", annotation, "output")) == expected


@pytest.mark.parametrize(
    ("name", "content", "annotation", "message"),
    [
        ("a.csv", "label\na\na\n", str, "holds only the value 'a'; choices need at least two"),
        ("a.csv", "label,b\n,c\n", str, "holds no value"),
        ("a.csv", "label\n" + "\n".join(map(str, range(201))), str, "holds 201 different values, more than 200"),
        ("a.csv", "labels\na\n", str, r"no column 'label'. Did you mean 'labels'\?"),
        ("a.csv", "label\n1\nx\n", int, "line 3: label is 'x'; expected a whole number"),
        ("a.jsonl", '{"label": ["a"]}', str, r"line 1: label is \['a'\]; a choice is a text"),
    ],
)
def test_choices_are_refused(name: str, content: str, annotation: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        choices_of([read_table(file(tmp_path, content, name), ["label"])], Field("label", annotation, "output"))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\ufeff"), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None)
@example(rows=[{"text": "a\rb", "count": 0, "tags": []}])
@given(rows=st.lists(st.fixed_dictionaries({"text": texts, "count": st.integers(), "tags": st.lists(texts, max_size=3)}), min_size=1))
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_written_is_read_again(name: str, rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / name
    write_rows(path, rows)
    assert read(path, signature(count=int, tags=list[str])) == [Example(row) for row in rows]


def test_where_rows_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in .csv, .json, .jsonl"):
        write_rows(tmp_path / "a.xlsx", [])
    (tmp_path / "b.csv").mkdir()
    with pytest.raises(DiskError, match="that is a folder"):
        write_rows(tmp_path / "b.csv", [])
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="cannot be written"):
        write_rows(tmp_path / "file" / "c.csv", [])
    write_rows(tmp_path / "d.json", [{"a": "é", "b": None}])
    assert json.loads((tmp_path / "d.json").read_text(encoding="utf-8")) == [{"a": "é", "b": None}]
