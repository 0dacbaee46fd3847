"""The response cache on disk: several processes, kills, limits and sweeping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from homefire.engine.response_files import ResponseFiles

KEY = "ab" + "0" * 62
OTHER = "cd" + "0" * 62


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_an_entry_under_anothers_name_is_a_miss(tmp_path: Path) -> None:
    store = ResponseFiles(tmp_path, 10**9)
    store.write_later(KEY, lambda: b"[]")
    store.flush()
    (tmp_path / "cd").mkdir()
    os.replace(tmp_path / KEY[:2] / KEY[2:], tmp_path / OTHER[:2] / OTHER[2:])
    assert store.read(OTHER) is None and store.read(KEY) is None
    assert files(tmp_path) == []
    store.close()


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from homefire.engine.response_files import ResponseFiles
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        store = ResponseFiles(Path(sys.argv[1]), 10**9)
        for number in range(3):
            store.write_later(f"{number:064x}", lambda: b"x" * 1000)
            store.flush()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert " ".join(done.stderr.split()).count("not cached on disk any more") == 1
    assert files(tmp_path) == []


WRITER = """
    import sys
    from pathlib import Path
    from homefire.engine.response_files import ResponseFiles
    store, name = ResponseFiles(Path(sys.argv[1]), 10**9), sys.argv[2]
    bodies = {f"{number:02x}".ljust(64, "0"): f"[{number}]".encode() * 2000 for number in range(64)}
    print("ready", flush=True)
    for _ in range(int(sys.argv[3])):
        for key, body in bodies.items():
            store.write_later(key, lambda body=body: body)
            found = store.read(key)
            assert found is None or found == body
    store.close()
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    both = [subprocess.Popen([*command, name, "20"], stdout=subprocess.DEVNULL) for name in "ab"]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(files(tmp_path)) == 64
    store = ResponseFiles(tmp_path, 10**9)
    assert all(store.read(f"{number:02x}".ljust(64, "0")) == f"[{number}]".encode() * 2000 for number in range(64))


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_killed_process_leaves_no_bad_entry(tmp_path: Path) -> None:
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), "a", "1000000"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        count = len(files(tmp_path))
        while len(files(tmp_path)) <= count and count < 64:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        process.stdout.close()
    entries = [path for path in files(tmp_path) if not path.name.startswith(".")]
    store = ResponseFiles(tmp_path, 10**9)
    assert entries and all(store.read(path.parent.name + path.name) for path in entries)
    assert store.stats().entries == len(entries)


def test_answers_are_written_before_the_process_ends(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from homefire.engine.response_files import ResponseFiles
        store = ResponseFiles(Path(sys.argv[1]), 10**9)
        for number in range(500):
            store.write_later(f"{number:064x}", lambda: b"[]")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=120)
    assert len(files(tmp_path)) == 500


def test_the_oldest_go_when_the_limit_is_reached(tmp_path: Path) -> None:
    limit = 256 * 4000
    store = ResponseFiles(tmp_path, limit)
    keys = [f"ab{number:062x}" for number in range(200)]
    for number, key in enumerate(keys):
        store.write_later(key, lambda: b"x" * 120)
        store.flush()
        os.utime(tmp_path / key[:2] / key[2:], (number + 1, number + 1)) if store.read(key) else None
    left = [store.read(key) is not None for key in keys]
    assert store.stats().size < 1.5 * limit / 256
    assert left[-1] and not any(left[:100]) and left == sorted(left)
    store.close()


def test_what_killed_processes_left_is_swept_up(tmp_path: Path) -> None:
    store = ResponseFiles(tmp_path, 256)
    (tmp_path / "ab").mkdir()
    for name, age in ((".old", 7200), (".new", 10)):
        (tmp_path / "ab" / name).write_bytes(b"x")
        os.utime(tmp_path / "ab" / name, (time.time() - age, time.time() - age))
    store.write_later(KEY, lambda: b"x" * 1000)
    store.flush()
    assert [path.name for path in files(tmp_path)] == [".new"]
    store.close()
