"""Public data sets: every layout of folder, the cache, and what is said when the data is broken or not there.

The real data is read where the environment names it with HOMEFIRE_DATA; otherwise those tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

import homefire
from homefire.datasets import GSM8K, MATH, Banking77, HotPotQA
from homefire.errors import InputError, MissingExtra
from homefire.modules.example import Prediction
from homefire.optimizers.math_answers import gsm8k_metric, math_metric

REAL = Path(os.environ["HOMEFIRE_DATA"]) if "HOMEFIRE_DATA" in os.environ else None


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data but what a test lays down."""
    monkeypatch.delenv("HOMEFIRE_DATA", raising=False)
    if importlib.util.find_spec("datasets"):
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def gsm8k(folder: Path, count: int = 40) -> Path:
    rows = [
        {"question": f"What is {n} plus {n}?", "answer": f"{n} + {n} = <<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n:,}"} for n in range(count)
    ]
    write(folder / "train.jsonl", lines(rows))
    write(folder / "test.jsonl", lines(rows[:5]))
    return folder


def test_gsm8k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = GSM8K(gsm8k(tmp_path / "gsm8k"), train_size=None)
    assert (len(data.train), len(data.dev), len(data.test)) == (30, 10, 5)
    assert not {one.question for one in data.train} & {one.question for one in data.dev}
    one = next(one for one in data.train + data.dev if "39" in one.question)
    assert (one.answer, one.gold_reasoning) == ("78", "39 + 39 = <<39+39=78>>78")
    assert one.inputs().toDict() == {"question": "What is 39 plus 39?"}
    monkeypatch.setenv("HOMEFIRE_DATA", str(tmp_path))
    assert GSM8K(train_size=None).train == data.train
    assert GSM8K(train_seed=5, train_size=4).train != data.train[:4]
    assert homefire.datasets.GSM8K is GSM8K


def test_broken_rows_of_gsm8k_are_named(tmp_path: Path) -> None:
    folder = gsm8k(tmp_path)
    write(
        folder / "train.jsonl", lines([{"question": "q", "answer": "#### 3"}, {"question": "q", "answer": "three"}, {"answer": "#### 3"}])
    )
    with pytest.raises(
        InputError, match=r"2 rows are broken: .*line 2: its answer does not end in '#### '.*line 3: no 'question'. Take the data"
    ):
        GSM8K(folder).train  # noqa: B018
    write(folder / "test.jsonl", "")
    with pytest.raises(InputError, match="The test data of GSM8K has no rows"):
        GSM8K(folder).test  # noqa: B018


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("18", "18", True),
        (18, "18", True),
        (18.0, "18", True),
        ("She makes $18.00 a day.", "18", True),
        ("3 and 4 give\n#### 1,234", "1234", True),
        ("1,234 dollars", "1234", True),
        ("-3", "3", False),
        ("0.5", "1/2", False),
        ("eighteen", "18", False),
        ("", "18", False),
        (None, "18", False),
        (True, "1", False),
        (float("nan"), "18", False),
        ("2.50", "2.5", True),
        ("17 then 18.", "18", True),
        ("72%", "72", True),
    ],
)
def test_the_metric_of_gsm8k(said: Any, right: str, expected: bool) -> None:
    assert gsm8k_metric(homefire.Example(answer=right), Prediction(answer=said)) is expected


def problem(number: int, level: str = "Level 1") -> dict[str, str]:
    return {
        "problem": f"Find {number}.",
        "level": level,
        "type": "Counting & Probability",
        "solution": f"So $x = \\boxed{{\\frac{{{number}}}{{7}}}}$.",
    }


