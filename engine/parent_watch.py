"""Children that never outlive the process that started them, however that one ends.

Knows no engine. Imported first of all in a child, so it needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

STARTER = "HOMEFIRE_STARTER"
"""Environment variable with the id of the process that starts the next ones."""
_PR_SET_PDEATHSIG = 1


def expect_children() -> None:
    """Makes this process the one that those started from here on must not outlive."""
    os.environ[STARTER] = str(os.getpid())


def end_with_starter() -> None:
    """In a child: the kernel kills it when its starter ends. Its own children then end with it. Only Linux's kernel does this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(os.environ.get(STARTER, os.getppid())):  # it ended before the kernel was asked
            os._exit(1)
    expect_children()
