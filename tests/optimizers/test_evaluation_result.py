"""EvaluationResult: what it says, what it writes, and that what it writes is read back."""

from __future__ import annotations

import builtins
import csv
import json
import sys
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from homefire.errors import DiskError, InputError, MissingExtra
from homefire.modules.example import Example, Prediction
from homefire.optimizers.evaluation_result import EvaluationResult
from homefire.optimizers.evaluation_row import Row
from homefire.optimizers.evaluation_table import as_text


class Place(BaseModel):
    town: str


EVIL = "<script>alert('x')</script>&\"'"


def row(number: int, score: float, **changes: Any) -> Row:
    example = Example(question=f"What is {number}?", answer=str(number)).with_inputs("question")
    prediction = Prediction(answer=f"it is {number}", place=Place(town="Øls"), day=date(2026, 1, 2))
    return Row(**{"example": example, "prediction": prediction, "score": score, "seconds": 0.5, "prompt_tokens": 7, **changes})


def failed(number: int) -> Row:
    return row(number, 0.0, prediction=None, error=f"ParseError: {EVIL}", traceback=f"Traceback\n  in {EVIL}", invalid=True)


def result(*rows: Row) -> EvaluationResult:
    return EvaluationResult(rows=rows, seconds=2.5, metric="judge", program="Predict")


def test_json_is_read_back(tmp_path: Path) -> None:
    made = result(row(1, 1.0), failed(2), row(3, 0.25))
    path = made.to_json(tmp_path / "result.json")
    loaded = EvaluationResult.load(path)
    assert (loaded.score, loaded.interval, loaded.seconds, loaded.metric) == (made.score, made.interval, 2.5, "judge")
    assert [one.example.inputs() for one in loaded.rows] == [one.example.inputs() for one in made.rows]
    assert loaded.rows[0].prediction == Prediction(answer="it is 1", place={"town": "Øls"}, day="2026-01-02")
    assert (loaded.rows[1].error, loaded.rows[1].invalid, loaded.rows[1].prediction) == (made.rows[1].error, True, None)
    assert loaded.to_json(tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert json.loads(path.read_text(encoding="utf-8"))["score"] == 41.67


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"homefire_evaluation": 1, "rows": [{}]}', "\x00"])
def test_what_is_no_evaluation_is_not_read(content: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"is no evaluation. Expected is a file that result.to_json"):
        EvaluationResult.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        EvaluationResult.load(tmp_path / "nothing.json")
    path.write_text('{"homefire_evaluation": 2, "rows": []}', encoding="utf-8")
    with pytest.raises(InputError, match="was written by a newer homefire"):
        EvaluationResult.load(path)


def test_csv_has_a_line_for_every_row(tmp_path: Path) -> None:
    path = result(row(1, 1.0), failed(2)).to_csv(tmp_path / "rows.csv")
    with path.open(encoding="utf-8", newline="") as file:
        first, second = list(csv.DictReader(file))
    assert first["question"] == "What is 1?" and first["predicted_answer"] == "it is 1" and first["score"] == "1.0"
    assert json.loads(first["predicted_place"]) == {"town": "Øls"}
    assert (second["predicted_answer"], second["error"]) == ("", f"ParseError: {EVIL}")


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for write in (result(row(1, 1.0)).to_csv, result(row(1, 1.0)).to_json, result(row(1, 1.0)).to_html):
        with pytest.raises(DiskError):
            write(tmp_path / "file" / "below.json")


def test_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    frame = result(row(1, 1.0), failed(2)).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["score"]) == [1.0, 0.0] and frame["predicted_answer"].isna().tolist() == [False, True]
    monkeypatch.delitem(sys.modules, "pandas")
    real = builtins.__import__
    monkeypatch.setattr("homefire.optimizers.evaluation_result.import_module", lambda name: real("no_such_package_as_" + name))
    with pytest.raises(MissingExtra, match=r"pip install \"homefire\[data\]\""):
        result(row(1, 1.0)).to_pandas()


def test_the_table_shows_failures_first_and_shortens() -> None:
    long = row(9, 0.5, prediction=Prediction(answer="word " * 100))
    shown = as_text(result(row(1, 1.0), row(2, 0.5), failed(3), long, row(5, 1.0)).table(3))
    assert "judge · 60.0%" in shown.replace("\n", " ") and "1 failed" in shown
    assert "failed" in shown and "ParseError" in shown and "2 more rows" in shown
    assert "What is 1?" not in shown and "…" in shown and shown.count("word") < 30
    assert "[red]" not in as_text(result(row(1, 0.0, prediction=Prediction(answer="[bold]x[/nope]"))).table())


def test_the_table_of_nothing_is_a_table() -> None:
    assert "no examples" in " ".join(as_text(result().table()).split())


class Elements(HTMLParser):
    """Collects what a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def page(*rows: Row, tmp_path: Path) -> Elements:
    return Elements(result(*rows).to_html(tmp_path / "page.html").read_text(encoding="utf-8"))


def test_the_page_shows_errors_first_and_escapes(tmp_path: Path) -> None:
    evil = row(3, 0.0, example=Example(question=EVIL, answer=EVIL).with_inputs("question"), prediction=Prediction(answer=EVIL))
    found = page(row(1, 1.0), failed(2), evil, row(4, 1.0), tmp_path=tmp_path)
    assert [tag for tag, _ in found.tags].count("script") == 1
    kinds = [attributes["class"] for tag, attributes in found.tags if tag == "details" and attributes.get("class")]
    assert kinds == ["failed", "low", "high", "high"]
    shown = " ".join(found.text)
    assert shown.count(EVIL) >= 6 and "50.0" in shown and "2 of 4 right" in shown
    assert not [1 for _, attributes in found.tags if "histogram" in (attributes.get("class") or "")]


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    found = page(row(1, 1.0), failed(2), tmp_path=tmp_path)
    assert not [attributes for _, attributes in found.tags if "src" in attributes or "href" in attributes or "onclick" in attributes]
    policy = next(attributes["content"] for tag, attributes in found.tags if tag == "meta" and "http-equiv" in attributes)
    assert (
        policy is not None and policy.startswith("default-src 'none'") and "script-src 'sha256-" in policy and "unsafe-eval" not in policy
    )


def test_the_page_has_a_histogram_of_scores_in_between(tmp_path: Path) -> None:
    found = page(row(1, 1.0), row(2, 0.31), row(3, 0.32), row(4, -1.0), tmp_path=tmp_path)
    bars = [attributes for tag, attributes in found.tags if tag == "i" and (attributes.get("title") or "").count(" to ")]
    counts = [int((attributes["title"] or "").rpartition(" ")[2]) for attributes in bars]
    assert sum(counts) == 4 and counts[0] == 1 and counts[-1] == 1 and max(counts) == 2
    assert "Below a half 3" in found.text


def test_a_page_of_nothing_and_of_much_is_a_page(tmp_path: Path) -> None:
    assert "No example was evaluated." in page(tmp_path=tmp_path).text
    long = row(1, 1.0, prediction=Prediction(answer="x" * 50_000))
    made = result(long).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "44,000 more characters" in made and len(made) < 60_000
