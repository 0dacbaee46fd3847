"""What tests share: the small real model, and switches that keep the libraries off the network and quiet.

Knows no single test. The model is fetched once into homefire's own directory, as a user gets it, and is there for the next run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    VLLM_NO_USAGE_STATS="1",
    DO_NOT_TRACK="1",
    TOKENIZERS_PARALLELISM="false",
    HOMEFIRE_CACHE="off",  # an answer of an earlier run proves nothing
)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the real model, and skip those that need a GPU where there is none."""
    gpu = shutil.which("nvidia-smi") is not None and subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    for item in items:
        if {"smollm2", "minilm"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("model")
        if item.get_closest_marker("gpu") and not gpu:
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
