"""The six example programs on the real small model, as their commands run them: they end, and every output has its type."""

from __future__ import annotations

import importlib
import math
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from homefire.modules.settings import current

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("homefire.modules.settings._settings.process", current())  # put back at the end


def example(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_math(smollm2: Path) -> None:
    solved = example("math_problems").main(model=str(smollm2), chains=2, max_tokens=48)
    assert type(solved.answer) is float and math.isfinite(solved.answer)
    assert len(solved.answers) == 2 and solved.answer in solved.answers and solved.agreement in (0.5, 1.0)
    assert isinstance(solved.reasoning, str)


def test_rag(smollm2: Path, minilm: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "leave.md").write_text("Everyone has thirty days of leave a year.")
    (tmp_path / "texts" / "laptop.md").write_text("A broken laptop is replaced on the same day.")
    rag = example("rag")
    answer = rag.main("How many holidays do I get?", tmp_path / "texts", str(smollm2), str(minilm), passages=1, max_tokens=32)
    assert [passage.source for passage in answer.passages] == ["leave.md"]
    assert isinstance(answer.answer, str) and isinstance(answer.supported, bool)


def test_classification(smollm2: Path) -> None:
    tickets = example("classification").main(model=str(smollm2))
    assert len(tickets) == 3
    for ticket in tickets:
        assert ticket.team in ticket.probabilities and set(ticket.probabilities) == {"billing", "delivery", "technical", "other"}
        assert sum(ticket.probabilities.values()) == pytest.approx(1, abs=1e-3)
        assert ticket.confidence == ticket.probabilities[ticket.team] and ticket.by_hand is (ticket.confidence < 0.6)


def test_information_extraction(smollm2: Path) -> None:
    module = example("information_extraction")
    read = module.main(model=str(smollm2), max_tokens=64)
    assert isinstance(read.order, module.Order) and isinstance(read.order.customer.name, str)
    assert 1 <= len(read.order.items) <= 5
    assert all(item.quantity >= 1 and item.unit_price >= 0 for item in read.order.items)
    assert read.order.delivery is None or isinstance(read.order.delivery, date)
    assert isinstance(read.total, float)


def test_agents(smollm2: Path) -> None:
    answer = example("agents").main(model=str(smollm2), encoder="hash", max_iters=2, max_tokens=48)
    assert isinstance(answer.answer, str) and (answer.number is None or type(answer.number) is float)
    called = {value for key, value in answer.trajectory.items() if key.startswith("tool_name_")}
    assert called and called <= {"search", "calculate", "finish"}


def test_multi_stage(smollm2: Path) -> None:
    written = example("multi_stage").main(model=str(smollm2), max_tokens=24)
    assert isinstance(written.title, str) and isinstance(written.article, str)
    assert 2 <= len(written.headings) <= 4 and all(0 < len(heading) <= 60 for heading in written.headings)
    assert len(written.sections) == len(written.headings) and all(isinstance(text, str) for text in written.sections)
