"""The main module of an engine's own processes: it ends them with the process that started them, however that ends.

Knows no engine. It stands in for the user's script, which must not run again in a child.
"""

from __future__ import annotations

import os
import sys

from homefire.engine.machine import parse_cores
from homefire.engine.parent_watch import end_with_starter

CORES = "HOMEFIRE_ENGINE_CORES"
"""Environment variable with the cores that compute, as in `0-3`; empty or absent: all."""


def keep_to_cores(text: str) -> None:
    """Lets this thread, and those that it starts, compute on these cores alone; torch, not yet imported, starts one thread on each."""
    cores = parse_cores(text)
    os.environ["OMP_NUM_THREADS"] = str(len(cores))
    if sys.platform == "linux":
        os.sched_setaffinity(0, cores)


if __name__ == "__mp_main__":
    os.setpgid(0, 0)  # Ctrl-C is left to the parent
    end_with_starter()
    if os.environ.get(CORES):
        keep_to_cores(os.environ[CORES])
