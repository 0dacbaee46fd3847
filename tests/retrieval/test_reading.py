"""Files and folders become documents and passages; what cannot be read is reported, and the rest is read."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from homefire.errors import InputError
from homefire.retrieval.chunks import Chunker
from homefire.retrieval.corpus_files import source_of
from homefire.retrieval.encoder import HashEncoder
from homefire.retrieval.index import Index
from homefire.retrieval.passage import Passage
from homefire.retrieval.reading import Skipped, find_files, read_documents, read_files, read_folder
from homefire.retrieval.source_file import Unreadable, read_once
from homefire.retrieval.token_spans import Words
from tests.document_files import docx, paragraph, pdf

posix = pytest.mark.skipif(os.name == "nt", reason="needs the file system of Unix")


def write(folder: Path, **files: str | bytes) -> Path:
    """Writes files; two underscores in a name are a full stop."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(folder: Path, **options: int) -> tuple[dict[str, str], dict[str, str]]:
    """Texts by source, and reasons by what was skipped."""
    skipped: list[Skipped] = []
    texts = {document.source: document.text for document in read_documents([folder], base=folder, report=skipped.append, **options)}
    return texts, {one.source: one.reason for one in skipped}


def test_a_folder_gives_its_files_by_path(tmp_path: Path) -> None:
    for name in ["b.md", "a/c.RST", "a.txt", "image.png", ".git/x.md", ".hidden.txt", "node_modules/x.md", "env/pyvenv.cfg", "env/x.md"]:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"text of {name}", encoding="utf-8")
    assert [(passage.source, passage.text) for passage in read_folder(tmp_path)] == [
        ("a.txt", "text of a.txt"),
        ("a/c.RST", "text of a/c.RST"),
        ("b.md", "text of b.md"),
    ]


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    write(
        tmp_path, a__txt="words in txt", b__html="<p>words in html", c__pdf=pdf(["words in pdf"]), d__docx=docx(paragraph("words in docx"))
    )
    write(tmp_path, e__jsonl='{"text": "words in jsonl"}', f__csv="text\nwords in csv", g__py='"""words in py"""', h__md="# words in md")
    texts, skipped = read(tmp_path)
    assert {
        source.split(".")[1].split("#")[0] for source, text in texts.items() if f"words in {source.split('.')[1].split('#')[0]}" in text
    } == {*("txt", "html", "pdf", "docx", "jsonl", "csv", "py", "md")}
    assert skipped == {}


