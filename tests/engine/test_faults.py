"""Engines that die, and programs that die with an engine: nothing hangs, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from homefire.engine.choice import choose
from homefire.engine.engine_process import death
from homefire.engine.lm import LM
from homefire.engine.machine import detect
from homefire.engine.model_facts import model_facts
from homefire.engine.pool import close_engines
from homefire.engine.request import Message, Request, Sampling
from homefire.engine.settings import EngineSettings
from homefire.engine.threaded_engine import ThreadedEngine
from homefire.engine.vllm_backend import VllmBackend
from homefire.errors import EngineError

OWN = EngineSettings(own_process=True, context=512, max_batch=8, kv_cache_gib=0.2)
SCRIPT = """
import sys
from homefire import LM
from homefire.engine.request import Message, Request, Sampling
from homefire.engine.settings import EngineSettings

print("the script runs", flush=True)
lm = LM(sys.argv[1], settings=EngineSettings(own_process=True, context=512, max_batch=8, kv_cache_gib=0.2))
requests = [Request(messages=(Message("user", f"Write a book about {n}."),), sampling=Sampling(max_tokens=400)) for n in range(8)]
engine = lm.engine()
futures = [engine.submit(request) for request in requests]
print("the batch runs", flush=True)
print(futures[0].result())
"""
CHILDREN = """
import multiprocessing
from homefire.engine.engine_process import no_main_module

print("the script runs", flush=True)
with no_main_module():
    child = multiprocessing.get_context("spawn").Process(target=print, args=("the child runs",))
    child.start()
child.join()
print("ended with", child.exitcode)
"""
WAIT = 300.0


def story(number: int, max_tokens: int = 300) -> Request:
    return Request(messages=(Message("user", f"Write a book about {number}."),), sampling=Sampling(max_tokens=max_tokens))


def processes_of(engine: Any) -> list[Any]:
    backend = engine._backend
    assert isinstance(backend, VllmBackend)
    return list(backend._engine.engine_core.resources.engine_manager.processes)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_engine_fails_its_batch_and_the_next_call_starts_another(smollm2: Path) -> None:
    lm = LM(str(smollm2), settings=OWN, max_tokens=4)
    try:
        engine = lm.engine()
        assert lm("Say hello.")[0]
        scores = engine.score(Request(messages=(Message("user", "Is fire hot?"),)), ["Yes.", "No.", "I cannot say."]).result(WAIT)
        assert len(scores) == 3
        assert all(score < 0 for score in scores)
        heard: list[str] = []
        futures = [engine.submit(story(number), lambda delta: heard.append(delta.text)) for number in range(6)]
        until(lambda: len(heard) > 6, WAIT)
        (process,) = processes_of(engine)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        for future in futures:
            with pytest.raises(EngineError, match=r"was killed by signal 9 \(SIGKILL\).*the next call of an LM starts a new one"):
                future.result(60)
        assert engine.closed
        until(lambda: not any(alive(worker) for worker in workers))
        assert lm("Say hello.")[0]
        assert lm.engine() is not engine
    finally:
        close_engines()


def test_a_killed_program_leaves_nothing(smollm2: Path, tmp_path: Path) -> None:
    """A plain script without a main guard, killed in the middle of a batch."""
    script = tmp_path / "plain.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, str(script), str(smollm2)]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "the script runs\n"
    assert program.stdout.readline() == "the batch runs\n"  # and the script did not run again in a child
    children = psutil.Process(program.pid).children(recursive=True)
    assert children
    maps = [part.path for process in (psutil.Process(program.pid), *children) for part in process.memory_maps()]
    shared = {Path(path) for path in maps if path.startswith("/dev/shm/")}
    program.kill()
    program.wait()
    until(lambda: not any(alive(child) for child in children))
    until(lambda: not any(path.exists() for path in shared))
    program.stdout.close()


@pytest.mark.parametrize("from_prompt", [False, True])
def test_children_start_from_plain_scripts_and_from_a_prompt(tmp_path: Path, from_prompt: bool) -> None:
    script = tmp_path / "plain.py"
    script.write_text(CHILDREN, encoding="utf-8")
    command = [sys.executable, "-i", "-q"] if from_prompt else [sys.executable, str(script)]
    typed = CHILDREN.replace("    child.start()", "    child.start()\n")
    done = subprocess.run(command, input=typed if from_prompt else "", capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "the script runs\nthe child runs\nended with 0\n"


def test_the_error_says_how_a_process_ended() -> None:
    class Ended:
        def __init__(self, exitcode: int) -> None:
            self.exitcode = exitcode

    def said(*codes: int) -> str:
        return str(death([Ended(code) for code in codes], "small"))  # type: ignore[misc]

    assert "was killed by signal 9 (SIGKILL). The system kills with that signal when memory runs out." in said(-9)
    assert "was killed by signal 11 (SIGSEGV). Its requests" in said(0, -11)
    assert "ended with exit code 3." in said(3)


def test_a_model_that_does_not_fit_says_how_much_is_missing(smollm2: Path) -> None:
    """With settings that another machine's memory would allow, so that vLLM itself refuses at its start."""
    wish = EngineSettings(context=256, kv_cache_gib=0.05)
    chosen = choose(wish, detect(), model_facts(smollm2))
    tiny = {"context": 8192, "kv_cache_gib": 0.01}
    with pytest.raises(EngineError, match=r"GiB.*(max_model_len|context|kv_cache_gib)"):
        ThreadedEngine("small", smollm2, type(chosen)(**{**fields_of(chosen), **tiny}), VllmBackend)


def fields_of(chosen: Any) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}
