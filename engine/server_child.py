"""The process that `server` starts: vLLM's OpenAI-compatible server, which never outlives the process that asked for it.

Knows no settings: its arguments are vLLM's own. Its standard input is a pipe that is never written to; the end of it ends this process. The
processes that vLLM starts import this module again, and ask the kernel to end them with this one.
"""

from __future__ import annotations

import os
import runpy
import select
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Sequence

from homefire.engine.parent_watch import end_with_starter, expect_children

SCRATCH = "VLLM_RPC_BASE_PATH"
"""Names the folder of the sockets between vLLM's processes; it goes when this process does."""
_VLLM = "vllm.entrypoints.openai.api_server"


def main(arguments: Sequence[str]) -> None:
    """Runs vLLM's server with these arguments, as its own command would."""
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="parent watch", daemon=True).start()
    expect_children()
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=r".*vllm\.entrypoints\.openai\.api_server")
    sys.argv = ["homefire-serve", *arguments]
    runpy.run_module(_VLLM, run_name="__main__")


def _end_with_parent(parent: int) -> None:
    """Waits for the end of the process that started this one; a thread of that one may well end earlier, so the kernel is not asked."""
    while os.getppid() == parent:
        if select.select([0], [], [], 1.0)[0] and not os.read(0, 1):
            break
    shutil.rmtree(os.environ.get(SCRATCH, ""), ignore_errors=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
elif __name__ == "__mp_main__":
    end_with_starter()
