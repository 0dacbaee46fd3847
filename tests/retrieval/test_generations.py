"""A directory of generations changes from one whole state to the next, whatever kills or damages it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from homefire.errors import DiskError, InputError
from homefire.retrieval import generations as module
from homefire.retrieval.generations import COPY, MANIFEST, Generations
from homefire.retrieval.stored_files import FileProblem, State, problems


def generations(directory: Path) -> Generations:
    return Generations(directory, format=2, what="box", folders=("parts", "notes"), remedy="Buy a new box.")


def put(box: Generations, text: str, *, fresh: bool = False) -> State:
    """Commits one part with that text in the place of all others."""
    with box.writing(fresh=fresh, wait=0) as writer:
        with writer.folder("parts") as draft:
            (draft.path / "text").write_text(text, encoding="utf-8")
        note = writer.file("notes", ".txt", b"noted")
        return writer.commit({"part": draft.name}, {draft.name, note})


def text_of(box: Generations) -> str:
    return box.open(lambda state: (box.directory / state.content["part"] / "text").read_text(encoding="utf-8"))


def entries(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_a_commit_replaces_the_state_and_removes_the_old_files(tmp_path: Path) -> None:
    box = generations(tmp_path / "deep" / "box")
    first = put(box, "one", fresh=True)
    second = put(box, "two")
    assert (first.generation, second.generation, first.commit != second.commit) == (1, 2, True)
    assert box.read() == second
    assert text_of(box) == "two"
    part, note = sorted(second.files, reverse=True)
    assert entries(box.directory) == sorted([".lock", COPY, MANIFEST, part, note])
    assert second.below(second.content["part"]).keys() == {part}


def test_what_is_not_committed_never_was(tmp_path: Path) -> None:
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    before = entries(tmp_path)
    with pytest.raises(ZeroDivisionError), box.writing() as writer:
        with writer.folder("parts") as draft:
            (draft.path / "text").write_text("two", encoding="utf-8")
        raise ZeroDivisionError
    assert text_of(box) == "one"
    with box.writing():
        assert entries(tmp_path) == sorted([*before, ".writer"])


def test_what_a_killed_writer_tried_the_disk_with_is_removed_and_nothing_of_others(tmp_path: Path) -> None:
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    before = entries(tmp_path)
    for name in (".probe-0123abcd", "parts/.probe-0123abcd", ".probe-mine", "parts/.probe-mine"):
        (tmp_path / name).write_bytes(b"1")
    with box.writing():
        pass
    assert entries(tmp_path) == sorted([*before, ".probe-mine", "parts/.probe-mine"])


def test_a_reader_that_finds_a_file_gone_reads_the_newer_manifest(tmp_path: Path) -> None:
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    seen = []

    def load(state: State) -> str:
        seen.append(state.generation)
        if len(seen) == 1:
            put(box, "two")
        return (tmp_path / state.content["part"] / "text").read_text(encoding="utf-8")

    assert box.open(load) == "two"
    assert seen == [1, 2]


def test_an_open_file_outlives_its_removal(tmp_path: Path) -> None:
    box = generations(tmp_path)
    state = put(box, "one", fresh=True)
    with (tmp_path / state.content["part"] / "text").open(encoding="utf-8") as file:
        put(box, "two")
        assert file.read() == "one"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_text("on", encoding="utf-8"), "has 2 bytes, but 3 were written"),
        (lambda file: file.write_text("eno", encoding="utf-8"), "is not what was written"),
    ],
)
def test_damage_is_named_with_its_file(tmp_path: Path, harm: object, said: str) -> None:
    box = generations(tmp_path)
    state = put(box, "one", fresh=True)
    assert callable(harm)
    harm(tmp_path / state.content["part"] / "text")
    with pytest.raises(InputError, match=rf"box .* is damaged: parts/.*/text.*{said}\. Buy a new box\."):
        text_of(box)
    [problem] = problems(tmp_path, state)
    assert problem.what == said


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "parts/../../x", "parts/.hidden/x", "parts", "elsewhere/a/b", "parts//x", "notes/a\n"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    manifest = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][name] = {"size": 1, "sha256": "0"}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(InputError, match="which no box has"):
        text_of(box)


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"format": 2}', '{"format": 2, "files": {"parts/a/b": 3}}'])
def test_a_manifest_that_cannot_be_read_is_damage_and_its_copy_mends_it(tmp_path: Path, content: str) -> None:
    box = generations(tmp_path)
    state = put(box, "one", fresh=True)
    (tmp_path / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"is damaged: manifest\.json cannot be read"):
        text_of(box)
    with pytest.raises(InputError, match="is damaged"), box.writing():
        pytest.fail("nobody may write on what cannot be read")
    with box.writing(fresh=True) as writer:
        assert writer.restore() == state
    assert text_of(box) == "one"


def test_a_manifest_that_is_gone_is_damage_where_its_copy_is_there(tmp_path: Path) -> None:
    box = generations(tmp_path)
    state = put(box, "one", fresh=True)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"is damaged: manifest\.json is missing\. Buy a new box"):
        text_of(box)
    with box.writing(fresh=True) as writer:
        assert writer.restore() == state
    assert text_of(box) == "one"


def test_any_changed_byte_of_the_manifest_is_damage(tmp_path: Path) -> None:
    """The copy mends it, and nothing that it names was removed. The checksum's own name is not tried: owners refuse keys of other names."""
    box = generations(tmp_path)
    state = put(box, "one", fresh=True)
    data = (tmp_path / MANIFEST).read_bytes()
    name = data.rindex(b"sha256")
    for place in [*range(name), *range(name + len("sha256"), len(data))]:
        harmed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        (tmp_path / MANIFEST).write_bytes(harmed)
        with pytest.raises(InputError, match=r"is damaged|has format 3"):
            box.read()
        if place % 40 == 0:
            with box.writing(fresh=True) as writer:
                assert writer.restore() == state
            assert text_of(box) == "one"


