"""A store holds exactly what was committed, whatever happens to the process, the disk and the files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from homefire.errors import DiskError, HomefireError, InputError
from homefire.retrieval import late_training
from homefire.retrieval.late_store import LateInteractionStore
from tests.late_data import IDS, PASSAGES, filled


@pytest.fixture(autouse=True)
def compressed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand tokens are enough for a codec here."""
    monkeypatch.setattr(late_training, "COMPRESS_FROM", 1000)


WRITER = """
import sys
import numpy as np
from homefire.retrieval import late_training
from homefire.retrieval.late_store import LateInteractionStore

late_training.COMPRESS_FROM = 1000
store = LateInteractionStore.open(sys.argv[1])
draw = np.random.default_rng(0)
number = 0
print("ready", flush=True)
while True:
    vectors = draw.normal(size=(40, 10, 24)).astype(np.float32)
    store.add([f"{number} {place}" for place in range(40)], list(vectors / np.linalg.norm(vectors, axis=2, keepdims=True)))
    if number >= 2:
        store.delete([f"{number - 2} {place}" for place in range(40)])
    if number % 3 == 2:
        store.compact()
    number += 1
"""


def test_a_killed_writer_leaves_a_whole_store(tmp_path: Path) -> None:
    """Killed again and again in the middle of add, delete and compact: batches are there as a whole or not at all."""
    folder = tmp_path / "store"
    LateInteractionStore.create(folder, 24)
    pauses = np.random.default_rng(int.from_bytes(os.urandom(2))).uniform(0.02, 0.4, size=6)
    print("pauses:", pauses.tolist())
    for pause in pauses:
        shutil.rmtree(folder)
        LateInteractionStore.create(folder, 24)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
        assert LateInteractionStore.check(folder).is_whole
        store = LateInteractionStore.open(folder)
        ids = list(store.ids())
        batches = {one.split()[0] for one in ids}
        assert len(ids) == len(set(ids)) == 40 * len(batches)
        assert len(batches) <= 3
        store.add(["after"], PASSAGES[:1])
        assert LateInteractionStore.check(folder).is_whole
        named = set(json.loads((folder / "manifest.json").read_text())["files"])
        there = {path.relative_to(folder).as_posix() for kind in ("segments", "codecs", "deleted") for path in (folder / kind).rglob("*.*")}
        assert {name for name in there if (folder / name).is_file()} == named


def test_a_full_disk_leaves_the_state_before(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    store = filled(tmp_path / "store")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            store.add([f"more {number}" for number in range(300)], PASSAGES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(store) == 300
    assert LateInteractionStore.check(tmp_path / "store").is_whole
    store.add(["more"], PASSAGES[:1])
    assert len(LateInteractionStore.open(tmp_path / "store")) == 301


def test_damage_is_found_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    store = filled(tmp_path / "store", IDS[:250], PASSAGES[:250])
    store.add(IDS[250:260], PASSAGES[250:260])
    store.delete(["text 259"])
    assert store.stats().segments == 2
    small = store._snapshot.views[1].entry.name
    for file in sorted((tmp_path / "store" / small).iterdir()):
        copy = tmp_path / "damaged"
        shutil.copytree(tmp_path / "store", copy)
        damaged = copy / small / file.name
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
        check = LateInteractionStore.check(copy)
        assert check.problems == (f"{small}/{file.name} is not what was written",)
        assert not check.repaired
        mended = LateInteractionStore.check(copy, repair=True)
        assert mended.repaired
        assert mended.lost_texts == 9
        if not file.name.startswith("id"):
            assert set(mended.lost) == set(IDS[250:260])
        assert LateInteractionStore.check(copy).is_whole
        reopened = LateInteractionStore.open(copy)
        assert sorted(reopened.ids()) == sorted(IDS[:250])
        reopened.add(IDS[250:], PASSAGES[250:])
        shutil.rmtree(copy)


def test_a_truncated_or_missing_file_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    heads = tmp_path / "store" / store._snapshot.views[0].entry.name / "heads.npy"
    heads.write_bytes(heads.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"heads.npy has \d+ bytes, but \d+ were written. Mend it with"):
        LateInteractionStore.open(tmp_path / "store")
    heads.unlink()
    with pytest.raises(InputError, match=r"heads.npy, which manifest.json names, is missing"):
        LateInteractionStore.open(tmp_path / "store")
    assert LateInteractionStore.check(tmp_path / "store", repair=True).lost_texts == 300
    assert len(LateInteractionStore.open(tmp_path / "store")) == 0


def test_a_store_without_its_codec_keeps_what_needs_none(tmp_path: Path) -> None:
    store = filled(tmp_path / "store")
    codec = tmp_path / "store" / str(store._snapshot.manifest.codec)
    (codec / "codec.json").write_text("{}")
    with pytest.raises(InputError, match=r"codec\.json"):
        LateInteractionStore.open(tmp_path / "store")
    assert LateInteractionStore.check(tmp_path / "store", repair=True).lost_texts == 300
    store = LateInteractionStore.open(tmp_path / "store")
    store.add(IDS, PASSAGES)
    assert store.stats().centroids > 0


def test_a_lost_manifest_is_restored(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    (tmp_path / "store" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        LateInteractionStore.open(tmp_path / "store")
    check = LateInteractionStore.check(tmp_path / "store", repair=True)
    assert check.repaired
    assert check.lost == ()
    assert len(LateInteractionStore.open(tmp_path / "store")) == 300
    with pytest.raises(HomefireError, match="There is no"):
        LateInteractionStore.check(tmp_path / "nowhere")
