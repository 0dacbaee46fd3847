"""The programs of the research line that write what others read: what leaves for a remote model, and training data in a file.

The scripts import their neighbour as they do when they are run, so their folder is on the path.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import homefire
from homefire import ScriptedLM

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts" / "examples" / "research"))

from scripts.examples.research import papillon, path
from tests.scripted_steps import asked, scripted

# PAPILLON

MESSAGE = "I am José Lopez (jose@example.org, 0151 234567). My diabetes got worse; ask Brightwater Dental for my last pay."
CLEAN = "Write a polite mail to a former employer that asks for outstanding pay."
PRIVATE = ["José Lopez", "diabetes"]


def papillon_run(prompt: str, found: list[str] | None = None) -> tuple[homefire.Prediction, ScriptedLM, ScriptedLM]:
    local = scripted(
        (papillon.FIND, {"private": found if found is not None else ["Brightwater Dental", "not in the message"]}),
        (papillon.CREATE, {"reasoning": "", "prompt": prompt}),
        (papillon.AGGREGATE, {"answer": "together"}),
        (papillon.ALONE, {"answer": "alone"}),
    )
    remote = scripted((papillon.HELP, {"reply": "Dear Sir or Madam"}))
    with homefire.context(lm=local):
        program = papillon.PAPILLON(remote)
        program.set_lm(local)
        return program(message=MESSAGE, private=PRIVATE), local, remote


def test_papillon_sends_the_prompt_and_nothing_else() -> None:
    made, local, remote = papillon_run(CLEAN)
    assert (made.answer, made.asked_remote, made.leaks) == ("together", True, [])
    [request] = remote.scripted.requests
    sent = " ".join(message.content for message in request.messages).casefold()
    assert CLEAN.casefold() in sent
    for private in ("josé", "lopez", "jose@example.org", "0151", "234567", "diabetes", "brightwater", "dental"):
        assert private not in sent
    [together] = asked(local, papillon.AGGREGATE)
    assert MESSAGE in together and "Dear Sir or Madam" in together
    [create] = asked(local, papillon.CREATE)
    assert "jose@example.org" in create and "0151 234567" in create and "not in the message" not in create


@pytest.mark.parametrize(
    "prompt",
    [
        MESSAGE,
        f"{CLEAN} It is for José Lopez.",
        f"{CLEAN} It is for JOSE  LOPEZ!",
        f"{CLEAN} It is for Mr. Lopez.",
        f"{CLEAN} Mention Diabetes.",
        f"{CLEAN} He works at Brightwater.",
        f"{CLEAN} Sign with jose@example.org.",
        f"{CLEAN} Call 0151234567.",
        f"{CLEAN} Call 0151-23-45-67.",
        f"{CLEAN} joselopez",
        "",
    ],
)
def test_papillon_answers_alone_where_the_prompt_holds_something_private(prompt: str) -> None:
    made, _, remote = papillon_run(prompt)
    assert remote.scripted.requests == []
    assert (made.answer, made.asked_remote, bool(made.leaks)) == ("alone", False, bool(prompt))


def test_papillon_sends_no_long_copy_even_where_nothing_private_is_known() -> None:
    text = "please tell me whether someone who was let go in the third week of a month is owed all of it"
    assert papillon.leaked(f"Question: {text}?", text, [])
    assert not papillon.leaked("tell me whether someone who was let go is owed pay", text, [])


@given(
    st.sampled_from(["Anna Kowalska", "anna@mail.example", "4711 0815", "Hôpital Saint-Louis"]),
    st.sampled_from([str, str.upper, str.lower, lambda text: text.replace(" ", "  "), lambda text: text.replace(" ", "-")]),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_what_is_private_is_found_wherever_it_stands(span: str, change: Callable[[str], str], before: str, after: str) -> None:
    assert papillon.leaked(f"{before} {change(span)} {after}", "", [span])


def test_papillon_says_openly_that_the_local_model_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    local = scripted(
        (papillon.FIND, {"private": []}),
        (papillon.CREATE, {"reasoning": "", "prompt": CLEAN}),
        (papillon.HELP, {"reply": "Dear Sir"}),
        (papillon.AGGREGATE, {"answer": "Dear Ms Lopez"}),
    )
    app = typer.Typer()
    app.command()(papillon.main)
    made: list[str] = []
    monkeypatch.setattr(papillon.homefire, "LM", lambda model: made.append(model) or local)
    with homefire.context(lm=local):
        result = CliRunner().invoke(app, [], catch_exceptions=False)
    assert made == ["smollm2-135m"] and "No --remote was given" in result.output and "Dear Ms Lopez" in result.output


# PATH

TEXTS = [f"Passage {name} is about {name}." for name in ("ants", "bats", "cats", "dogs")]


def path_search(query: str, k: int) -> list[str]:
    """A question finds the passage whose animal it names, then the others; one that names none finds the first ones."""
    return sorted(TEXTS, key=lambda text: not any(word in text for word in query.lower().strip("?").split()))[:k]


def path_lm(broken: str = "") -> ScriptedLM:
    def questions(text: str) -> dict[str, Any]:
        animal = text.rstrip(".").split()[-1]
        if animal == broken:
            raise homefire.errors.EngineError("it stopped")
        return {"questions": [f"Where do {animal} live?", f"where do {animal.upper()} live", "Do dogs bark?"]}

    return scripted((path.ASK, questions))


def path_run(lm: ScriptedLM, out: Path, **options: int) -> list[path.Row]:
    with homefire.context(lm=lm):
        return path.make_rows(path.PATH(), TEXTS, path_search, out, within=1, negatives=2, **options)


def test_path_keeps_questions_that_find_their_passage_with_hard_negatives(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    rows = path_run(path_lm(), out)
    assert [row.question.lower().strip("?") for row in rows] == [f"where do {name} live" for name in ("ants", "bats", "cats", "dogs")] + [
        "do dogs bark"
    ], "no question twice, and none that finds another passage"
    for row in rows:
        assert path_search(row.question, 1) == [row.positive]
        assert row.negatives == [text for text in path_search(row.question, 3) if text != row.positive]
    assert [json.loads(line) for line in out.read_text().splitlines()] == [path.asdict(row) for row in rows]


def test_path_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path, "AT_ONCE", 1)
    out, whole = tmp_path / "rows.jsonl", tmp_path / "whole.jsonl"
    with pytest.raises(homefire.errors.EngineError):
        path_run(path_lm(broken="cats"), out)
    assert len(out.read_text().splitlines()) == 2, "what was done is there"
    second = path_lm()
    path_run(second, out)
    assert [text.split()[-1] for text in asked(second, path.ASK)] == ["cats.", "dogs."]
    path_run(path_lm(), whole)
    assert out.read_text() == whole.read_text()
    third = path_lm()
    path_run(third, out)
    assert third.scripted.requests == []


def test_path_refuses_to_mix_two_settings(tmp_path: Path) -> None:
    path_run(path_lm(), tmp_path / "rows.jsonl")
    with homefire.context(lm=path_lm()), pytest.raises(homefire.InputError, match="--out"):
        path.make_rows(path.PATH(), TEXTS, path_search, tmp_path / "rows.jsonl", within=2, negatives=2)
