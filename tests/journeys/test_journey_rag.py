"""Journey (b), RAG, on the real encoder, a real index on disk and the real small model."""

from __future__ import annotations

from pathlib import Path

import pytest

from homefire.engine.lm import LM
from homefire.engine.settings import EngineSettings
from homefire.errors import HomefireError
from homefire.modules.rag import RAG
from homefire.modules.settings import context
from homefire.modules.trace import record
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.reading import read_folder
from homefire.retrieval.sentence_encoder import SentenceEncoder

HANDBOOK = {
    "leave.md": "Everyone has thirty days of leave a year. Ask your team two weeks ahead.",
    "expenses.txt": "Train tickets are paid back within a month. Keep the receipt.",
    "laptop.md": "A broken laptop is replaced on the same day at the service desk.",
}


def test_files_to_an_answer(smollm2: Path, minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    folder.mkdir()
    for name, text in HANDBOOK.items():
        (folder / name).write_text(text)
    encoder = SentenceEncoder(str(minilm))
    Index.build(tmp_path / "index", read_folder(folder), encoder)
    index = Index.open(tmp_path / "index", encoder)
    questions = ["How many holidays do I get?", "My computer does not start any more.", "Who pays for my journey by rail?"]
    best = [Path(hits[0].passage.source).name for hits in index.search(questions, k=1)]
    assert best == ["leave.md", "laptop.md", "expenses.txt"]

    program = RAG(index, "context: list[str], question -> answer, days: int", k=2)
    lm = LM(f"vllm/{smollm2}", settings=EngineSettings(context=1024, kv_cache_gib=0.5, max_batch=16), max_tokens=60)
    with context(lm=lm), record() as trace:
        answer = program(question=questions[0])
    assert isinstance(answer.answer, str) and isinstance(answer.days, int)
    assert Path(answer.passages[0].source).name == "leave.md" and len(answer.passages) == 2
    assert "thirty days" in trace.steps[0].messages[-1].content


def test_an_index_of_another_encoder_is_refused(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "a.txt").write_text(HANDBOOK["leave.md"])
    Index.build(tmp_path / "index", read_folder(folder), HashEncoder())
    with pytest.raises(HomefireError):
        Index.open(tmp_path / "index", SentenceEncoder(str(minilm)))
