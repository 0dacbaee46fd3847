"""Tests of homefire.configs.load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from homefire.configs.load import InvalidConfig, load, model_name, presets
from homefire.engine.settings import EngineSettings
from homefire.errors import ConfigError
from homefire.optimizers.train_spec import TrainSettings


@dataclass(frozen=True)
class Inner:
    depth: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    rate: float
    mode: Literal["fast", "slow"] = "fast"
    where: Path | None = None
    inner: Inner = field(default_factory=Inner)
    loud: bool = False

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise InvalidConfig("Outer", [f"rate is {self.rate}; it must be 0 or more"])


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_values_get_the_types_of_the_dataclass(tmp_path: Path) -> None:
    path = written(tmp_path, "rate: 1\nmode: slow\nwhere: a/b\ninner:\n  depth: 3\n  names: [x, y]\nloud: true\n")
    assert load(path, Outer) == Outer(rate=1.0, mode="slow", where=Path("a/b"), inner=Inner(depth=3, names=("x", "y")), loud=True)


def test_three_wrong_keys_come_in_one_error_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "engine:\n  contxt: 4096\n  max_batch: lots\n  dtype: int3\nmodl: smollm2-135m\n")
    with pytest.raises(ConfigError) as caught:
        load(path, EngineSettings, "engine")
    text = str(caught.value)
    assert text.splitlines()[0] == f"{path} has 4 problems:"
    assert "engine.contxt (line 2) is not known; did you mean 'context'?" in text
    assert "engine.max_batch (line 3) is 'lots'; expected a whole number" in text
    assert "engine.dtype (line 4) is 'int3'; expected one of bfloat16, float16, float32" in text
    assert "modl (line 5) is not known; did you mean 'model'?" in text


def test_values_that_the_dataclass_refuses_come_with_their_lines_beside_the_others(tmp_path: Path) -> None:
    path = written(tmp_path, "mode: quick\nrate: -1\ninner: {dept: 2}\n")
    with pytest.raises(InvalidConfig) as caught:
        load(path, Outer)
    assert caught.value.problems == (
        "mode (line 1) is 'quick'; expected one of fast, slow",
        "inner.dept (line 3) is not known; did you mean 'depth'?",
        "rate (line 2) is -1.0; it must be 0 or more",
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rate: '1'", "rate (line 1) is '1'; expected a number"),
        ("rate: true", "rate (line 1) is True; expected a number"),
        ("mode: fast", "rate is missing; expected a number"),
        ("rate: 1\nloud: 1", "loud (line 2) is 1; expected true or false"),
        ("rate: 1\ninner: 3", "inner (line 2) is 3; expected keys and values"),
        ("rate: 1\ninner:\n  depth: 1.5", "inner.depth (line 3) is 1.5; expected a whole number"),
        ("rate: 1\ninner: {names: [1]}", "inner.names (line 2) is [1]; expected a list of text"),
        ("rate: 1\nrate: 2", "rate (line 2) is given twice"),
    ],
)
def test_each_kind_of_problem(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(written(tmp_path, text), Outer)
    assert caught.value.problems == (problem,)


def test_a_section_that_is_not_there_gives_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "train:\n  rank: 4\n")
    assert load(path, EngineSettings, "engine") == EngineSettings()
    assert load(path, TrainSettings, "train").rank == 4
    assert load(written(tmp_path, "# nothing\n"), EngineSettings, "engine") == EngineSettings()


def test_a_section_must_hold_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine \(line 1\) is 3; it must hold keys and values"):
        load(written(tmp_path, "engine: 3"), EngineSettings, "engine")


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "\t- x"])
def test_what_is_not_keys_and_values_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"some\.yaml"):
        load(written(tmp_path, text), Outer)


def test_an_unknown_preset_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'lapptop' cannot be read.*Did you mean 'laptop'\?"):
        load("lapptop", EngineSettings, "engine")


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid_and_begins_with_its_command(name: str) -> None:
    load(name, EngineSettings, "engine")
    load(name, TrainSettings, "train")
    first = (Path(__file__).parents[2] / "configs" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# homefire ")
    assert f"--config {name}" in first


def test_the_presets_are_there_and_name_models_as_text(tmp_path: Path) -> None:
    assert {"laptop", "gpu-server"} <= set(presets())
    assert model_name("laptop") == "smollm2-135m"
    assert model_name("gpu-server") is None
    with pytest.raises(ConfigError, match="expected the name of a model"):
        model_name(written(tmp_path, "model: 3"))
