"""Journey (c), compile: demos from the real model's own successful runs, and the program saved and loaded."""

from __future__ import annotations

from pathlib import Path

from homefire.demo_data import stdlib_docstrings
from homefire.engine.lm import LM
from homefire.engine.settings import EngineSettings
from homefire.modules.example import Example
from homefire.modules.predict import Predict
from homefire.modules.settings import context
from homefire.optimizers.evaluate import Evaluate
from homefire.optimizers.few_shot import BootstrapFewShot
from homefire.optimizers.metrics import field_match

SIGNATURE = "docstring -> area: Literal['dates', 'network']"


def test_compile_evaluate_save_and_load(smollm2: Path, tmp_path: Path) -> None:
    rows = [row for row in stdlib_docstrings() if row.label in ("dates", "network")]
    data = [Example(docstring=row.text, area=row.label).with_inputs("docstring") for row in rows[:: len(rows) // 32]]
    lm = LM(f"vllm/{smollm2}", settings=EngineSettings(context=1024, kv_cache_gib=0.5, max_batch=16), max_tokens=24)
    student = Predict(SIGNATURE)
    with context(lm=lm):
        compiled = BootstrapFewShot(field_match("area"), max_bootstrapped_demos=2, max_labeled_demos=4).compile(student, trainset=data[:16])
        result = Evaluate(data[16:], field_match("area"), display_progress=False)(compiled)
        assert len(compiled.demos) == 4 and student.demos == []
        assert result.valid == len(data[16:])
        compiled.save(tmp_path / "program.json")
        loaded = Predict(SIGNATURE)
        loaded.load(tmp_path / "program.json")
        again = Evaluate(data[16:], field_match("area"), display_progress=False)(loaded)
    assert [row.prediction for row in again.rows] == [row.prediction for row in result.rows]
