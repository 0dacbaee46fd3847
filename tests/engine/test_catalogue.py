"""Tests of homefire.engine.catalogue: what names mean, here and without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homefire.engine.catalogue import CATALOGUE, available, parse, pull, resolve, where
from homefire.engine.checkpoint import PullError
from homefire.errors import UnknownModel


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HOMEFIRE_MODEL", raising=False)
    return tmp_path / "home"


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.fixture
def pulled(own_home: Path) -> Path:
    """The default model, as far as names go."""
    return checkpoint(own_home / "models" / "smollm2-135m")


def test_the_real_model_is_whole_and_needs_no_network_again(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(subprocess, "Popen", None)
    stages: list[str] = []
    assert pull("smollm2-135m", on_progress=stages.append) == smollm2
    assert stages == []
    assert resolve("smollm2-135m").path == where("smollm2-135m") == smollm2
    assert json.loads((smollm2 / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
    assert "<|im_start|>" in (smollm2 / "chat_template.jinja").read_text(encoding="utf-8")
    with (smollm2 / "model.safetensors").open("rb") as file:
        tensors = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {tensor["dtype"] for name, tensor in tensors.items() if name != "__metadata__"} == {"BF16"}


@pytest.mark.parametrize(
    ("name", "backend", "bare"),
    [
        (None, "auto", "smollm2-135m"),
        ("smollm2-135m", "auto", "smollm2-135m"),
        ("SmolLM2-135M", "auto", "SmolLM2-135M"),
        ("vllm/smollm2-135m", "vllm", "smollm2-135m"),
        ("transformers/smollm2-135m", "transformers", "smollm2-135m"),
    ],
)
def test_a_prefix_chooses_the_backend(pulled: Path, name: str | None, backend: str, bare: str) -> None:
    found = resolve(name)
    assert (found.backend, found.name, found.path) == (backend, bare, pulled)


def test_the_environment_names_the_default(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "other")
    monkeypatch.setenv("HOMEFIRE_MODEL", f"transformers/{folder}")
    assert (resolve().path, resolve().backend) == (folder, "transformers")


def test_what_was_not_pulled_names_the_command_and_fetches_nothing(own_home: Path) -> None:
    with pytest.raises(UnknownModel, match=r"not on this machine yet\. Fetch it once with: homefire models pull smollm2-135m"):
        resolve()
    assert not own_home.exists()


def test_a_folder_is_a_model(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint(tmp_path / "mine")
    assert resolve(str(folder)).path == where(str(folder)) == pull(str(folder)) == folder
    monkeypatch.chdir(tmp_path)
    assert resolve("mine").path == resolve("vllm/./mine").path == folder


def test_a_folder_of_something_else_is_refused(own_home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"holds no checkpoint that can be loaded. Expected config\.json"):
        resolve(str(tmp_path))
    (tmp_path / "a.gguf").write_bytes(b"")
    with pytest.raises(UnknownModel, match=r"Name the GGUF file in it: .*a\.gguf"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["openai/gpt-4o-mini", "ollama_chat/llama3.2", "anthropic/claude", "databricks/some-model", "azure/x"])
def test_remote_models_are_found_without_asking_and_cannot_be_fetched(own_home: Path, name: str) -> None:
    assert (resolve(name).backend, resolve(name).name, resolve(name).path) == ("remote", name, None)
    for function in (where, pull):
        with pytest.raises(UnknownModel, match=rf"{name}' runs on a server.*vllm/{name}"):
            function(name)


def test_services_of_another_protocol_are_refused_clearly(own_home: Path) -> None:
    for function in (resolve, where, pull):
        with pytest.raises(UnknownModel, match=r"bedrock/x' is a model of a service.*LM\('openai/x', api_base=\.\.\.\).*vllm/bedrock/x"):
            function("bedrock/x")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("smolm2-135", "Did you mean 'smollm2-135m'?"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "homefire models pull HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("zzz", "The catalogue has smollm2-135m, all-minilm-l6-v2, static-minilm; "),
        ("gpt-4o-mini", "a model on a server is named with it: openai/gpt-4o-mini."),
        ("nobody/zzz", "homefire models pull nobody/zzz"),
        ("missing.gguf", "There is no file missing.gguf."),
        ("../nowhere", "There is no model"),
        ("a/b/c", "There is no model"),
    ],
)
def test_unknown_names_say_what_to_do(own_home: Path, name: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownModel) as caught:
        resolve(name)
    assert says in str(caught.value)


def test_pulling_an_unknown_name_is_the_same_error(own_home: Path) -> None:
    with pytest.raises(UnknownModel, match="There is no model 'zzz'"):
        pull("zzz")


def test_an_encoder_cannot_be_talked_to(own_home: Path) -> None:
    folder = checkpoint(own_home / "models" / "all-minilm-l6-v2")
    assert where("all-minilm-l6-v2") == folder
    with pytest.raises(UnknownModel, match="is an encoder and cannot write text; expected a language model, such as smollm2-135m"):
        resolve("all-minilm-l6-v2")


def test_the_list_has_the_catalogue_and_what_was_converted(pulled: Path, own_home: Path) -> None:
    converted = checkpoint(own_home / "models" / "mine-01234567")
    (own_home / "models" / ".half.tmp-1").mkdir()
    entries = {entry.name: entry for entry in available()}
    assert entries["smollm2-135m"].path == pulled
    assert not entries["all-minilm-l6-v2"].pulled
    assert entries["all-minilm-l6-v2"].disk_bytes == CATALOGUE[1].disk_bytes
    assert entries[str(converted)].pulled


_HUB = """
import json, sys
from homefire.engine.catalogue import available, resolve
print(json.dumps([str(resolve("org/name").path), [entry.name for entry in available()]]))
"""


def test_a_model_in_the_hugging_face_cache_is_found_offline(own_home: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = checkpoint(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _HUB], env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}, capture_output=True, text=True, check=True
    )
    path, names = json.loads(done.stdout)
    assert path == str(snapshot)
    assert "org/name" in names
    shutil.rmtree(snapshot)
    again = subprocess.run(
        [sys.executable, "-c", _HUB], env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub")}, capture_output=True, check=False
    )
    assert b"UnknownModel" in again.stderr


def test_a_hugging_face_model_without_a_network_is_a_clear_error(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    stages: list[str] = []
    with pytest.raises(PullError, match=r"nobody/zzz could not be fetched from Hugging Face: .*repeat: homefire models pull nobody/zzz"):
        pull("nobody/zzz", on_progress=stages.append)
    assert stages == ["downloading"]


def test_parse_tells_backend_and_name_of_what_need_not_exist() -> None:
    assert parse("vllm/org/name") == ("vllm", "org/name")
    assert parse("vllm/openai/gpt-oss-20b") == ("vllm", "openai/gpt-oss-20b")
    assert parse("org/name") == ("auto", "org/name")
