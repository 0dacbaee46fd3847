"""Tests of homefire.configs.home. Processes are killed for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from homefire.configs.home import atomic_directory, home, require_directory, write_atomic
from homefire.errors import DiskError


def test_home_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "mine"))
    assert home() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the rule of the XDG base directories")
def test_home_is_in_the_cache_folder_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HOMEFIRE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "homefire"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / ".cache" / "homefire"


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    assert require_directory(tmp_path / "a" / "b", "tests") == tmp_path / "a" / "b"
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match=r"for models cannot be written.*HOMEFIRE_HOME="):
        require_directory(tmp_path / "file" / "models", "models")


def test_a_full_disk_is_named_with_the_bytes_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(DiskError, match=r"has 5 MB free, but models need 600 MB \(600,000,000 bytes\).*HOMEFIRE_HOME="):
        require_directory(tmp_path, "models", free_bytes=600_000_000)


def test_an_atomic_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "thing"
    with atomic_directory(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("x", encoding="utf-8")
        assert not target.exists()
    assert (target / "sub" / "file").read_text(encoding="utf-8") == "x"
    assert [path.name for path in target.parent.iterdir()] == ["thing"]


def test_an_atomic_directory_vanishes_on_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), atomic_directory(tmp_path / "thing") as folder:
        (folder / "file").write_text("x", encoding="utf-8")
        raise RuntimeError("broken")
    assert list(tmp_path.iterdir()) == []


def test_an_atomic_directory_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    with pytest.raises(FileExistsError), atomic_directory(tmp_path / "thing"):
        pytest.fail("the block must not run")


def test_a_full_disk_inside_the_block_is_a_disk_error(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No space is left"), atomic_directory(tmp_path / "thing"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


_HANGS = """
import sys, time
from pathlib import Path
from homefire.configs.home import atomic_directory
with atomic_directory(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_let_be(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    dead, alive = (subprocess.Popen([sys.executable, "-c", _HANGS, str(target)], stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        for process in (dead, alive):
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
        dead.kill()
        dead.wait()
        assert not target.exists()
        assert len(list(tmp_path.glob(".thing.tmp-*/half"))) == 2
        with atomic_directory(target) as folder:
            (folder / "whole").write_text("x", encoding="utf-8")
        assert len(list(tmp_path.glob(".thing.tmp-*/half"))) == 1
        assert os.listdir(target) == ["whole"]
    finally:
        for process in (dead, alive):
            process.kill()
            process.communicate()


def test_write_atomic_makes_parents_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_atomic(path, "ä")
    write_atomic(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_write_atomic_keeps_the_old_content_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match="No space is left"):
        write_atomic(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_atomic_says_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below", "x")
