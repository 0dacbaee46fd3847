"""Kills, full disks and several processes: an index is always whole, and holds exactly what was committed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from homefire.errors import DiskError, InputError
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.index_check import check_index
from tests.retrieval.index_samples import ids, numbered

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, limits and forks of POSIX")

_KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.document import Document
from homefire.retrieval.passage import Passage
from homefire.retrieval.index import Index
from homefire.retrieval.index_check import check_index
from homefire.retrieval.index_writer import IndexWriter
import bm25s, faiss, numpy, Stemmer  # once for all children
faiss.omp_set_num_threads(1)
os.fsync = lambda descriptor: None  # a kill loses nothing that the system has, and the disk's speed is not what is tried

directory, seed, kills, log = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
draw = random.Random(seed)


def documents(version, count=12):
    return [Document(f"{n}.md", f"Document {n}, version {version}, word{n * version % 17}, word{n + version}.") for n in range(count)]


def extra(version):
    return {f"{version}-{n}.txt": f"Passage {n} of version {version}, a document." for n in range(5)}


def work(version, kind):
    # Says before a commit what it will hold, and after it that it is done: what is on the disk is one or the other.
    encoder = HashEncoder(16)
    commit = IndexWriter.commit

    def told(writer):
        snapshot = commit(writer)
        os.write(journal, b"done\\n")
        return snapshot

    IndexWriter.commit = told
    journal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    if kind == "build":
        Index.build(directory, documents(version), encoder)
        return
    index = Index.open(directory, encoder)
    if kind == "update":
        index.update(documents(version), prune=True, progress=False)
    elif kind == "add":
        index.add([Passage(id=source, source=source, text=text) for source, text in extra(version).items()])
    elif kind == "remove":
        index.remove([f"{n}.md" for n in range(version % 12)] + ["0.md"])
    elif kind == "delete":
        index.delete([passage.id for passage in index.passages()][:3])
    else:
        index.compact()


def after(before, version, kind):
    # The state that a whole run of the work leaves, as sources and texts.
    if kind in ("build", "update"):
        return {one.source: one.text for one in documents(version)}
    if kind == "add":
        return before | extra(version)
    if kind == "remove":
        return {source: text for source, text in before.items() if source not in {f"{n}.md" for n in range(version % 12)} | {"0.md"}}
    return before


def held():
    index = Index.open(directory, HashEncoder(16))
    passages = list(index.passages())
    assert len(passages) == len(index)
    hits = index.search(["document"], 50)[0]
    assert len(hits) == len(index) or not len(index)
    return {one.source: one.text for one in passages}, index


def forked(function, *arguments):
    child = os.fork()
    if child == 0:
        try:
            function(*arguments)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    return child


def measured(version, kind):
    start = time.perf_counter()
    assert os.waitpid(forked(work, version, kind), 0)[1] == 0
    return time.perf_counter() - start


reach = min(measured(1, "build") for _ in range(5))
state, killed, done, left = {one.source: one.text for one in documents(1)}, 0, 0, 0
kinds = ["update", "build", "remove", "add", "compact", "delete", "add", "update"]
end = time.monotonic() + 300
for number in range(10**6):
    if killed == kills or time.monotonic() > end:
        break
    kind, version = kinds[number % len(kinds)], number + 2
    log.unlink(missing_ok=True)
    child = forked(work, version, kind)
    time.sleep(draw.random() * reach)
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    killed += status == signal.SIGKILL
    finished = log.exists() and log.read_bytes() == b"done\\n"
    found, index = held()
    if kind == "delete":
        assert found == state or (len(state) - len(found) == min(3, len(state)) and found.items() <= state.items())
        assert found != state or not finished or not state
    else:
        wanted = after(state, version, kind)
        assert found == wanted if finished else found in (state, wanted), (kind, finished, found, state)
    left += len(list((directory / "segments").iterdir())) > len(index.manifest.segments)
    done += found != state
    reach *= 0.8 if finished else 1.1  # about as many kills before a commit as after it, however busy the machine is
    state = found
    assert check_index(directory).is_whole
print(killed, done, left, int(killed == kills or time.monotonic() > end))
"""


