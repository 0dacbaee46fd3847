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
from homefire.optimizers.encoder_tuning import TuneSettings, tune
from homefire.optimizers.gate import Gate
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.reading import read_folder
from homefire.retrieval.sentence_encoder import SentenceEncoder

HANDBOOK = {
    "leave.md": "Everyone has thirty days of leave a year. Ask your team two weeks ahead.",
    "expenses.txt": "Train tickets are paid back within a month. Keep the receipt.",
    "laptop.md": "A broken laptop is replaced on the same day at the service desk.",
}


def model(smollm2: Path) -> LM:
    return LM(f"vllm/{smollm2}", settings=EngineSettings(context=1024, kv_cache_gib=0.5, max_batch=16), max_tokens=60)


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
    with context(lm=model(smollm2)), record() as trace:
        answer = program(question=questions[0])
    assert isinstance(answer.answer, str) and isinstance(answer.days, int)
    assert Path(answer.passages[0].source).name == "leave.md" and len(answer.passages) == 2
    assert "thirty days" in trace.steps[0].messages[-1].content
    assert set(answer.citations) <= set(answer.passages) and set(trace.steps[0].prediction.citations) <= {1, 2}


def test_the_encoder_learns_from_questions_that_the_model_writes(smollm2: Path, minilm: Path, tmp_path: Path) -> None:
    sentences = [sentence for text in HANDBOOK.values() for sentence in text.split(". ")]
    passages = [Passage(id=f"p{place}", text=text, source="handbook", position=place) for place, text in enumerate(sentences)]
    index = Index.build(tmp_path / "index", passages, SentenceEncoder(str(minilm)))
    settings = TuneSettings(questions=2, within=5, most_steps=1, batch_size=4, negatives=1, holdout=0.4)
    report = tune(index, tmp_path / "tuned", lm=model(smollm2), settings=settings, gate=Gate(min_gain=-1.0, max_p=1.0))
    assert report.applied and report.passages == 4 and report.questions >= 4 and report.held_out >= 1
    opened = Index.open(tmp_path / "index")
    assert opened.manifest.encoder is not None and opened.manifest.encoder.name == "tuned"
    assert "laptop" in opened.search(["My computer does not start any more."], k=1)[0][0].text


def test_an_index_of_another_encoder_is_refused(minilm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "handbook"
    folder.mkdir()
    (folder / "a.txt").write_text(HANDBOOK["leave.md"])
    Index.build(tmp_path / "index", read_folder(folder), HashEncoder())
    with pytest.raises(HomefireError):
        Index.open(tmp_path / "index", SentenceEncoder(str(minilm)))
