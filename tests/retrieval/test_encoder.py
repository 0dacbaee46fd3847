"""Encoders give one vector a text, in order; the real one agrees with itself however the texts are batched."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import InputError, MissingExtra
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.sentence_encoder import SentenceEncoder


def test_hashed_words_decide_how_close_texts_are() -> None:
    vectors = HashEncoder().encode_passages(["The cat sat.", "the CAT sat", "a cat ran", "quantum field theory"])
    same, close, far = (float(vectors[0] @ vectors[other]) for other in (1, 2, 3))
    assert same == pytest.approx(1)
    assert same > close > far
    assert vectors.dtype == np.float32


def test_hashed_vectors_are_the_same_in_every_process() -> None:
    [vector] = HashEncoder(dim=8).encode_queries(["one two two"])
    assert vector.tolist() == pytest.approx([0, 0.894427, 0, 0, 0.447214, 0, 0, 0], abs=1e-6), "indexes on disk depend on it"


def test_a_text_without_words_is_all_zeros_and_no_texts_are_no_vectors() -> None:
    assert not HashEncoder(dim=16).encode_passages(["", "?!"]).any()
    assert HashEncoder(dim=16).encode_passages([]).shape == (0, 16)


def test_a_vector_needs_a_length() -> None:
    with pytest.raises(InputError, match="dim is 0"):
        HashEncoder(dim=0)


def test_without_the_packages_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r'pip install "homefire\[retrieval\]"'):
        SentenceEncoder("anything")


UNKNOWN = """
import socket, sys
def connect(*arguments, **options):
    print("NETWORK", arguments)
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = connect
from homefire.errors import UnknownModel
from homefire.retrieval.sentence_encoder import SentenceEncoder
for name in sys.argv[1:]:
    try:
        SentenceEncoder(name)
    except UnknownModel as error:
        print(error)
"""


def test_an_unknown_model_is_looked_for_on_this_machine_only(tmp_path: Path) -> None:
    (tmp_path / "models" / "empty").mkdir(parents=True)
    online = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    command = [sys.executable, "-c", UNKNOWN, "no-such-org/no-such-model", "empty"]
    environment = online | {"HOMEFIRE_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True, timeout=300)
    absent, empty = done.stdout.splitlines()
    assert "'no-such-org/no-such-model' on this machine: it is no folder" in absent
    assert "models/empty' cannot be loaded" in empty
    assert empty.endswith("homefire models pull all-minilm-l6-v2")
    assert done.stderr == ""


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> SentenceEncoder:
    return SentenceEncoder(minilm)


@pytest.mark.model
def test_the_real_encoder_understands_paraphrases(encoder: SentenceEncoder) -> None:
    [query] = encoder.encode_queries(["How do I undo a commit?"])
    passages = encoder.encode_passages(["Reverting changes in version control", "Baking bread at home", "The commit of a crime"])
    assert int((passages @ query).argmax()) == 0
    assert encoder.dim == 384
    assert np.linalg.norm(passages, axis=1) == pytest.approx(np.ones(3), abs=1e-4)


@pytest.mark.model
def test_order_and_vectors_do_not_depend_on_the_batch(encoder: SentenceEncoder) -> None:
    texts = ["short", "a somewhat longer text about nothing much " * 8, "", "mid size text", "x " * 300, "short"]
    together = encoder.encode_passages(texts)
    alone = np.concatenate([encoder.encode_passages([text]) for text in texts])
    assert together == pytest.approx(alone, abs=1e-4)
    assert encoder.encode_passages([]).shape == (0, 384)


@pytest.mark.model
def test_small_batches_use_one_core_and_leave_the_callers_threads_alone(encoder: SentenceEncoder) -> None:
    import torch

    before = torch.get_num_threads()
    encoder.encode_queries(["what is this"])
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == before
    if encoder.batches.model.device.type == "cpu":
        assert encoder.batches.where_it_is_fastest(["short"], torch.get_num_threads) == 1
    assert encoder.batches.where_it_is_fastest(["long " * 1000], torch.get_num_threads) == before


@pytest.mark.model
def test_many_threads_may_encode_at_once(encoder: SentenceEncoder) -> None:
    queries = [f"question number {number}" for number in range(16)]
    with ThreadPoolExecutor(8) as threads:
        vectors = np.concatenate(list(threads.map(lambda query: encoder.encode_queries([query]), queries)))
    assert vectors == pytest.approx(encoder.encode_queries(queries), abs=1e-4)


@pytest.mark.model
def test_a_pulled_model_is_found_by_its_name(minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my-encoder").symlink_to(minilm, target_is_directory=True)
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path))
    assert SentenceEncoder("my-encoder").name == minilm.resolve().name