def test_a_hundred_kills_at_random_moments_leave_exactly_what_was_committed(tmp_path: Path) -> None:
    """Of each kind of write; some come before the commit, some after it, and some leave files that the next writer removes."""
    seed = int.from_bytes(os.urandom(4))
    command = [sys.executable, "-c", _KILLS, str(tmp_path / "index"), str(seed), "100", str(tmp_path / "journal")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, f"seed {seed}\n{run.stdout}\n{run.stderr}"
    killed, done, left, enough = map(int, run.stdout.split())
    assert enough, f"{killed} kills, fewer than there was time for"
    assert done > 0
    assert left > 0
    with Index.open(tmp_path / "index")._writing():
        pass
    assert len(list((tmp_path / "index" / "segments").iterdir())) == len(Index.open(tmp_path / "index").manifest.segments)


def limited(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("size", [500, 3_000, 10_000, 30_000, 45_000])
def test_a_file_that_the_disk_does_not_take_is_a_disk_error_and_all_is_as_before(tmp_path: Path, size: int) -> None:
    """The table, the vectors, the terms or the manifest is the first that does not fit."""
    index = Index.build(tmp_path, numbered(20), HashEncoder(dim=64))
    before, files = ids(index), sorted(tmp_path.rglob("*"))
    limited(size)
    try:
        with pytest.raises(DiskError, match=r"index .* cannot be written: .*Free some space"):
            index.add(numbered(200, first=20))
    finally:
        limited(resource.RLIM_INFINITY)
    assert sorted(tmp_path.rglob("*")) == files
    for one in (index, Index.open(tmp_path)):
        assert ids(one) == before
    assert index.add(numbered(200, first=20)) == 200
    assert check_index(tmp_path).is_whole


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_disk_is_a_disk_error_and_freeing_some_is_enough(tmp_path: Path) -> None:
    """A disk of one megabyte, on which everything is tried until nothing fits."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        directory = tmp_path / "index"
        index = Index.build(directory, numbered(20), HashEncoder(dim=64))
        with pytest.raises(DiskError, match=r"index .* cannot be written: .*Free some space"):
            for start in range(20, 10_000, 200):
                index.add(numbered(200, first=start))
        full = len(index)
        assert full >= 220
        assert ids(index) == ids(Index.open(directory)) == {f"p{number}" for number in range(full)}
        with pytest.raises(DiskError):
            index.add(numbered(3000, first=20_000))
        assert check_index(directory).is_whole
        index.remove([f"doc-{number}" for number in range(4, 2000)])
        index.compact()
        assert ids(index) == ids(Index.open(directory)) == {f"p{number}" for number in range(20)}
        assert index.add(numbered(200, first=20)) == 200
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


_HOLDS = """
import sys, time
from pathlib import Path
from homefire.retrieval.index import Index
index = Index.open(sys.argv[1])
with index._writing():
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_a_second_writer_waits_or_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(5), HashEncoder(dim=16))
    process = subprocess.Popen([sys.executable, "-c", _HOLDS, str(tmp_path), "600"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        index.wait_seconds = 0.1
        for refused in (lambda: index.add(numbered(9)), lambda: index.remove(["doc-0"]), index.compact):
            with pytest.raises(InputError, match=rf"still being written by process {process.pid} on "):
                refused()
        assert len(index.search(["cat"], 9)[0]) == 5
        waiting = Thread(target=lambda: (setattr(index, "wait_seconds", 60.0), index.add(numbered(9))))
        waiting.start()
        process.send_signal(signal.SIGKILL)
        waiting.join()
    finally:
        process.kill()
        process.communicate()
    assert len(index) == len(Index.open(tmp_path)) == 9


_READS = """
import sys, time
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index

encoder = HashEncoder(16)
index, seen = Index.open(sys.argv[1], encoder), set()
print("reading", flush=True)
for _ in range(10**6):
    if int(sys.argv[2]):
        index.refresh()
    else:
        index = Index.open(sys.argv[1], encoder)
    count = len(index)
    texts = {hit.text for hit in index.search(["passage of the"], 400, method="dense")[0]}
    assert len(texts) == count == sum(1 for _ in index.passages()), (len(texts), count)
    # every state that was committed holds whole batches of 5
    assert count % 5 == 0, count
    seen.add(count)
    if count == 100:
        break
    time.sleep(0.01)
print(len(seen))
"""


def test_many_processes_read_while_one_writes_and_each_sees_whole_states(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(5), HashEncoder(dim=16))
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", _READS, str(tmp_path), str(number % 2)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "reading\n"
        for start in range(5, 95, 5):
            index.add(numbered(5, first=start))
            if start % 15 == 0:
                index.remove([f"doc-{start // 5}"])
                index.add(numbered(5, first=start))
        index.compact()
        index.add(numbered(5, first=95))
        for reader in readers:
            out, error = reader.communicate(timeout=300)
            assert reader.returncode == 0, error
            assert int(out) >= 1
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()


def test_threads_search_while_one_writes(tmp_path: Path) -> None:
    index = Index.build(tmp_path, numbered(5), HashEncoder(dim=16))
    counts: list[int] = []
    problems: list[BaseException] = []

    def read() -> None:
        try:
            while len(counts) < 10**6:
                found = index.search(["passage of the"], 400, method="fused", where={"number": {"ge": 0}})[0]
                counts.append(len(found))
                if len(found) == 60:
                    return
                sleep(0.005)
        except BaseException as problem:
            problems.append(problem)

    readers = [Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for start in range(5, 60, 5):
        index.add(numbered(5, first=start))
    for reader in readers:
        reader.join()
    assert problems == []
    assert {count % 5 for count in counts} == {0}