def test_a_check_is_not_misled_by_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit between the reading of the manifest and that of the files, which are gone then."""
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    texts = iter(["two", "three"])

    def late(directory: Path, state: State) -> Iterator[FileProblem]:
        if text := next(texts, None):
            put(box, text)
        return problems(directory, state)

    monkeypatch.setattr(module, "problems", late)
    state, found = box.checked()
    assert found == []
    assert (tmp_path / state.content["part"] / "text").read_text(encoding="utf-8") == "three"


def test_another_format_and_no_manifest_are_refused(tmp_path: Path) -> None:
    box = generations(tmp_path)
    with pytest.raises(InputError, match="no box in"):
        box.read()
    (tmp_path / MANIFEST).write_text('{"format": 3}', encoding="utf-8")
    with pytest.raises(InputError, match="has format 3; expected 2"):
        box.read()


_HOLDS = """
import sys, time
from pathlib import Path
from homefire.retrieval.generations import Generations
box = Generations(Path(sys.argv[1]), format=2, what="box", folders=("parts",), remedy="")
with box.writing(fresh=True) as writer, writer.folder("parts") as draft:
    (draft.path / "text").write_text("half")
    print("writing", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(directory: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that holds the lock and has half a folder written."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDS, str(directory), str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_a_second_writer_is_refused_with_the_name_of_the_first_and_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    box = generations(tmp_path)
    process = holder(tmp_path, 600)
    try:
        with pytest.raises(InputError, match=rf"still being written by process {process.pid} on .* after waiting 0 s"):
            put(box, "one", fresh=True)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    state = put(box, "one", fresh=True)
    assert entries(tmp_path) == sorted([".lock", COPY, MANIFEST, *state.files])


def test_a_second_writer_waits_and_says_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = holder(tmp_path, 0.3)
    with generations(tmp_path).writing(fresh=True, wait=60):
        pass
    process.communicate()
    assert f"being written by process {process.pid}" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_the_disk_does_not_take_is_a_disk_error_and_all_is_as_before(tmp_path: Path) -> None:
    box = generations(tmp_path)
    put(box, "one", fresh=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            put(box, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert text_of(box) == "one"
    assert put(box, "two").generation == 2


def test_a_place_that_cannot_be_written_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="cannot be written"):
        put(generations(tmp_path / "file" / "box"), "one", fresh=True)


def test_the_process_that_writes_is_no_longer_named_afterwards(tmp_path: Path) -> None:
    box = generations(tmp_path)
    with box.writing(fresh=True):
        assert str(os.getpid()) in (tmp_path / ".writer").read_text(encoding="utf-8")
    assert not (tmp_path / ".writer").exists()
