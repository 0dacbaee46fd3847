"""The example programs on a script: what each does with the answers of a model, and their command lines."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from homefire.engine.lm import LM
from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import InputError
from homefire.modules.settings import context, current
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage

EXAMPLES = Path(__file__).parents[1] / "scripts" / "examples"
NAMES = ["math_problems", "rag", "classification", "information_extraction", "agents", "multi_stage"]
ORDER = {
    "customer": {"name": "Ada", "city": None, "email": None},
    "items": [{"name": "lamp", "quantity": 2, "unit_price": 35.5}, {"name": "shelf", "quantity": 1, "unit_price": 120.0}],
    "delivery": "2026-03-14",
}


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("homefire.modules.settings._settings.process", current())  # put back at the end


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


def says(**fields: Any) -> str:
    return json.dumps(fields)


def prompts(lm: ScriptedLM) -> list[str]:
    return [request.messages[-1].content for request in lm.scripted.requests]


def serve(monkeypatch: pytest.MonkeyPatch, lm: LM) -> None:
    """Makes this the LM of a script's `main`."""
    monkeypatch.setattr("homefire.LM", lambda *args, **options: lm, raising=False)


def test_math_takes_the_answer_of_most_chains() -> None:
    lm = ScriptedLM([says(reasoning="a", answer=0.5), says(reasoning="b", answer=0.25), says(reasoning="c", answer=0.25)])
    with context(lm=lm):
        solved = example("math_problems").Solver(chains=3)(problem="?")
    assert (solved.answer, solved.reasoning, solved.answers) == (0.25, "b", [0.5, 0.25, 0.25])
    assert solved.agreement == pytest.approx(2 / 3)
    assert [request.sampling.n for request in lm.scripted.requests] == [3]


def test_math_with_one_chain() -> None:
    with context(lm=ScriptedLM([says(reasoning="a", answer=9)])):
        solved = example("math_problems").Solver(chains=1)(problem="?")
    assert (solved.answer, solved.agreement) == (9.0, 1.0) and type(solved.answer) is float


def test_rag_answers_from_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "leave.md").write_text("Everyone has thirty days of leave a year.")
    (tmp_path / "texts" / "tea.txt").write_text("The kettle is in the kitchen.")
    lm = ScriptedLM([says(answer="Thirty days.", supported=True)])
    serve(monkeypatch, lm)
    answer = example("rag").main("How many days of [leave]?", tmp_path / "texts", encoder="hash", passages=1)
    assert answer.supported is True and [passage.source for passage in answer.passages] == ["leave.md"]
    assert "thirty days of leave" in prompts(lm)[0] and "kettle" not in prompts(lm)[0]
    assert "[leave]" in (shown := capsys.readouterr().out) and "Thirty days." in shown and "leave.md" in shown and "bool" in shown


def test_rag_without_a_folder_reads_the_documentation_of_python() -> None:
    index = example("rag").index_of(None, "hash")
    assert len(index) > 200
    [hits] = index.search(["recursively copy a directory tree"], k=1)
    assert hits[0].passage.source == "shutil.copytree"


def test_rag_needs_a_folder_with_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no-such-folder"):
        example("rag").index_of(tmp_path / "no-such-folder", "hash")


@pytest.mark.parametrize(("share", "by_hand"), [(0.9, False), (0.5, True)])
def test_classification_gives_what_is_unsure_to_a_person(share: float, by_hand: bool) -> None:
    from math import log

    def score(request: Request, text: str) -> float:
        return log(share) if "delivery" in text else log((1 - share) / 3)

    with context(lm=ScriptedLM([says(team="delivery")], scores=score)):
        ticket = example("classification").Triage(sure=0.6)(message="Where is it?")
    assert ticket.team == "delivery" and ticket.by_hand is by_hand
    assert ticket.confidence == pytest.approx(share)
    assert sum(ticket.probabilities.values()) == pytest.approx(1) and len(ticket.probabilities) == 4


def test_classification_prints_a_row_for_each_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    serve(monkeypatch, ScriptedLM(lambda request: says(team="other"), scores=lambda request, text: -1.0))
    tickets = example("classification").main(["one [b]", "two"])
    assert [ticket.team for ticket in tickets] == ["other", "other"] and all(ticket.by_hand for ticket in tickets)
    assert "one [b]" in (shown := capsys.readouterr().out) and "25%" in shown


