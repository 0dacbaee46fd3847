"""The values of a training run: settings that check themselves, hashes that tell runs apart."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from homefire.engine.request import Media, Message
from homefire.errors import ConfigError, InputError, TrainingError
from homefire.optimizers.train_spec import LossPoint, TrainResult, TrainRow, TrainSettings, TrainSpec, check_rows, rows_hash


def rows(count: int = 3) -> list[TrainRow]:
    return [TrainRow(prompt=(Message("user", f"Question {index}?"),), completion=f"Antwort {index}, ä") for index in range(count)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 8}')
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + bytes(range(256)) * 8)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def spec(folder: Path, **changes: Any) -> TrainSpec:
    given: dict[str, Any] = {"base": "small", "base_path": folder, "rows": rows(), "settings": TrainSettings(), **changes}
    return TrainSpec.of(**given)


def test_defaults_are_valid() -> None:
    assert TrainSettings().rank == 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rank", 0),
        ("rank", 2.5),
        ("rank", True),
        ("alpha", 0),
        ("dropout", 1.0),
        ("target_modules", "q_proj"),
        ("target_modules", ()),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("epochs", 0),
        ("batch_size", -1),
        ("gradient_accumulation", "2"),
        ("warmup_fraction", 1.5),
        ("schedule", "sine"),
        ("max_tokens", 7),
        ("weight_decay", -0.1),
        ("dtype", "float16"),
        ("seed", -1),
        ("checkpoint_every", 0),
    ],
)
def test_value_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} is "):
        TrainSettings(**{name: value})  # type: ignore[arg-type]


def test_a_row_with_an_image_is_refused() -> None:
    seen = Message("user", "[image]", parts=("What is this?", Media("image", "data:image/png;base64,AA==")))
    with pytest.raises(TrainingError, match="only text can be trained on"):
        TrainRow(prompt=(seen,), completion="A cat.")


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainSettings(rank=0, learning_rate=2.0, schedule="sine")  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in ("rank is 0", "learning_rate is 2.0", "schedule is 'sine'", "'cosine'"))


def test_same_spec_same_run(base: Path) -> None:
    assert spec(base).run_id == spec(base).run_id
    assert len(spec(base).run_id) == 12


def test_run_does_not_depend_on_where_the_base_lies(base: Path, tmp_path: Path) -> None:
    moved = base.rename(tmp_path / "moved")
    elsewhere = spec(moved).run_id
    moved.rename(base)
    assert spec(base).run_id == elsewhere


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "other"},
        {"rows": rows()[::-1]},
        {"rows": rows(2)},
        {"validation_rows": rows(1)},
        {"settings": TrainSettings(seed=1)},
        {"settings": TrainSettings(target_modules=("q_proj",))},
    ],
)
def test_what_decides_the_adapter_names_the_run(base: Path, changes: dict[str, Any]) -> None:
    assert spec(base, **changes).run_id != spec(base).run_id


def test_other_weights_and_other_template_are_another_run(base: Path) -> None:
    before = spec(base)
    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    finetuned = spec(base)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    assert len({before.run_id, finetuned.run_id, spec(base).run_id}) == 3


def test_spec_and_rows_survive_json(base: Path) -> None:
    original = spec(base, settings=TrainSettings(target_modules=("q_proj", "v_proj"), dtype="float32"))
    assert TrainSpec.from_json(json.loads(json.dumps(original.to_json()))) == original
    copies = [TrainRow.from_json(json.loads(json.dumps(row.to_json()))) for row in rows()]
    assert copies == rows()
    assert rows_hash(copies) == rows_hash(rows())


def test_result_survives_json(tmp_path: Path) -> None:
    result = TrainResult(
        run_id="abc",
        run_dir=tmp_path,
        adapter=tmp_path / "adapter",
        losses=(LossPoint(step=1, loss=2.0, learning_rate=0.1),),
        validation_loss_before=None,
        validation_loss_after=1.5,
        rows=3,
        dropped_rows=0,
        steps=1,
        tokens=30,
        seconds=1.0,
        rows_per_second=3.0,
        peak_memory=10,
        dtype="float32",
        device="cpu",
        resumed=False,
    )
    assert TrainResult.from_json(json.loads(json.dumps(result.to_json())), tmp_path) == result


def test_rows_that_teach_nothing() -> None:
    with pytest.raises(InputError, match="training set has no rows"):
        check_rows([], "training")
    with pytest.raises(InputError, match="Row 1 of the validation set has an empty completion"):
        check_rows([rows()[0], dataclasses.replace(rows()[1], completion="")], "validation")
    with pytest.raises(InputError, match="empty prompt"):
        check_rows([TrainRow(prompt=(), completion="x")], "training")


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        spec(tmp_path)
