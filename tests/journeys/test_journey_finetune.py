"""Journey (d), BootstrapFinetune, with the real trainer on the real small model, served by vLLM."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from homefire.demo_data import AREAS, stdlib_docstrings
from homefire.engine.adapters import AdapterStore
from homefire.engine.lm import LM
from homefire.engine.settings import EngineSettings
from homefire.errors import AdapterError, InputError
from homefire.modules.example import Example
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.optimizers.bootstrap_finetune import BootstrapFinetune, FinetuneResult
from homefire.optimizers.evaluate import Evaluate, Row
from homefire.optimizers.gate import Gate
from homefire.optimizers.metrics import field_match

SIGNATURE = f"docstring -> area: Literal{list(AREAS)}"
SMALL = EngineSettings(context=1024, kv_cache_gib=0.5, max_batch=16)
METRIC = field_match("area")


def examples(*, held_out: bool) -> list[Example]:
    """Twelve docstrings of each area to learn from, or six others to judge by, spread over the area."""
    made = []
    for area in AREAS:
        rows = [row for row in stdlib_docstrings() if row.label == area]
        spread = rows[:: len(rows) // 18][:18]
        made += [
            Example(docstring=row.text, area=area).with_inputs("docstring") for i, row in enumerate(spread) if (i % 3 == 2) == held_out
        ]
    return made


LEARN, JUDGE = examples(held_out=False), examples(held_out=True)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> object:
    """A directory of its own for adapters and runs; the model stays where it is."""
    patch = pytest.MonkeyPatch()
    patch.setenv("HOMEFIRE_HOME", str(tmp_path_factory.mktemp("home")))
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def lm(smollm2: Path) -> LM:
    return LM(f"vllm/{smollm2}", settings=SMALL, max_tokens=24)


@pytest.fixture(scope="module")
def finetuned(home: object, lm: LM) -> FinetuneResult:
    program = Predict(SIGNATURE)
    program.lm = lm
    optimizer = BootstrapFinetune(METRIC, name="areas", train_kwargs={"rank": 8}, gate=Gate(max_p=0.2))
    return optimizer.run(program, trainset=LEARN, valset=JUDGE)


def test_it_gets_better_and_is_promoted(finetuned: FinetuneResult) -> None:
    assert finetuned.decision.gain > 0.1, finetuned.decision
    assert finetuned.decision.promoted
    assert finetuned.after.valid == len(finetuned.after.rows)
    assert str(AdapterStore().in_service("areas")) == "areas@1"
    lineage = AdapterStore().lineage(finetuned.adapter)
    assert lineage.rows == len(LEARN) and lineage.settings["rank"] == 8
    assert lineage.scores["after"] == pytest.approx(finetuned.after.mean)
    assert [stage.name for stage in finetuned.stages] == ["Collect traces", "Evaluate before", "Finetune", "Evaluate after"]


def test_the_student_is_not_modified(finetuned: FinetuneResult, lm: LM) -> None:
    assert lm.adapter is None
    assert finetuned.program.predictors()[0].language_model().adapter == finetuned.adapter


def test_base_and_adapter_answer_side_by_side(finetuned: FinetuneResult, lm: LM) -> None:
    """Requests of both, mixed: each gets its own weights, and those of the base are what they were."""
    base, better = Predict(SIGNATURE), Predict(SIGNATURE)
    base.lm, better.lm = lm, lm.copy(adapter="areas")
    held_out = JUDGE
    for program, before in ((base, finetuned.before), (better, finetuned.after), (base, finetuned.before)):
        again = Evaluate(held_out, METRIC, display_progress=False)(program)
        assert [row.prediction for row in again.rows] == [row.prediction for row in before.rows]


def test_transformers_serves_the_same_adapter(finetuned: FinetuneResult, smollm2: Path) -> None:
    """In float32, where near ties do not fall either way."""
    evaluate, exact = Evaluate(JUDGE[::3], METRIC, display_progress=False), replace(SMALL, dtype="float32")
    results = []
    for backend in ("vllm", "transformers"):
        program = Predict(SIGNATURE)
        program.lm = LM(f"{backend}/{smollm2}", adapter="areas", settings=exact, max_tokens=24)
        results.append(evaluate(program))
    same = sum(mine.prediction == theirs.prediction for mine, theirs in zip(results[0].rows, results[1].rows, strict=True))
    assert same >= 0.95 * len(JUDGE[::3])
    assert results[1].mean > finetuned.before.mean


def test_adapters_per_request_give_the_same(finetuned: FinetuneResult, smollm2: Path) -> None:
    """As on a GPU: base and adapter in one batch, the adapter loaded while the engine runs."""
    hot = LM(f"vllm/{smollm2}", settings=replace(SMALL, adapter_mode="hot"), max_tokens=24)
    base, better = Predict(SIGNATURE), Predict(SIGNATURE)
    base.lm, better.lm = hot, hot.copy(adapter="areas")
    held_out = JUDGE[::5]
    calls = [*((base, example) for example in held_out), *((better, example) for example in held_out)]
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(lambda call: call[0](**call[1].inputs()).area, calls))
    known = {example: (old.prediction, new.prediction) for example, old, new in _rows(finetuned)}
    expected = [known[example][0].area for example in held_out] + [known[example][1].area for example in held_out]
    same = sum(mine == theirs for mine, theirs in zip(answers, expected, strict=True))
    assert same >= 0.85 * len(answers)
    assert answers[: len(held_out)] != answers[len(held_out) :]


def _rows(result: FinetuneResult) -> list[tuple[Example, Row, Row]]:
    return [(old.example, old, new) for old, new in zip(result.before.rows, result.after.rows, strict=True)]


def test_a_second_version_that_is_no_better_is_not_promoted(finetuned: FinetuneResult, lm: LM) -> None:
    program = Predict(SIGNATURE)
    program.lm = lm
    settings = {"epochs": 1, "rank": 1, "learning_rate": 1e-7, "batch_size": 20}
    result = BootstrapFinetune(METRIC, name="areas", train_kwargs=settings).run(program, trainset=LEARN[::6], valset=JUDGE)
    assert not result.decision.promoted
    assert str(result.adapter) == "areas@2" and str(AdapterStore().in_service("areas")) == "areas@1"
    assert result.program.predictors()[0].language_model().adapter == finetuned.adapter


def test_rollback_serves_the_base_again(finetuned: FinetuneResult, lm: LM) -> None:
    store = AdapterStore()
    assert store.rollback("areas") is None
    with pytest.raises(AdapterError, match="promote"):
        LM(lm.model, adapter="areas")
    store.promote("areas", 1)


def test_what_cannot_be_finetuned_says_so(home: object, lm: LM) -> None:
    from homefire.engine.scripted_engine import ScriptedLM

    with context(lm=ScriptedLM([])), pytest.raises(InputError, match="not a local model"):
        BootstrapFinetune(METRIC).compile(Predict(SIGNATURE), trainset=LEARN[:2])
    with context(lm=lm), pytest.raises(InputError, match="labels do not fit"):
        BootstrapFinetune(METRIC).compile(Predict("docstring -> area: Literal['dates']"), trainset=LEARN[:2])
