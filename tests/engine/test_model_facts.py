"""Tests of homefire.engine.model_facts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homefire.engine.catalogue import CATALOGUE
from homefire.engine.model_facts import model_facts
from homefire.errors import UnknownModel


def checkpoint(folder: Path, config: object, *, weights: bool = True) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if weights:
        header = json.dumps({"__metadata__": {}, "a": {"dtype": "BF16", "shape": [10, 10], "data_offsets": [0, 200]}}).encode()
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(200))
    return folder


def test_the_catalogue_is_right_about_its_model(smollm2: Path) -> None:
    assert model_facts(smollm2) == CATALOGUE[0].facts


def test_what_a_configuration_leaves_out_is_derived(tmp_path: Path) -> None:
    facts = model_facts(
        checkpoint(tmp_path, {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32, "torch_dtype": "float16"})
    )
    assert (facts.kv_heads, facts.head_dim, facts.max_position, facts.dtype, facts.parameters) == (4, 8, 2048, "float16", 100)
    assert facts.kv_bytes_per_token("float16") == 2 * 2 * 4 * 8 * 2
    assert facts.weight_bytes("float32") == 400


def test_a_model_with_pictures_has_its_facts_one_level_deeper(tmp_path: Path) -> None:
    inner = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32, "num_key_value_heads": 2, "max_position_embeddings": 64}
    facts = model_facts(checkpoint(tmp_path, {"text_config": inner, "dtype": "bfloat16"}))
    assert (facts.kv_heads, facts.max_position, facts.dtype) == (2, 64, "bfloat16")


@pytest.mark.parametrize("config", [{}, [], {"num_attention_heads": 4}, {"num_attention_heads": "many"}, 3, None])
def test_a_configuration_of_something_else_is_refused(tmp_path: Path, config: object) -> None:
    with pytest.raises(UnknownModel, match=r"is not a checkpoint of a language model.*Give a folder with config\.json"):
        model_facts(checkpoint(tmp_path, config))


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32}, weights=False)
    with pytest.raises(UnknownModel, match="has no weights"):
        model_facts(folder)


def test_a_damaged_file_of_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32}, weights=False)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UnknownModel, match="cannot be used"):
        model_facts(folder)
