"""Journey: a folder of documents becomes an index, is changed, searched by each method, served to DSPy's clients, and answers questions.

On the real encoder and the real small model, by the commands that a user types.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import homefire as dspy
from homefire import __main__ as command_line
from tests.document_files import pdf

PRESET = "model: {model}\nengine:\n  context: 1024\n  kv_cache_gib: 0.25\n  max_batch: 8\n"
LEAVE = "# Leave\n\nEveryone has thirty days of leave a year.\n\n## Illness\n\nStay at home when you are ill, and call in the morning.\n"
LAPTOP = "<html><head><title>Machines</title></head><body><h1>Laptops</h1><p>A broken laptop is replaced on the same day.</p></body></html>"
TRAVEL = ["Travel\nTrain tickets are paid back within a month.", "Hotels\nA room may cost ninety euros a night."]
QUESTIONS = {
    "How many holidays do I get?": "docs/leave.md",
    "My computer does not start any more": "docs/laptop.html",
    "What may the overnight stay cost?": "docs/travel.pdf",
}
PATIENCE = 300


@pytest.fixture
def folder(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The working folder, with an index `idx` of the documents in `docs`; what its making prints is for the test to read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "leave.md").write_text(LEAVE, encoding="utf-8")
    (tmp_path / "docs" / "laptop.html").write_text(LAPTOP, encoding="utf-8")
    (tmp_path / "docs" / "travel.pdf").write_bytes(pdf(TRAVEL))
    assert run("index", "build", "idx", "docs", "--encoder", str(minilm)) == 0
    return tmp_path


def run(*arguments: str) -> int | str | None:
    """Runs a command in this process and gives the code it leaves with."""
    with pytest.raises(SystemExit) as caught:
        command_line.main(list(arguments))
    return caught.value.code or 0


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the index, served by a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "HOMEFIRE_API_KEY"}
    command = [sys.executable, "-m", "homefire", "index", "serve", "idx", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert re.search(r"answers at http://127\.0\.0\.1:\d+/api/search$", line), line + process.stderr.read()
        yield line.split()[-1]
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, "Traceback" in err) == (0, False), err


def test_build_change_and_search(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", out, re.MULTILINE) for name in ("dense", "bm25", "late", "fused")), out
    for method in ("fused", "dense", "late"):
        best = [found(capsys, "index", "search", "idx", query, "-k", "1", "--method", method)[0]["source"] for query in QUESTIONS]
        assert best == list(QUESTIONS.values()), method
    hotel = found(capsys, "index", "search", "idx", "a room a night", "--method", "bm25")[0]
    assert (hotel["source"], hotel["metadata"]["page"], hotel["scores"].keys()) == ("docs/travel.pdf", 1, {"bm25"})
    (folder / "docs" / "canteen.txt").write_text("The canteen opens at noon; guests pay six euros.\n", encoding="utf-8")
    assert found(capsys, "index", "add", "idx", "docs/canteen.txt")["changes"]["added"] == 1
    assert run("index", "remove", "idx", "docs/travel.pdf") == 0
    hits = found(capsys, "index", "search", "idx", "What do I pay for lunch?", "-k", "9")
    assert hits[0]["source"] == "docs/canteen.txt"
    assert "docs/travel.pdf" not in {hit["source"] for hit in hits}
    assert set(hits[0]["scores"]) == {"fused", "dense", "bm25", "late"}
    again = found(capsys, "index", "build", "idx", "docs")["changes"]
    assert (again["added"], again["unchanged"], again["removed"]) == (1, 3, 0)
    assert run("index", "check", "idx") == 0


def test_the_programs_of_dspy_run_on_a_served_index(folder: Path) -> None:
    """The lines that DSPy's tutorials begin with."""
    with served(folder) as url:
        colbert = dspy.ColBERTv2(url=url)
        best = colbert("How many holidays do I get?", k=2)
        assert [best[0].long_text, best[0]["text"]] == [best[0].text] * 2 and "thirty days" in best[0].text
        assert TRAVEL[1] in colbert("hotel price", k=1, simplify=True)[0]
        assert dspy.ColBERTv2(url=url, post_requests=True)("hotel price", k=1)[0].pid == colbert("hotel price", k=1)[0].pid
        with dspy.context(rm=colbert):
            retrieve = dspy.Retrieve(k=1)
            assert all("laptop" in retrieve(query).passages[0] for query in ("My computer does not start any more",))
            with ThreadPoolExecutor(8) as pool:
                texts = list(pool.map(lambda query: retrieve(query).passages[0], [*QUESTIONS] * 8))
        assert len(set(texts)) == len(QUESTIONS)
        (folder / "docs" / "canteen.txt").write_text("The canteen opens at noon.\n", encoding="utf-8")
        assert run("index", "add", "idx", "docs/canteen.txt") == 0
        assert colbert("When is lunch?", k=1)[0].text == "The canteen opens at noon."


def test_ask_answers_with_the_passages_it_read(folder: Path, smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "small.yaml").write_text(PRESET.format(model=smollm2), encoding="utf-8")
    told = found(capsys, "ask", "idx", "How many holidays do I get?", "-k", "2", "--config", "small.yaml")
    assert told["answer"].strip()
    assert [passage["rank"] for passage in told["passages"]] == [1, 2]
    assert told["passages"][0]["source"] == "docs/leave.md"
    assert {passage["cited"] for passage in told["passages"]} <= {True, False}