def test_ids_do_not_depend_on_where_the_folder_is(tmp_path: Path) -> None:
    for name in ["one", "two"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("same", encoding="utf-8")
    assert next(read_folder(tmp_path / "one")).id == next(read_folder(tmp_path / "two")).id


def test_passages_are_cut_by_the_chunker(tmp_path: Path) -> None:
    write(tmp_path, a__txt="one two three four five six")
    chunker = Chunker(4, 0, tokenizer=Words())
    assert [passage.text for passage in read_folder(tmp_path, chunker)] == ["one two three four", "five six"]
    assert [passage.text for passage in read_files([tmp_path / "a.txt"], chunker)] == ["one two three four", "five six"]


def test_a_folder_without_text_or_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"png")
    with pytest.raises(InputError, match=r"\.txt, .*\.md, .*\.rst"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        read_folder(tmp_path / "missing")
    with pytest.raises(InputError, match="There is nothing at"):
        read_documents([tmp_path / "missing"])
    with pytest.raises(InputError, match="no path at all"):
        read_documents([])


def test_files_that_do_not_exist_or_are_of_another_kind_are_refused_at_once(tmp_path: Path) -> None:
    write(tmp_path, song__mp3=b"ID3")
    with pytest.raises(InputError, match=r"song\.mp3.*Document\(source, text\)"):
        read_files([tmp_path / "song.mp3"])
    with pytest.raises(InputError, match=r"no file at .*missing\.txt"):
        read_files([tmp_path / "missing.txt"])


def test_files_keep_the_order_and_the_path_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    write(tmp_path, b__txt="b", a__txt="a", c__png="c")
    write(tmp_path / "notes", n__txt="n")
    assert [passage.source for passage in read_files(["b.txt", Path("a.txt")])] == ["b.txt", "a.txt"]
    skipped: list[Skipped] = []
    given = ["notes", "b.txt", tmp_path / "a.txt", "c.png", "b.txt"]
    found = list(read_documents(given, report=skipped.append))
    assert [document.source for document in found] == ["notes/n.txt", "b.txt", (tmp_path / "a.txt").as_posix()]
    assert [(one.source, one.whole) for one in skipped] == [("c.png", True)]
    assert [document.source for document in read_documents(given, base=".", report=skipped.append)] == ["notes/n.txt", "b.txt", "a.txt"]
    assert [file.source for file in find_files([tmp_path / "a.txt"], base="notes")] == [(tmp_path / "a.txt").as_posix()], "it is elsewhere"


def test_encodings_are_recognised_or_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bom.txt").write_bytes("\ufeffcafé".encode())
    (tmp_path / "old.txt").write_bytes("café \u201cnoir\u201d".encode("cp1252"))
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        bom = "\ufeff" if encoding.endswith("be") else ""
        (tmp_path / f"{encoding}.txt").write_bytes(f"{bom}café\r\nnoir".encode(encoding))
    (tmp_path / "zero.txt").write_bytes("café".encode("utf-16-le"))
    with caplog.at_level(logging.WARNING):
        texts = {passage.source: passage.text for passage in read_folder(tmp_path)}
    wide = dict.fromkeys(["utf-16.txt", "utf-16-be.txt", "utf-32.txt"], "café\nnoir")
    assert texts == {"bom.txt": "café", "old.txt": "café \u201cnoir\u201d", **wide}
    old, zero = (record.getMessage() for record in caplog.records)
    assert "old.txt is not UTF-8 (byte 3" in old
    assert "zero.txt was skipped: it has zero bytes" in zero


def test_empty_and_binary_files_are_reported(tmp_path: Path) -> None:
    write(tmp_path, good__txt="good", empty__txt="", blank__md="\ufeff \n\n", zeros__txt=bytes(1000), __init____py="")
    write(tmp_path, noise__txt=bytes(byte for byte in range(1, 256)) * 10, picture__html=b"\x89PNG\r\n\x1a\n\x00")
    write(tmp_path, empty__html="", empty__pdf="", empty__docx="", empty__jsonl="", empty__csv="")
    texts, skipped = read(tmp_path)
    assert texts == {"good.txt": "good"}
    assert {source: reason.split(".")[0] for source, reason in skipped.items() if not source.startswith("empty")} == {
        "blank.md": "there is no text in it",
        "zeros.txt": "it has zero bytes, so it is no text in UTF-8",
        "noise.txt": "it is binary, not text",
        "picture.html": "it has zero bytes, so it is no text in UTF-8",
    }
    assert {source for source in skipped if source.startswith("empty")} == {
        *("empty.txt", "empty.html", "empty.pdf", "empty.docx", "empty.jsonl", "empty.csv")
    }


def test_a_huge_file_is_skipped_with_its_size_and_read_when_the_limit_is_raised(tmp_path: Path) -> None:
    write(tmp_path, good__txt="good")
    with (tmp_path / "huge.txt").open("wb") as file:
        file.truncate(129 * 2**20)
    with (tmp_path / "huge.html").open("wb") as file:
        file.truncate(17 * 2**20)
    texts, skipped = read(tmp_path)
    assert texts == {"good.txt": "good"}
    assert skipped["huge.txt"].startswith(
        "it has 135,266,304 bytes, and at most 134,217,728 are read. Split it, or raise the limit with max_bytes"
    )
    assert skipped["huge.html"].startswith("it has 17,825,792 bytes, and at most 16,777,216 are read.")
    texts, skipped = read(tmp_path, max_bytes=3)
    assert texts == {} and set(skipped) == {"good.txt", "huge.txt", "huge.html"}
    assert read(tmp_path, max_bytes=4)[0] == {"good.txt": "good"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_a_file_of_100_mb_is_read_in_bounded_memory(tmp_path: Path) -> None:
    line = "A line of plain words that goes on and on, as logs and books do, until it ends here.\n"
    with (tmp_path / "big.txt").open("w", encoding="utf-8", newline="\n") as file:
        for _ in range(100):
            file.write(line * (1_000_000 // len(line)))
    code = (
        "import re, sys\n"
        "from itertools import islice\n"
        "from homefire.retrieval.reading import read_folder\n"
        "count = sum(len(passage.text) for passage in islice(read_folder(sys.argv[1]), 2000))\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"  # of this program alone, not of what started it
        "print(count, int(peak) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    count, megabytes = map(int, done.stdout.split())
    assert count > 500_000 and megabytes < 500


def test_a_file_that_vanishes_is_reported_and_the_others_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, a__txt="a", b__txt="b")
    passages = read_folder(tmp_path)
    os.remove(tmp_path / "a.txt")
    with caplog.at_level(logging.WARNING):
        assert [passage.source for passage in passages] == ["b.txt"]
    assert "a.txt was skipped: No such file" in caplog.text


class Busy(type(Path())):  # type: ignore[misc]
    """A path to a real file that something changes right after it was read: as often as `changes` says, in the way of `how`."""

    changes = 0
    how = "longer"

    def open(self, *args: object, **kwargs: object) -> io.FileIO:  # type: ignore[override]
        return _BusyFile(self)


class _BusyFile(io.FileIO):
    def __init__(self, path: Busy) -> None:
        super().__init__(path)
        self.path = path

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.path.changes:
            self.path.changes -= 1
            content = {"longer": data + b"+", "shorter": data[:-1], "other": bytes(byte ^ 1 for byte in data)}[self.path.how]
            times = os.fstat(self.fileno()).st_mtime_ns
            Path(self.path).write_bytes(content)
            os.utime(self.path, ns=(times, times))  # as if the clock of the file system were too coarse to tell
        return data


@pytest.mark.parametrize("how", ["longer", "shorter", "other"])
def test_a_file_that_changes_while_it_is_read_is_read_again(how: str, tmp_path: Path) -> None:
    file = Busy(tmp_path / "a.txt")
    file.how = how
    file.changes = 0
    (tmp_path / "a.txt").write_bytes(b"abcdef" * 1000)
    assert read_once(file, 10**6) == b"abcdef" * 1000
    file.changes = 1
    data = read_once(file, 10**6)
    assert data == (tmp_path / "a.txt").read_bytes() != b"abcdef" * 1000
    file.changes = 100
    with pytest.raises(Unreadable, match="changed each time while it was read"):
        read_once(file, 10**6)


def test_broken_files_do_not_keep_the_others_from_being_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, a__pdf=b"%PDF-1.7 broken", b__docx=b"PK broken", c__py="def f(:", d__jsonl='{"text": "row"}\n{broken\n', e__txt="good")
    with caplog.at_level(logging.WARNING):
        assert [passage.text for passage in read_folder(tmp_path)] == ["row", "good"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        *("a.pdf was skipped", "b.docx was skipped", "c.py was skipped", "d.jsonl was read in part")
    ]


def test_an_index_among_the_files_is_not_read(tmp_path: Path) -> None:
    write(tmp_path, a__txt="a", manifest__json="{}")
    Index.build(tmp_path / "index", [Passage(id="a", text="a", source="a.txt")], HashEncoder(16))
    assert list(tmp_path.rglob("sources.jsonl"))
    texts, skipped = read(tmp_path)
    assert (texts, skipped) == ({"a.txt": "a"}, {})


def test_links_to_files_are_followed_and_links_to_folders_and_loops_are_not(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir(), outside.mkdir()
    write(folder, a__txt="a")
    write(outside, secret__txt="b")
    for link, target in (
        ("up", ".."),
        ("self", "."),
        ("other", outside),
        ("b.txt", outside / "secret.txt"),
        ("c.txt", "c.txt"),
        ("d.txt", "no"),
    ):
        try:
            (folder / link).symlink_to(target)
        except OSError:
            pytest.skip("this user may not make links here")
    texts, skipped = read(folder)
    assert texts == {"a.txt": "a", "b.txt": "b"}
    assert set(skipped) == {"up", "self", "other", "c.txt", "d.txt"}
    assert "is a link to a folder" in skipped["up"] and "symbolic links" in skipped["c.txt"] and "No such file" in skipped["d.txt"]
    assert [document.text for document in read_documents([folder / "other"])] == ["b"], "a link that is named is followed"


@pytest.fixture
def powerless() -> Iterator[Path]:
    """A folder, and a user who may read it but not what is closed in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, good__txt="good", closed__txt="closed")
        (folder / "cellar").mkdir()
        write(folder / "cellar", deep__txt="deep")
        folder.chmod(0o755)
        (folder / "closed.txt").chmod(0)
        (folder / "cellar").chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            (folder / "cellar").chmod(0o755)


@posix
def test_what_may_not_be_read_is_reported(powerless: Path) -> None:
    texts, skipped = read(powerless)
    assert texts == {"good.txt": "good"}
    assert {source: reason.split(".")[0] for source, reason in skipped.items()} == dict.fromkeys(
        ["closed.txt", "cellar"], "Permission denied"
    )


@posix
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, good__txt="good")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "endless.txt").symlink_to("/dev/zero")
    assert read(tmp_path) == ({"good.txt": "good"}, dict.fromkeys(["endless.txt", "pipe.txt"], "it is no ordinary file."))


@posix
def test_names_that_cannot_be_shown_or_saved_are_written_out(tmp_path: Path) -> None:
    names = [b"line\nend.txt", b"caf\xe9.txt", b"\x1b[31m.txt", "größe 漢.txt".encode(), b"back\\slash.txt"]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    sources = sorted(read(tmp_path)[0])
    assert sources == sorted(["line\\nend.txt", "caf\\xe9.txt", "\\x1b[31m.txt", "größe 漢.txt", "back\\slash.txt"])
    assert all(source.encode() and "\n" not in source for source in sources)
    assert source_of("a/b\u2028c") == "a/b\\u2028c"


def test_a_missing_package_is_reported_once_with_the_command_to_install_it(tmp_path: Path) -> None:
    write(tmp_path, a__pdf=pdf(["a"]), b__pdf=pdf(["b"]), c__html="<p>c", d__docx=docx(paragraph("d")), e__txt="e", f__csv="text\nf")
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['pypdf', 'mammoth', 'markdownify', 'bs4']))\n"
        "from homefire.retrieval.reading import read_documents\n"
        "report = lambda one: print('skipped', one.source, one.reason)\n"
        "for document in read_documents([sys.argv[1]], base=sys.argv[1], report=report): print('read', document.source)"
    )
    lines = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout.splitlines()
    command = 'Install it with: pip install "homefire[documents]"'
    assert lines == [
        f"skipped a.pdf Reading PDF needs the package 'pypdf', which is not installed. {command} "
        "Without it all 2 files of this kind are skipped.",
        f"skipped c.html Reading HTML needs the package 'markdownify', which is not installed. {command}",
        f"skipped d.docx Reading DOCX needs the package 'mammoth', which is not installed. {command}",
        "read e.txt",
        "read f.csv#L2",
    ]