def test_math_in_folders_and_in_lines(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number in range(8):
            subject = "algebra" if number % 2 else "counting_and_probability"
            write(
                tmp_path / "files" / split / subject / f"{number}.json", json.dumps(problem(number) | {"type": subject.title()}, indent=4)
            )
        write(tmp_path / "lines" / f"{split}.jsonl", lines([problem(number) for number in range(8)]))
    data = MATH("algebra", tmp_path / "files")
    assert (len(data.train), len(data.dev), len(data.test)) == (3, 1, 4)
    one = next(one for one in data.test if one.question == "Find 3.")
    assert (one.answer, one.level, one.subject) == ("\\frac{3}{7}", "Level 1", "Algebra")
    assert data.metric(one, Prediction(answer="the answer is \\boxed{3/7}"))
    assert len(MATH(folder=tmp_path / "files").test) == 8
    assert len(MATH("counting_and_probability", tmp_path / "lines").test) == 8
    with pytest.raises(InputError, match="MATH has no subject 'algebr'; it has counting_and_probability"):
        MATH("algebr", tmp_path / "lines").train  # noqa: B018
    write(tmp_path / "lines" / "train.jsonl", lines([problem(1), problem(2) | {"solution": "It is 2."}]))
    with pytest.raises(InputError, match=r"1 row is broken: .*line 2: its solution has no \\boxed"):
        MATH(folder=tmp_path / "lines").train  # noqa: B018


@pytest.mark.parametrize(
    ("said", "right", "expected"),
    [
        ("\\dfrac{1}{2}", "\\frac12", True),
        ("1/2", "\\frac{1}{2}", True),
        ("0.5", "\\frac{1}{2}", True),
        (".5", "0.5", True),
        ("2/4", "\\frac{1}{2}", True),
        ("-\\frac{1}{2}", "-1/2", True),
        ("x = 5", "5", True),
        ("5 \\text{ cm}", "5", True),
        ("$1{,}000$", "1{,}000", True),
        ("1,000", "1000", True),
        ("90^\\circ", "90", True),
        ("50\\%", "50", True),
        ("\\left( 1, 2 \\right)", "(1,2)", True),
        ("(1,2)", "(2,1)", False),
        ("\\sqrt3", "\\sqrt{3}", True),
        ("\\text{(B)}", "(B)", True),
        ("\\text{even}", "even", True),
        ("\\boxed{7}", "7", True),
        ("7", "8", False),
        ("", "0", False),
        ("\\frac{1}{0}", "0", False),
    ],
)
def test_the_metric_of_math(said: str, right: str, expected: bool) -> None:
    assert math_metric(homefire.Example(answer=right), Prediction(answer=said)) is expected


def test_banking77(tmp_path: Path) -> None:
    rows = "".join(f'"How, {n}?",intent_{n % 4}\n' for n in range(40))
    write(tmp_path / "train.csv", "text,category\n" + rows)
    write(tmp_path / "test.csv", "text,category\nWhere?,intent_0\n")
    data = Banking77(tmp_path)
    assert data.labels == ["intent_0", "intent_1", "intent_2", "intent_3"]
    assert (len(data.train), len(data.dev), len(data.test)) == (30, 10, 1)
    assert data.test[0].inputs().toDict() == {"text": "Where?"} and data.test[0].label == "intent_0"
    write(tmp_path / "test.csv", "text,category\nWhere?,\n")
    with pytest.raises(InputError, match="line 2: it has no text, or its label is ''"):
        Banking77(tmp_path).test  # noqa: B018


def official(number: int, level: str) -> dict[str, Any]:
    facts = [["Town", 0], ["River", 1], ["Town", 2]]
    context = [["Town", ["A town.", "It is old."]], ["River", ["A river."]]]
    more = {"supporting_facts": facts, "context": context, "type": "bridge", "level": level, "_id": str(number)}
    return {"question": f"Question {number}?", "answer": f"answer {number}", **more}


def test_hotpotqa(tmp_path: Path) -> None:
    write(tmp_path / "hotpot_train_v1.1.json", [official(n, "hard" if n % 2 else "easy") for n in range(40)])
    write(tmp_path / "hotpot_dev_distractor_v1.json", [official(n, "hard") for n in range(100, 110)])
    data = HotPotQA(tmp_path, train_seed=1, train_size=6, eval_seed=2023, dev_size=5, test_size=0)
    assert (len(data.train), len(data.dev), len(data.test)) == (6, 5, 0)
    assert all(int(one.answer.split()[1]) % 2 for one in data.train + data.dev)
    assert data.train[0].toDict().keys() == {"question", "answer", "gold_titles"}
    assert data.train[0].gold_titles == ["Town", "River"] and data.train[0].inputs().keys() == {"question"}
    everything = HotPotQA(tmp_path, only_hard_examples=False, keep_details=True, unofficial_dev=False)
    assert (len(everything.train), len(everything.dev), len(everything.test)) == (30, 10, 10)
    one = everything.dev[0]
    assert one.context == [("Town", ["A town.", "It is old."]), ("River", ["A river."])] and one.level == "hard"
    assert HotPotQA(tmp_path, keep_details=False, test_size=1).test[0].toDict().keys() == {"question", "answer"}


def test_hotpotqa_in_columns_and_without_training_data(tmp_path: Path) -> None:
    columns = official(1, "hard") | {
        "supporting_facts": {"title": ["Town", "River"], "sent_id": [0, 1]},
        "context": {"title": ["Town"], "sentences": [["A town."]]},
    }
    write(tmp_path / "hotpot_dev_fullwiki_v1.json", [columns, {"question": "q", "answer": "a"}])
    data = HotPotQA(tmp_path, keep_details=True)
    first, second = sorted(data.test, key=len, reverse=True)
    assert (first.gold_titles, first.context) == (["Town", "River"], [("Town", ["A town."])])
    assert second.toDict() == {"question": "q", "answer": "a"}
    with pytest.raises(InputError, match=r"has no train data of HotPotQA, only dev. Put hotpot_train_v1.1.json"):
        data.train  # noqa: B018


@pytest.mark.parametrize("kind", [GSM8K, MATH, Banking77, HotPotQA])
def test_where_there_is_no_data_both_ways_are_named(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = kind.__name__
    both = rf"{name} is neither in a folder nor in the Hugging Face cache.*{name}\(folder='...'\).*HOMEFIRE_DATA.*{name}\(download=True\)"
    with pytest.raises(InputError, match=both):
        kind()
    monkeypatch.setenv("HOMEFIRE_DATA", str(tmp_path))
    with pytest.raises(InputError, match=both):
        kind()
    with pytest.raises(InputError, match=rf"There is no folder .*nothing. {name}\(folder=...\) takes a folder with"):
        kind(folder=tmp_path / "nothing")
    with pytest.raises(InputError, match=f"has no file of {name}; expected is one of"):
        kind(folder=tmp_path)


def test_without_the_package_the_cache_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"the package 'datasets', which reads it, is not installed\). Either give a folder"):
        GSM8K()
    with pytest.raises(MissingExtra, match=r"pip install \"homefire\[train\]\""):
        GSM8K(download=True)


def test_the_cache_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []

    def load(name: str, *arguments: str, split: str) -> Any:
        asked.append((name, *arguments, split))
        rows = [{"question": f"q{n}", "answer": f"r\n#### {n}"} for n in range(12)]
        return datasets.Dataset.from_list(rows[:1] if split.endswith("[:1]") else rows)

    monkeypatch.setattr(datasets, "load_dataset", load)
    data = GSM8K()
    assert (len(data.train), len(data.dev), len(data.test)) == (9, 3, 12)
    assert asked[0] == ("openai/gsm8k", "main", "test[:1]") and ("openai/gsm8k", "main", "train") in asked


@pytest.mark.skipif(REAL is None, reason="HOMEFIRE_DATA names no folder of data")
def test_the_real_data() -> None:
    assert REAL is not None
    gsm = GSM8K(REAL / "gsm8k", train_size=None, dev_size=None)
    assert (len(gsm.train) + len(gsm.dev), len(gsm.test)) == (7473, 1319)
    assert all(gsm8k_metric(one, Prediction(answer=f"{one.gold_reasoning}\n#### {one.answer}")) for one in gsm.test)
    bank = Banking77(REAL / "banking77")
    assert (len(bank.train) + len(bank.dev), len(bank.test), len(bank.labels)) == (10003, 3080, 77)
    hotpot = HotPotQA(REAL / "hotpotqa", unofficial_dev=False)
    assert len(hotpot.test) == 7405 and all(one.question and one.answer for one in hotpot.dev)