def test_extraction_adds_up_the_order(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    serve(monkeypatch, ScriptedLM([says(order=ORDER)]))
    module = example("information_extraction")
    read = module.main("An order")
    assert isinstance(read.order, module.Order) and isinstance(read.order.items[1], module.Item)
    assert read.order.delivery.isoformat() == "2026-03-14" and read.order.customer.city is None
    assert read.total == pytest.approx(191.0)
    assert "191.0" in capsys.readouterr().out


def step(name: str, **args: Any) -> str:
    return says(next_thought="so", next_tool_calls=[{"name": name, "args": args}])


def agent_answers(script: Sequence[str], tmp_path: Path) -> tuple[Any, ScriptedLM]:
    passages = [Passage(id=text, text=text, source=text) for text in ("statistics.median: the middle value", "glob.glob: a list of paths")]
    index = Index.build(tmp_path / "index", passages, HashEncoder())
    lm = ScriptedLM(script)
    with context(lm=lm):
        return example("agents").researcher(index)(question="?"), lm


def test_the_agent_searches_and_calculates(tmp_path: Path) -> None:
    script = [
        step("search", query="the middle value"),
        step("calculate", code="sorted([3, 1, 4])[1]"),
        step("finish"),
        says(reasoning="so", answer="It is statistics.median.", number=3),
    ]
    answer, lm = agent_answers(script, tmp_path)
    assert answer.number == 3.0 and type(answer.number) is float
    assert "statistics.median" in answer.trajectory["observation_0"]
    assert answer.trajectory["observation_1"] == "3"
    assert "statistics.median" in prompts(lm)[1], "the model reads what was found"


def test_the_agent_goes_on_after_code_that_fails(tmp_path: Path) -> None:
    script = [
        step("calculate", code="open('/etc/passwd').read()"),
        step("calculate", code="1 / 0"),
        step("finish"),
        says(reasoning="so", answer="Not known.", number=None),
    ]
    answer, _ = agent_answers(script, tmp_path)
    assert answer.number is None
    assert answer.trajectory["observation_0"].startswith("Error")
    assert "ZeroDivisionError" in answer.trajectory["observation_1"]


def article(request: Request) -> str:
    """Plans three sections and edits by repeating the draft."""
    asked = request.messages[-1].content
    grammar = str(request.messages[0].content)
    if "Plan a short article" in grammar:
        return says(title="Trees", headings=["Shade", "Birds", "Rain"])
    if "Edit the draft" in grammar:
        return says(article=f"edited: {asked}")
    return says(text=next(f"About {name}." for name in ("Shade", "Birds", "Rain") if f"{name}" in asked.rsplit("heading", 1)[1]))


def test_sections_are_drafted_in_order_and_edited_together() -> None:
    lm = ScriptedLM(article)
    with context(lm=lm):
        written = example("multi_stage").Writer(max_tokens=200)(topic="trees")
    assert written.title == "Trees" and written.headings == ["Shade", "Birds", "Rain"]
    assert written.sections == ["About Shade.", "About Birds.", "About Rain."]
    assert len(lm.scripted.requests) == 5
    draft = prompts(lm)[-1]
    assert -1 < draft.index("About Shade.") < draft.index("About Birds.") < draft.index("About Rain.")
    assert written.article.startswith("edited:")
    assert [request.sampling.max_tokens for request in lm.scripted.requests] == [200, 200, 200, 200, 800]


@pytest.mark.parametrize("name", NAMES)
def test_each_says_its_command_and_its_options(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    module = example(name)
    assert (module.__doc__ or "").splitlines()[0].endswith(f"Run: .venv/bin/python scripts/examples/{name}.py")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as left:
        example("example_setup").run(module.main)
    assert left.value.code == 0 and "--model" in capsys.readouterr().out
    assert f"`{name}.py`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_an_unknown_model_is_one_clear_paragraph() -> None:
    command = [sys.executable, str(EXAMPLES / "math_problems.py"), "--model", "no-such-model"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert "no-such-model" in done.stderr and "Traceback" not in done.stderr
