"""What tests share: the small real model, and switches that keep the libraries off the network and quiet.

Knows no single test. The model is fetched once into homefire's own directory, as a user gets it, and is there for the next run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

MOST_MEMORY = 4 * 2**30
"""Bytes that a process of tests may take when a file of them ends before its engines are closed."""

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    TOKENIZERS_PARALLELISM="false",
    HOMEFIRE_CACHE="off",  # an answer of an earlier run proves nothing
)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy one is no failure
settings.load_profile("any machine")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background; programs that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The checkpoint folder of SmolLM2-135M-Instruct."""
    from homefire.engine.catalogue import pull

    return pull("smollm2-135m")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the sentence encoder all-MiniLM-L6-v2."""
    from homefire.engine.catalogue import pull

    return pull("all-minilm-l6-v2")


@pytest.fixture(scope="module", autouse=True)
def roomy() -> Iterator[None]:
    """Engines are kept for the next file, which often wants the same ones, as long as they leave room."""
    yield
    pool = sys.modules.get("homefire.engine.pool")
    if pool is not None and psutil.Process().memory_info().rss > MOST_MEMORY:
        pool.close_engines()


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several workers cores of its own: two engines that share a core wait for each other's threads at every layer."""
    worker = getattr(config, "workerinput", None)
    if worker is not None and sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        if len(cores) >= count:
            os.sched_setaffinity(0, cores[number % count :: count])  # one that takes the place of a dead one has a number beyond the count


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers for `-n auto`: a second one pays, since much of the time is imports and loading. One where a GPU is to be shared."""
    return 1 if has_gpu() or (os.cpu_count() or 1) < 2 else 2


@cache
def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the real model, and skip those that need a GPU where there is none."""
    for item in items:
        if {"smollm2", "minilm"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("model")
        if item.get_closest_marker("gpu") and not has_gpu():
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
