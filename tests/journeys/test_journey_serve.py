"""Journey: `homefire serve` as a user runs it. It answers, comes back when its engine dies, and leaves nothing, however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

PRESET = "model: {model}\nengine:\n  context: 1024\n  kv_cache_gib: 0.25\n  max_batch: 8\n"
KEY = "a-long-random-text"
PATIENCE = 300


@pytest.fixture
def folder(smollm2: Path, tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(PRESET.format(model=smollm2), encoding="utf-8")
    return tmp_path


@pytest.fixture
def begun(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server that is starting, with temporary files of its own."""
    temporary = Path(tempfile.mkdtemp(prefix="h"))  # pytest's own folders have names too long for sockets
    (folder / "temporary").symlink_to(temporary)
    more = {"HOMEFIRE_HOME": str(folder / "home"), "HOMEFIRE_API_KEY": KEY, "TMPDIR": str(temporary), "COLUMNS": "200"}
    command = [sys.executable, "-m", "homefire", "serve", "--port", "0", "--config", "small.yaml"]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores it, and so would a child
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **more}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        signal.signal(signal.SIGINT, handler)
        yield process
        process.kill()
    shutil.rmtree(temporary)


def family(process: subprocess.Popen[str], least: int) -> list[psutil.Process]:
    """Everything that the command has started, once there are so many processes, the engine's workers among them."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        found = psutil.Process(process.pid).children(recursive=True)
        if len(found) >= least:
            return found
        time.sleep(0.2)
    pytest.fail(f"the server did not start: {process.poll()}")


def ended(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that live on after a while."""
    deadline = time.monotonic() + 30
    while (left := [one for one in processes if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def shared_memory(processes: list[psutil.Process]) -> set[str]:
    """Files in shared memory that these processes hold."""
    held: set[str] = set()
    for process in processes:
        maps = Path(f"/proc/{process.pid}/maps")
        held |= set(re.findall(r"/dev/shm/\S+", maps.read_text(encoding="utf-8"))) if maps.exists() else set()
    return {path for path in held if Path(path).exists()}


def hello(url: str) -> str:
    with openai.OpenAI(base_url=url, api_key=KEY, timeout=PATIENCE, max_retries=0) as client:
        model = client.models.list().data[0].id
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Say hello."}], max_tokens=5)
        return answer.choices[0].message.content or ""


def test_it_serves_comes_back_and_ends_on_ctrl_c(begun: subprocess.Popen[str], folder: Path) -> None:
    assert begun.stdout is not None and begun.stderr is not None
    line = begun.stdout.readline()
    assert re.search(r"answers at http://127\.0\.0\.1:\d+/v1$", line), line + begun.stderr.read()
    url, examples = line.split()[-1], begun.stdout.readline() + begun.stdout.readline()
    assert f"curl {url}/chat/completions" in examples and "hosted_vllm/" in examples and KEY not in examples
    assert hello(url)
    before = family(begun, 3)
    memory = shared_memory(before)
    engine = next(one for one in before if "EngineCore" in one.name() or "EngineCore" in " ".join(one.cmdline()))
    engine.send_signal(signal.SIGKILL)
    while "It is started again" not in (told := begun.stderr.readline()):
        assert told
    assert ended(before) == []
    assert again(url)
    after = family(begun, 3)
    memory |= shared_memory(after)
    begun.send_signal(signal.SIGINT)
    out, errors = begun.communicate(timeout=PATIENCE)
    assert begun.returncode == 0, errors
    assert KEY not in out + errors
    assert "Traceback" not in errors
    assert ended(after) == []
    assert memory and [path for path in memory if Path(path).exists()] == []
    assert list((folder / "temporary").glob("homefire-*")) == []


def again(url: str) -> str:
    """The answer of a server that is being started."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            return hello(url)
        except openai.APIConnectionError:
            time.sleep(0.5)
    return ""


def test_killed_while_it_starts_it_leaves_nothing(begun: subprocess.Popen[str], folder: Path) -> None:
    started = family(begun, 3)
    begun.kill()
    begun.wait(timeout=PATIENCE)
    assert ended(started) == []
    deadline = time.monotonic() + 30
    while (left := list((folder / "temporary").glob("homefire-*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--host", "0.0.0.0"], 2, "needs an API key"),
        (["--config", "absent.yaml"], 2, "absent.yaml"),
        (["no-such-model"], 2, "There is no model"),
        (["--adapter", "nobody"], 1, "There is no adapter 'nobody'"),
        (["--port", "70000"], 2, "65535"),
    ],
)
def test_what_is_refused_before_anything_starts(folder: Path, options: list[str], code: int, message: str) -> None:
    settings = [] if "--config" in options else ["--config", "small.yaml"]
    environment = {name: value for name, value in os.environ.items() if name != "HOMEFIRE_API_KEY"} | {
        "HOMEFIRE_HOME": str(folder / "home")
    }
    command = [sys.executable, "-m", "homefire", "serve", *settings, *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, message in done.stderr.replace("\n", " ")) == (code, True), done.stderr
