"""`homefire ask`: what it prints of an answer, its citations and the passages, on the scripted LM; the journey asks a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from homefire import __main__ as command_line
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.modules.settings import context
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

TEXTS = {"leave.md": "Everyone has thirty days of leave a year.", "laptop.md": "A broken laptop is replaced the same day."}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    passages = [Passage(id=name, text=text, source=name, metadata={"line": 3, "year": 2024}) for name, text in TEXTS.items()]
    Index.build("idx", passages, HashEncoder())


def ask(answer: str, *options: str) -> tuple[int | str | None, list[str]]:
    """The code that the command leaves with, and the prompts that it sent."""
    prompts: list[str] = []

    def answering(request: Request) -> str:
        prompts.append(request.messages[-1].content)
        return answer

    with context(lm=ScriptedLM(answering)), pytest.raises(SystemExit) as caught:
        command_line.main(["ask", "idx", "How many days of leave?", *options])
    return caught.value.code or 0, prompts


def test_an_answer_with_its_citations(capsys: pytest.CaptureFixture[str]) -> None:
    code, prompts = ask('{"citations": [1], "answer": "Thirty \x1b[31mdays."}'.replace("\x1b", "\\u001b"))
    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Thirty \ufffd[31mdays.", "from [1] leave.md:3"]
    assert lines[3].startswith("  1 leave.md:3  cited") and "bm25" in lines[3]
    assert lines[4] == "    Everyone has thirty days of leave a year."
    assert lines[6].startswith("  2 laptop.md:3") and "cited" not in lines[6]
    assert TEXTS["leave.md"] in prompts[0]


def test_an_answer_that_cites_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask('{"citations": [], "answer": "I do not know."}', "-k", "1")[0] == 0
    assert "I do not know.\nThe answer cites none of the passages.\n" in capsys.readouterr().out


def test_an_answer_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask('{"citations": [1], "answer": "Thirty."}', "-k", "2", "--json", "--method", "bm25", "--where", "year=2024")[0] == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["question"], told["answer"]) == ("How many days of leave?", "Thirty.")
    assert next((passage["source"], passage["cited"]) for passage in told["passages"]) == ("leave.md", True)


@pytest.mark.parametrize(
    ("options", "says"),
    [(["--where", "year<2000"], "Nothing in the index 'idx' was found"), (["--where", "yaer=1"], "did you mean 'year'")],
)
def test_nothing_to_answer_from(capsys: pytest.CaptureFixture[str], options: list[str], says: str) -> None:
    code, prompts = ask("", *options)
    assert (code, prompts) == (2, [])
    assert re.search(re.escape(says), capsys.readouterr().err.replace("\n", " "))
