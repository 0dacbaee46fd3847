"""Questions about passages: written once each, kept line by line, and gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import DiskError, EngineError, InputError
from homefire.modules.example import Prediction
from homefire.modules.module import Module
from homefire.optimizers.written_questions import Question, question_writer, write_questions
from homefire.retrieval.passage import Passage

TEXTS = ["Cats purr at night.", "Bread needs flour.", "Trains run on rails."]


def passages() -> list[Passage]:
    return [Passage(id=f"p{place}", text=text, source="s", position=place) for place, text in enumerate(TEXTS)]


def asking(request: Request) -> str:
    """Two questions that name the passage's first word."""
    word = request.messages[-1].content.split()[1]
    return json.dumps({"questions": [f"What about {word}?", f"Why are {word} so?"]})


def writer(script: Any = asking, most: int = 2) -> tuple[Module, ScriptedLM]:
    program, lm = question_writer(most), ScriptedLM(script)
    program.set_lm(lm)
    return program, lm


def test_every_passage_is_asked_about_once(tmp_path: Path) -> None:
    program, lm = writer()
    heard: list[int] = []
    found = write_questions(program, passages(), tmp_path / "q.jsonl", 2, heard.append)
    assert found[:2] == [Question("What about Cats?", "p0"), Question("Why are Cats so?", "p0")] and len(found) == 6
    assert sorted(heard) == [1, 2, 3] and len(lm.scripted.requests) == 3
    assert "Bread needs flour." in "".join(request.messages[-1].content for request in lm.scripted.requests)
    assert write_questions(program, passages(), tmp_path / "q.jsonl", 2) == found and len(lm.scripted.requests) == 3


def test_a_line_that_a_kill_cut_off_is_written_anew(tmp_path: Path) -> None:
    program, lm = writer()
    file = tmp_path / "q.jsonl"
    whole = write_questions(program, passages(), file, 2)
    file.write_bytes(file.read_bytes()[:-20])
    assert write_questions(program, passages(), file, 2) == whole and len(lm.scripted.requests) == 4
    assert write_questions(program, passages(), file, 2) == whole and len(lm.scripted.requests) == 4


def test_what_was_written_before_a_stop_is_kept(tmp_path: Path) -> None:
    program = question_writer(2)
    program.set_lm(ScriptedLM(lambda one: asking(one) if "Cats" in one.messages[-1].content else EngineError("it ended"), max_batch=1))
    with pytest.raises(EngineError, match="it ended"):
        write_questions(program, passages(), tmp_path / "q.jsonl", 2)
    assert len((tmp_path / "q.jsonl").read_text().splitlines()) == 1


def test_a_question_of_two_passages_stands_once_and_a_failed_passage_is_left_out(tmp_path: Path) -> None:
    lines = {
        "Cats": '{"questions": ["What is it?", " what IS it "]}',
        "Bread": '{"questions": ["What is it?", "?!?!?!?!?!", "Who bakes it?"]}',
    }
    program, _ = writer(lambda request: lines.get(request.messages[-1].content.split()[1], "nothing"), most=3)
    found = write_questions(program, passages(), tmp_path / "q.jsonl", 3)
    assert found == [Question("What is it?", "p0"), Question("Who bakes it?", "p1")]


def test_a_program_of_ones_own(tmp_path: Path) -> None:
    class Own(Module):
        def __init__(self, answer: Any) -> None:
            self.answer = answer

        def forward(self, passage: str) -> Prediction:
            return Prediction(questions=self.answer)

    assert len(write_questions(Own(["A question?"]), passages(), tmp_path / "a.jsonl", 2)) == 1
    for wrong in ("A question?", None, 7):
        with pytest.raises(InputError, match="expected a list of texts as `questions`"):
            write_questions(Own(wrong), passages(), tmp_path / "b.jsonl", 2)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    program, _ = writer()
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="questions cannot be written"):
        write_questions(program, passages(), tmp_path / "file" / "q.jsonl", 2)
