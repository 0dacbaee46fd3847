"""Tests of homefire.engine.machine: the real machine, and drivers that answer oddly, as small programs on the path."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from homefire.engine import machine as module
from homefire.engine.machine import core_ranges, detect, parse_cores

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="uses small shell programs")


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts an `nvidia-smi` first on the path."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


TWO_GPUS = """cat <<'END'
0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 81559, 80994, 570.86.10, 9.0
1, GPU-bbbb-2, Tesla T4, 15360, 15000, 570.86.10, 7.5
END"""


def test_this_machine_is_seen() -> None:
    machine = detect()
    assert set(machine.physical_cores) <= set(machine.cores)
    assert machine.physical_cores
    assert 0 < machine.memory_available <= machine.memory_total
    assert machine.disk_free > 0
    assert "transformers" in machine.packages
    if sys.platform == "linux":
        assert machine.cores == tuple(sorted(os.sched_getaffinity(0)))


@pytest.mark.skipif(sys.platform != "linux", reason="affinity")
def test_only_cores_that_this_process_may_use_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        machine = detect()
    finally:
        os.sched_setaffinity(0, before)
    assert machine.cores == machine.physical_cores == (min(before),)


def test_gpus_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, TWO_GPUS)
    first, second = detect().gpus
    assert (first.name, first.memory_total, first.capability) == ("NVIDIA H100 80GB HBM3", 81559 * 2**20, (9, 0))
    assert (second.index, second.memory_free, second.capability, second.driver) == (1, 15000 * 2**20, (7, 5), "570.86.10")


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1", ["Tesla T4"]), ("1,0", ["Tesla T4", "NVIDIA H100 80GB HBM3"]), ("GPU-bb", ["Tesla T4"]), ("", []), ("-1,0", [])],
)
def test_only_visible_gpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]) -> None:
    driver(tmp_path, monkeypatch, TWO_GPUS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in detect().gpus] == names


@pytest.mark.parametrize("script", ["exit 9", "echo 'No devices were found'", "echo 'Failed to initialize NVML'; exit 255", "kill -9 $$"])
def test_a_driver_that_fails_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    driver(tmp_path, monkeypatch, script)
    assert detect().gpus == ()


def test_a_driver_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "exec sleep 300")
    monkeypatch.setattr(module, "DRIVER_SECONDS", 0.5)
    start = time.monotonic()
    assert detect().gpus == ()
    assert time.monotonic() - start < 300


def test_memory_shared_with_the_processor_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "echo '0, GPU-c, NVIDIA GB10, [N/A], [N/A], 580.1, 12.1'")
    machine = detect()
    assert machine.gpus[0].memory_total == machine.memory_total
    assert machine.gpus[0].capability == (12, 1)


def control_group(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """Makes this process look as if a container limited it."""
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text, encoding="utf-8")
    monkeypatch.setattr(module, "_cgroups", lambda controller: [str(folder)])


@pytest.mark.skipif(sys.platform != "linux", reason="control groups")
def test_the_limits_of_a_container_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control_group(
        tmp_path,
        monkeypatch,
        cpu_max="150000 100000",
        memory_max="1073741824",
        memory_current="536870912",
        memory_stat="inactive_file 104857600",
    )
    machine = detect()
    assert len(machine.physical_cores) == 1
    assert machine.memory_total == 2**30
    assert machine.memory_available == min(2**30 - (536870912 - 104857600), machine.memory_available)


def test_the_memory_of_the_cores_own_node_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NODES", tmp_path)
    assert detect().node_available is None
    other, own = tmp_path / "node0", tmp_path / "node1"
    for node, cores, free in ((other, "10000-10003", 111), (own, core_ranges(detect().cores), 222)):
        node.mkdir()
        (node / "cpulist").write_text(f"{cores}\n", encoding="utf-8")
        lines = {"MemTotal": 9999, "MemFree": free, "Active(file)": 3, "Inactive(file)": 2, "Inactive(anon)": 50, "SReclaimable": 1}
        text = "".join(f"Node {node.name[-1]} {name}:       {kib} kB\n" for name, kib in lines.items())
        (node / "meminfo").write_text(text, encoding="utf-8")
    assert detect().node_available == 228 * 1024
    (own / "meminfo").write_text("nothing of use", encoding="utf-8")
    assert detect().node_available is None


@pytest.mark.skipif(sys.platform != "linux", reason="control groups")
def test_a_container_without_limits_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = detect()
    control_group(tmp_path, monkeypatch, cpu_max="max 100000", memory_max="max", memory_current="1")
    assert (detect().memory_total, detect().physical_cores) == (free.memory_total, free.physical_cores)


@pytest.mark.parametrize(("cores", "text"), [((0,), "0"), ((0, 1), "0-1"), ((0, 2, 3, 4, 9), "0,2-4,9"), ((), "")])
def test_cores_as_ranges(cores: tuple[int, ...], text: str) -> None:
    assert core_ranges(cores) == text
    if cores:
        assert parse_cores(text) == cores


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-", "0;1", "0,,1", "-1"])
def test_what_is_no_list_of_cores_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a core"):
        parse_cores(text)
