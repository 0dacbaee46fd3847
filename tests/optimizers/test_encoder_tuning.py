"""Tuning an encoder on the real small one: what it writes loads as any other, is used only if it is better, and is gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homefire.engine.request import Request
from homefire.engine.scripted_engine import ScriptedLM
from homefire.errors import ConfigError, InputError
from homefire.modules.settings import context
from homefire.optimizers import encoder_training
from homefire.optimizers.encoder_training import EncoderRow, EncoderRun, train_encoder
from homefire.optimizers.encoder_tuning import TuneSettings, tune
from homefire.optimizers.gate import Gate
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.sentence_encoder import SentenceEncoder
from homefire.retrieval.token_encoder import ColbertEncoder

TEXTS = [
    "Cats purr at night and sleep all day.",
    "Bread needs flour and water and salt.",
    "Trains run on rails of steel.",
    "The moon goes round the earth in a month.",
    "Rain falls when clouds grow cold.",
    "A tower of iron stands in the city.",
]
ROWS = [
    EncoderRow(question=f"What of {text.split()[1]}?", positive=text, negatives=(TEXTS[place - 1],)) for place, text in enumerate(TEXTS)
]
FORCED = Gate(min_gain=-1.0, max_p=1.0)


def run_of(base: Path, kind: Any, **changes: Any) -> EncoderRun:
    values: dict[str, Any] = {"epochs": 1, "batch_size": 3, "learning_rate": 1e-4, "lora_rank": None, "seed": 0, "most_steps": 2}
    return EncoderRun(base=str(base), kind=kind, **{**values, **changes})


def likeness(base: Path, tuned: Path) -> Any:
    """How like the vectors of two encoders are, text by text."""
    return (SentenceEncoder(base).encode_passages(TEXTS) * SentenceEncoder(tuned).encode_passages(TEXTS)).sum(axis=1)


def test_an_encoder_that_learnt_by_lora_is_an_ordinary_folder(minilm: Path, tmp_path: Path) -> None:
    assert train_encoder(run_of(minilm, "both", lora_rank=4, learning_rate=1e-3), ROWS, tmp_path / "out", tmp_path) == 2
    assert not list(tmp_path.rglob("adapter*")) and not (tmp_path / "checkpoints").exists()
    assert likeness(minilm, tmp_path / "out").min() > 0.5 and likeness(minilm, tmp_path / "out").max() < 0.99999


def test_a_colbert_model_of_a_plain_encoder_begins_with_its_token_vectors(minilm: Path, tmp_path: Path) -> None:
    run = run_of(minilm, "late", fresh=True, learning_rate=1e-12, most_steps=1, prompts=("query: ", ""))
    train_encoder(run, ROWS, tmp_path / "out", tmp_path)
    made, plain = ColbertEncoder(tmp_path / "out"), SentenceEncoder(minilm, query_prompt="query: ")
    tokens = plain.encode_queries_and_tokens(["Where do cats sleep?"])[1]
    assert made.dim == plain.dim and np.allclose(made.encode_queries(["Where do cats sleep?"])[0], tokens[0], atol=1e-3)


def test_a_stopped_training_goes_on(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    shown_on = encoder_training._shown_on

    def stopping(bar: Any) -> Any:
        made = shown_on(bar)

        def count(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)
            if state.global_step == 2 and len(steps) == 2:
                raise KeyboardInterrupt

        made.on_step_end = count
        return made

    monkeypatch.setattr(encoder_training, "_shown_on", stopping)
    run = run_of(minilm, "dense", most_steps=4, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(run, ROWS, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists() and (tmp_path / "checkpoints" / "checkpoint-1").is_dir()
    assert train_encoder(run, ROWS, tmp_path / "out", tmp_path) == 4
    assert steps == [1, 2, 2, 3, 4] and likeness(minilm, tmp_path / "out").min() > 0.5
    assert likeness(minilm, tmp_path / "out").max() < 0.99999


def test_rows_that_cannot_be_learnt_from(minilm: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 questions to learn from"):
        train_encoder(run_of(minilm, "dense"), ROWS[:1], tmp_path / "out", tmp_path)
    with pytest.raises(InputError, match="0 to 1 negatives"):
        train_encoder(run_of(minilm, "dense"), [*ROWS, EncoderRow(question="q", positive="p")], tmp_path / "out", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded for training"):
        train_encoder(run_of(tmp_path / "empty", "dense"), ROWS, tmp_path / "out", tmp_path)


def asking(request: Request) -> str:
    words = request.messages[-1].content.split()
    return json.dumps({"questions": [f"What of {words[1]} and {words[2]}?", f"Why {words[2]} {words[3]}?"]})


@pytest.fixture(scope="module")
def built(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuning") / "notes.index"
    passages = [Passage(id=f"p{place}", text=text, source="s", position=place) for place, text in enumerate(TEXTS)]
    Index.build(folder, passages, SentenceEncoder(minilm))
    return folder


@pytest.fixture
def index(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    shutil.copytree(built, tmp_path / "notes.index")
    return tmp_path / "notes.index"


SMALL = TuneSettings(questions=2, batch_size=4, most_steps=2, negatives=1, holdout=0.4, learning_rate=1e-4)


def test_a_better_encoder_takes_the_place_of_the_old_one(index: Path, tmp_path: Path) -> None:
    lm = ScriptedLM(asking)
    report = tune(index, lm=lm, settings=SMALL, gate=FORCED)
    folder = tmp_path / "home" / "models" / "all-minilm-l6-v2-notes"
    assert report.decision.promoted and report.folder == folder and report.applied
    assert (report.passages, report.questions, report.learnt + report.held_out) == (6, 12, 12)
    assert set(report.before) == set(report.after) == {"fused", "dense", "bm25", "late"}
    assert all(0 <= value <= 1 for scores in report.after.values() for value in scores.values())
    assert str(report).count("\n") > 6 and "The index uses it." in str(report)
    opened = Index.open(index)
    assert opened.manifest.encoder is not None and opened.manifest.encoder.name == folder.name and len(opened) == 6
    assert opened.search(["cats purr"], 1, method="dense")[0][0].passage.id == "p0"
    assert SentenceEncoder(folder.name).dim == 384
    assert json.loads((folder / "tuning.json").read_text())["held_out"] == report.held_out and (folder / "questions.jsonl").is_file()
    assert not list(folder.parent.glob("*.tuning"))


def test_an_encoder_that_is_not_better_is_thrown_away_and_the_questions_kept(index: Path, tmp_path: Path) -> None:
    lm = ScriptedLM(asking)
    with context(lm=lm):
        report = tune(index, tmp_path / "tuned", settings=SMALL, gate=Gate(min_gain=0.99))
        assert not report.decision.promoted and report.folder is None and not report.applied
        assert "is not above 0.99" in str(report) and not (tmp_path / "tuned").exists()
        opened = Index.open(index)
        assert opened.manifest.encoder is not None and opened.manifest.encoder.name == "all-minilm-l6-v2"
        work = tmp_path / "tuned.tuning"
        assert sorted(path.name for path in work.iterdir()) == ["questions.jsonl", "report.json", "run.txt", "setup.json"]
        asked = len(lm.scripted.requests)
        tune(opened, tmp_path / "tuned", settings=SMALL, gate=FORCED, apply=False)
        assert len(lm.scripted.requests) == asked and (tmp_path / "tuned" / "modules.json").is_file()
        with pytest.raises(InputError, match="There is something at"):
            tune(opened, tmp_path / "tuned", settings=SMALL)


def test_questions_of_another_model_are_not_mixed(index: Path, tmp_path: Path) -> None:
    work = tmp_path / "tuned.tuning"
    work.mkdir()
    (work / "setup.json").write_text('{"model": "other"}')
    with pytest.raises(InputError, match="holds questions that other wrote"):
        tune(index, tmp_path / "tuned", lm=ScriptedLM(asking), settings=SMALL)


def test_what_cannot_be_tuned(tmp_path: Path, index: Path) -> None:
    with pytest.raises(ConfigError, match="No LM is set"):
        tune(index, tmp_path / "out")
    passages = [Passage(id=f"p{place}", text=text, source="s") for place, text in enumerate(TEXTS)]
    with pytest.raises(InputError, match="HashEncoder, which cannot be trained"):
        tune(Index.build(tmp_path / "hash", passages, HashEncoder()), tmp_path / "out", lm=ScriptedLM(asking))
    with pytest.raises(InputError, match="no encoder, which cannot be trained"):
        tune(Index.build(tmp_path / "words", passages, methods=["bm25"]), tmp_path / "out", lm=ScriptedLM(asking))
    with pytest.raises(InputError, match="too few to learn"):
        tune(index, tmp_path / "out", lm=ScriptedLM(lambda request: '{"questions": ["How is it there?"]}'), settings=SMALL)
    with pytest.raises(InputError, match="There is no index"):
        tune(tmp_path / "nothing", lm=ScriptedLM(asking))


def test_settings_out_of_range_are_named_all_at_once() -> None:
    with pytest.raises(ConfigError, match=r"kind is 'best'.*passages is 3.*lora_rank is 0.*holdout is 1.*learning_rate is 0"):
        TuneSettings(kind="best", passages=3, lora_rank=0, holdout=1, learning_rate=0)  # type: ignore[arg-type]
