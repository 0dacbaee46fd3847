"""The demo's rows: docstrings of the standard library, how they are split, and a user's own file with what can be wrong in it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homefire.demo_data import AREAS, LabelledText, Splits, counts, read_labelled, split, stdlib_docstrings
from homefire.demo_data import summary as summary_of
from homefire.errors import InputError
from homefire.labelled_text import distinct, normalised


@cache
def docstrings() -> list[LabelledText]:
    return stdlib_docstrings()


def assert_disjoint(splits: Splits) -> None:
    for key in (lambda row: row.family or row.member, lambda row: row.member, lambda row: normalised(row.text)):
        train, validation, test = ({key(row) for row in part} for part in (splits.train, splits.validation, splits.test))
        assert not train & validation
        assert not train & test
        assert not validation & test


def test_every_area_has_enough_docstrings() -> None:
    found = Counter(row.label for row in docstrings())
    assert found.keys() == AREAS.keys()
    assert min(found.values()) >= 60


def test_docstrings_are_those_of_the_running_python() -> None:
    by_member = {row.member: row for row in docstrings()}
    row = by_member["random.Random.shuffle"]
    assert (row.text, row.label, row.family) == ("Shuffle list x in place, and return None.", "math", "random.Random")
    assert by_member["shutil.copytree"].label == "files"
    assert not any(part.startswith("_") for row in docstrings() for part in row.member.split(".")[-1:])


def test_reading_the_library_runs_none_of_it() -> None:
    code = "import sys; from homefire.demo_data import stdlib_docstrings; stdlib_docstrings(); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'imaplib'" not in modules
    assert "'tarfile'" not in modules


def test_texts_are_clean_and_different() -> None:
    texts = [row.text for row in docstrings()]
    assert len({normalised(text) for text in texts}) == len(texts)
    assert all(text == " ".join(text.split()) and len(text.split()) >= 4 for text in texts)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return it.  Then more.", "Return it."),
        ("\n  Two lines\n  of it\n\n  Args: x", "Two lines of it"),
        ("Return x, e.g. y, at once. More.", "Return x, e.g. y, at once."),
        ("Is it? Yes.", "Is it?"),
        ("No full stop", "No full stop"),
    ],
)
def test_summary(docstring: str, expected: str) -> None:
    assert summary_of(docstring) == expected


@pytest.mark.parametrize("seed", range(5))
def test_split_of_docstrings(seed: int) -> None:
    splits = split(docstrings(), seed=seed, train=600, validation=80, test=240)
    assert_disjoint(splits)
    assert 580 <= len(splits.train) <= 600
    assert 60 <= len(splits.validation) <= 80
    assert 225 <= len(splits.test) <= 240
    for train, validation, test in counts(splits).values():
        assert 50 <= train <= 65
        assert validation <= 10
        assert 15 <= test <= 28


def test_split_is_fixed_by_its_seed() -> None:
    sizes = {"train": 100, "validation": 20, "test": 40}
    assert split(docstrings(), seed=3, **sizes) == split(docstrings(), seed=3, **sizes)
    assert split(docstrings(), seed=3, **sizes) != split(docstrings(), seed=4, **sizes)


@given(
    rows=st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=120),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 20), st.integers(1, 40)),
    seed=st.integers(0, 3),
)
def test_split_keeps_its_promises_on_any_rows(rows: list[tuple[int, str, int]], sizes: tuple[int, int, int], seed: int) -> None:
    labelled = [LabelledText(f"text {text}", label, f"{label}.{family}.{text}", f"{label}.{family}") for text, label, family in rows]
    train, validation, test = sizes
    try:
        splits = split(labelled, seed=seed, train=train, validation=validation, test=test)
    except InputError:
        assert max(Counter(row.label for row in distinct(labelled)).values(), default=0) < 3
        return
    assert_disjoint(splits)
    everything = [*splits.train, *splits.validation, *splits.test]
    assert len(everything) <= sum(sizes) + 3 * len(splits.labels)
    assert set(everything) <= set(labelled)


def test_scarce_rows_are_shared_in_proportion() -> None:
    rows = [
        LabelledText(f"{label} {index}", label, f"{label} {index}")
        for label, many in (("rare", 10), ("common", 900))
        for index in range(many)
    ]
    splits = split(rows, seed=0, train=600, validation=100, test=200)
    assert counts(splits) == {"common": (593, 99, 198), "rare": (7, 1, 2)}


def test_split_refuses() -> None:
    rows = [LabelledText("a", "x", "a"), LabelledText("b", "y", "b")]
    with pytest.raises(InputError, match="cannot be split"):
        split(rows, seed=0, train=1, validation=1, test=1)
    with pytest.raises(InputError, match="at least 1 row"):
        split(rows, seed=0, train=1, validation=0, test=1)


def test_a_python_without_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homefire.demo_data.sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(InputError, match="--data"):
        stdlib_docstrings()


def csv_text(rows: int = 40, *, header: str = "text,label", separator: str = ",") -> str:
    return header + "\n" + "".join(f"message number {index}{separator}{'spam' if index % 2 else 'ham'}\n" for index in range(rows))


def read(path: Path, content: str | bytes, *, columns: tuple[str, str] = ("text", "label")) -> list[LabelledText]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_labelled(path, *columns)


def test_csv_with_quotes_newlines_and_a_byte_order_mark(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "\ufeff" + csv_text() + '"He said ""no"",\nthen left", spam \n\n')
    assert len(rows) == 41
    assert rows[-1] == LabelledText('He said "no",\nthen left', "spam", 'he said "no", then left')


@pytest.mark.parametrize(("name", "separator"), [("a.tsv", "\t"), ("a.csv", ";"), ("a.csv", "\t"), ("A.CSV", ",")])
def test_other_separators(name: str, separator: str, tmp_path: Path) -> None:
    assert len(read(tmp_path / name, csv_text(header=f"text{separator}label", separator=separator))) == 40


def test_json_lines(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "message {index}", "label": {index % 2}, "more": []}}\n' for index in range(40))
    rows = read(tmp_path / "a.jsonl", lines)
    assert {row.label for row in rows} == {"0", "1"}


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text() + ",spam\nhello,\nMessage  Number 1,spam\nmessage number 2,spam\n", encoding="utf-8")
    told: list[str] = []
    rows = read_labelled(path, "text", "label", notice=told.append)
    assert len(rows) == 39
    assert "2 rows have no text or no label and were left out: lines 42, 43." in told[0]
    assert "3 rows repeat" in told[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; a header row with the columns 'text' and 'label'"),
        (csv_text(header="Texts,label"), r"no column 'text'. Did you mean 'Texts'\? Its columns are: Texts, label"),
        (csv_text(header="a,b"), "no column 'text'. Its columns are: a, b"),
        (csv_text(20) + '"never closed,spam\n' + csv_text(20), "row that begins in line 22: .*must be closed"),
        (csv_text(20) + "one, two, spam\n", "line 22: 3 fields, but the header has 2 .text, label."),
        (csv_text(5), "has 5 usable rows .*at least 30"),
        (csv_text(60).replace("ham", "spam"), "All 60 rows .* have the label 'spam'"),
        ("text,label\n" + "".join(f"t{index},{index}\n" for index in range(50)), "50 different labels in 50 rows.*Is 'label' the column"),
        ("text,label\n" + ",spam\n" * 40, "has 0 usable rows .*40 rows lack"),
        (csv_text().encode() + "caf\xe9,spam\n".encode("latin-1"), "not UTF-8: byte 0xe9 in line 42.*CSV UTF-8"),
        (csv_text().encode("utf-16"), "not UTF-8: byte 0xff in line 1"),
    ],
)
def test_broken_csv(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv", content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": "b"}\n{"text": ', "line 2: .*Each line must be one JSON object"),
        ('["a", "b"]\n', 'line 1: a JSON object is expected, such as {"text"'),
        ('{"txt": "a", "label": "b"}\n', r"no column 'text'. Did you mean 'txt'\?"),
        ("", "has 0 usable rows"),
    ],
)
def test_broken_json_lines(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.jsonl", content)


def test_missing_file_folder_and_equal_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        read_labelled(tmp_path / "none.csv", "text", "label")
    with pytest.raises(InputError, match="cannot be read"):
        read_labelled(tmp_path, "text", "label")
    with pytest.raises(InputError, match="two different columns"):
        read_labelled(tmp_path / "none.csv", "text", "text")


def test_a_user_file_splits_without_overlap(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", csv_text(200))
    splits = split(rows, seed=0, train=100, validation=20, test=50)
    assert_disjoint(splits)
    assert counts(splits) == {"ham": (50, 10, 25), "spam": (50, 10, 25)}


def test_docstring_of_nested_and_conditional_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = '''
        class Box:
            """A box that holds things."""
            def open(self):
                """Open the box and look."""
            def _hide(self):
                """This is nobody's business here."""
        try:
            if True:
                async def later():
                    """Do it after a while."""
        except ImportError:
            def later_still():
                """Do it after an error."""
        def short():
            """Too short."""
    '''
    (tmp_path / "heapq.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (tmp_path / "bisect.py").write_text("def broken(:", encoding="utf-8")
    monkeypatch.setattr("homefire.demo_data.sysconfig.get_path", lambda name: str(tmp_path))
    rows = stdlib_docstrings()
    assert [row.member for row in rows] == ["heapq.Box", "heapq.Box.open", "heapq.later", "heapq.later_still"]
    assert [row.family for row in rows] == ["heapq.Box", "heapq.Box", "heapq.later", "heapq.later_still"]
