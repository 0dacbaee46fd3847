"""`homefire index`: what its commands do to an index, what they print, and the codes they leave with."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homefire import __main__ as command_line
from homefire.retrieval.colbert_client import ColBERTv2
from homefire.retrieval.index import Index

DOCUMENTS = {
    "leave.md": "# Leave\n\nEveryone has thirty days of leave a year.\n\n## Asking\n\nAsk your team two weeks ahead.\n",
    "pages/laptop.html": "<html><body><h1>Laptops</h1><p>A broken laptop is replaced the same day.</p><script>x()</script></body></html>",
    "expenses.txt": "Train tickets are paid back within a month. Keep the receipt.\n",
    "people.csv": "name,role,text\nAda,engineer,Ada builds engines.\nGrace,admiral,Grace writes compilers.\n",
}
PATIENCE = 300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with documents in `docs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HOMEFIRE_HOME", str(tmp_path / "home"))
    for name, text in DOCUMENTS.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def built(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """An index of the documents."""
    assert run("index", "build", "idx", "docs", "--encoder", "hash") == 0
    capsys.readouterr()
    return folder


def run(*arguments: str) -> int | str | None:
    """Runs a command in this process and gives the code it leaves with."""
    with pytest.raises(SystemExit) as caught:
        command_line.main(list(arguments))
    return caught.value.code or 0


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run("index", "search", "idx", *arguments, "--json") == 0
    hits: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return hits


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run("index", *arguments, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_a_build_reads_like_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "docs" / "broken.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    assert run("index", "build", "idx", "docs", "--encoder", "hash") == 0
    out, err = capsys.readouterr()
    assert re.search(r"^idx is new, after [\d.]+ s\n", out)
    assert re.search(r"^Documents +5\b", out, re.MULTILINE) and re.search(r"^Passages +\d+ to search", out, re.MULTILINE)
    assert "Not read: 1 skipped\ndocs/broken.pdf" in out
    assert re.search(r"^dense +[\d.]+ kB +by one vector a passage, 4096 numbers of hash: few enough", out, re.MULTILINE)
    assert re.search(r"^bm25 +[\d.]+ kB +by words, in their english stems", out, re.MULTILINE)
    assert "dense and bm25 together" in out and 'homefire index search idx "..."' in out
    assert "Indexing documents" in err
    assert max(map(len, out.splitlines())) <= 100


def test_a_second_build_touches_only_what_differs(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = report(capsys, "build", "idx", "docs")
    assert same["changes"] == dict.fromkeys(same["changes"], 0) | {"unchanged": 5}
    (built / "docs" / "leave.md").write_text("# Leave\n\nEveryone has forty days of leave a year.\n", encoding="utf-8")
    (built / "docs" / "expenses.txt").unlink()
    (built / "docs" / "new.rst").write_text("The canteen opens at noon.\n", encoding="utf-8")
    told = report(capsys, "build", "idx", "docs")
    counts = {name: told["changes"][name] for name in ("added", "changed", "unchanged", "removed")}
    assert counts == {"added": 1, "changed": 1, "unchanged": 3, "removed": 1}
    assert found(capsys, "days of leave", "-k", "1")[0]["text"].endswith("forty days of leave a year.")
    assert {hit["source"] for hit in found(capsys, "train tickets", "-k", "9")}.isdisjoint({"docs/expenses.txt"})
    assert run("index", "build", "idx", "docs") == 0
    assert re.search(r"^Documents +5: 0 added, 0 changed, 5 unchanged, 0 removed", capsys.readouterr().out, re.MULTILINE)


def test_what_cannot_be_read_this_time_is_kept_and_the_report_says_so(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = built / "docs"
    (docs / "expenses.txt").unlink()
    (docs / "leave.md").write_bytes(bytes(100))
    (docs / "pages").rename(built / "moved")
    (docs / "pages").symlink_to(built / "moved")
    (docs / "people.csv").write_text('name,role,text\nAda,engineer,"Ada builds\nGrace,admiral,Grace writes compilers.\n', encoding="utf-8")
    assert run("index", "build", "idx", "docs") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert re.search(r"1 removed, [23] kept as before, for they could not be read", out)
    assert "docs/leave.md" in out and "it is a link to a folder" in out and "a row is left out" in out
    assert {"docs/leave.md", "docs/pages/laptop.html"} <= {hit["source"] for hit in found(capsys, "leave laptop", "-k", "9")}
    assert run("index", "build", "idx", "docs/leave.md") == 2
    assert "None of the 1 files could be read" in " ".join(capsys.readouterr().err.split())
    (docs / "leave.md").write_text(DOCUMENTS["leave.md"], encoding="utf-8")
    assert report(capsys, "build", "idx", "docs/leave.md")["changes"]["unchanged"] == 1


def test_paths_mean_the_same_however_they_are_written(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "build", "idx", str(built / "docs"), "./docs/leave.md")
    assert told["changes"]["unchanged"] == told["documents"] == 5


@pytest.mark.parametrize("name", ["./docs/leave.md", "docs//leave.md", "docs/../docs/leave.md", "{here}/docs/leave.md"])
def test_a_document_is_removed_by_its_path_however_it_is_written(built: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert run("index", "remove", "idx", name.format(here=built)) == 0
    assert "Removed 1 document, 1 passage in all; 4 left." in capsys.readouterr().out
    assert run("index", "remove", "idx", name.format(here=built)) == 2
    assert "holds no document" in capsys.readouterr().err


def test_the_help_of_a_build_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer breaks lines where the source does, and again where the terminal ends."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run("index", "build", "--help") == 0
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    first = next(place for place, line in enumerate(shown) if line.startswith(" A new index"))
    assert all(len(line) > 60 for line in shown[first : shown.index(" Python.")])
    assert "......" not in "".join(shown) and "...}..." not in "".join(shown)


def test_add_and_remove(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (built / "more").mkdir()
    (built / "more" / "canteen.md").write_text("The canteen opens at noon.\n", encoding="utf-8")
    told = report(capsys, "add", "idx", "more")
    assert (told["changes"]["added"], told["changes"]["removed"], told["stats"]["documents"]) == (1, 0, 6)
    one = found(capsys, "canteen noon", "-k", "1")[0]
    assert (one["source"], one["metadata"]["line"]) == ("more/canteen.md", 1)
    assert run("index", "remove", "idx", one["id"], "docs/pages", "docs/people.csv", "docs/leave.md") == 0
    assert "Removed 4 documents, 5 passages in all; 1 left." in capsys.readouterr().out
    assert {hit["source"] for hit in found(capsys, "canteen leave laptop engines tickets", "-k", "9")} == {"docs/expenses.txt"}
    assert run("index", "remove", "idx", "docs/expense.txt") == 2
    assert "Did you mean 'docs/expenses.txt'?" in capsys.readouterr().err.replace("\n", " ")
    assert run("index", "remove", "idx", "docs/expenses.txt", "../docs", str(built / "docs")) == 2
    assert len(found(capsys, "tickets", "-k", "9")) == 1


@pytest.mark.parametrize("method", ["fused", "dense", "bm25"])
def test_search_by_each_method(built: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    assert run("index", "search", "idx", "broken laptop", "-k", "2", "--method", method) == 0
    out = capsys.readouterr().out
    first = out.splitlines()[0]
    assert first.startswith("  1 docs/pages/laptop.html") and f"{method} " in first
    assert ("bm25" in first) == (method != "dense")
    assert re.search(rf"^[12] of \d+ passages by {method}.* in [\d,]+ ms, after [\d.]+ s of loading$", out.splitlines()[-1])
    assert "x()" not in out


def test_a_search_that_ranks_anew(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = found(capsys, "leave a year", "-k", "3", "--method", "dense", "--rerank", "bm25")
    assert [hit["scores"]["bm25"] for hit in hits] == sorted((hit["scores"]["bm25"] for hit in hits), reverse=True)
    assert hits[0]["source"] == "docs/leave.md"


def test_a_search_filtered_by_fields(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hits = found(capsys, "writes builds", "--where", "role=engineer", "--where", "source^=docs/people")
    assert [hit["source"].partition("#")[0] for hit in hits] == ["docs/people.csv"]
    assert hits[0]["metadata"]["name"] == "Ada"
    assert found(capsys, "leave", "--where", "line>1000") == []
    assert run("index", "search", "idx", "leave", "--where", "rolle=engineer") == 2
    assert "did you mean 'role'? There are" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("query", ["", "   ", "?!", "leave " * 10_000, "no such words anywhere", "\x1b[31m"])
def test_any_query_is_answered(built: Path, capsys: pytest.CaptureFixture[str], query: str) -> None:
    assert run("index", "search", "idx", query, "-k", "100000") == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_loads_no_encoder(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(Index, "encoder", property(lambda _: loaded.append("it")))
    assert found(capsys, query, "--method", "dense") == [] and not loaded
    assert found(capsys, "leave", "--method", "dense") and loaded


def test_a_search_that_can_find_nothing_says_why(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("index", "search", "idx", " ") == 0
    assert capsys.readouterr().out.strip() == "The query is empty. Write some words to look for."
    assert run("index", "remove", "idx", *Index.open(built / "idx").sources()) == 0
    capsys.readouterr()
    assert run("index", "search", "idx", "leave") == 0
    assert capsys.readouterr().out.strip() == "The index is empty. Add documents: homefire index add idx PATH..."


def test_stats_and_check(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", "stats", "idx") == 0
    out = capsys.readouterr().out
    assert re.search(r"^Documents +5 *$", out, re.MULTILINE)
    assert re.search(r"^Fields +id, source, position, .*role", out, re.MULTILINE)
    assert report(capsys, "stats", "idx")["documents"] == 5
    assert run("index", "check", "idx") == 0
    assert "whole" in capsys.readouterr().out


def test_check_finds_damage_and_repairs_it(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = next((built / "idx" / "segments").rglob("vectors.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    assert run("index", "search", "idx", "leave") == 2
    assert "homefire index check DIRECTORY --repair" in capsys.readouterr().err.replace("\n", " ")
    assert run("index", "check", "idx") == 1
    assert "vectors.npy" in capsys.readouterr().out
    assert run("index", "check", "idx", "--repair") == 0
    assert run("index", "check", "idx") == 0
    assert found(capsys, "broken laptop", "-k", "1")[0]["source"] == "docs/pages/laptop.html"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--encoder", "all-minilm-l6-v2"], "--encoder hash, not all-minilm-l6-v2"),
        (["--tokens", "50", "--bits", "4"], "--bits 2, not 4; and with --tokens left out, not 50"),
        (["--method", "bm25"], "--method bm25 dense, not bm25"),
        (["--language", "german"], "--language english, not german"),
    ],
)
def test_another_kind_of_index_is_refused(built: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str) -> None:
    assert run("index", "build", "idx", "docs", *options) == 2
    message = capsys.readouterr().err.replace("\n", " ")
    assert says in message and "--replace" in message


def test_replace_builds_anew(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = report(capsys, "build", "idx", "docs", "--method", "bm25", "--language", "german", "--replace")
    assert (told["stats"]["methods"], told["stats"]["language"], told["stats"]["documents"]) == (["bm25"], "german", 5)
    assert found(capsys, "laptop", "-k", "1")[0]["scores"].keys() == {"bm25"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "idx", "nowhere"], "There is nothing at 'nowhere'"),
        (["build", "idx", "empty"], "No file at or below 'empty'"),
        (["build", "docs", "docs"], "no index. Name a folder of its own"),
        (["build", "docs/leave.md", "docs"], "is a file; an index is a folder"),
        (["build", "idx", "bad", "--encoder", "hash"], "None of the 2 files could be read"),
        (["build", "idx", "docs", "--encoder", "hash", "--method", "magic"], "methods names 'magic'"),
        (["build", "idx", "docs", "--encoder", "hash", "--tokens", "10", "--overlap", "9"], "overlap"),
        (["add", "idx", "docs"], "There is no index in 'idx'"),
        (["search", "idx", "leave"], "There is no index in 'idx'"),
        (["stats", "docs"], "There is no index in 'docs'; make one first: homefire index build INDEX PATH..."),
        (["search", "docs/leave.md", "leave"], "There is no index in 'docs/leave.md'"),
        (["serve", "idx"], "There is no index in 'idx'"),
        (["check", "idx"], "There is no index in 'idx'"),
        (["tune", "idx"], "There is no index in 'idx'"),
        (["tune", "idx", "--holdout", "2"], "holdout is 2.0"),
    ],
)
def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    (folder / "empty").mkdir()
    (folder / "bad").mkdir()
    (folder / "bad" / "a.txt").write_bytes(b"\0" * 100)
    (folder / "bad" / "b.md").write_bytes(b"")
    before = sorted(folder.rglob("*"))
    assert run("index", *arguments) in (1, 2)
    assert says in capsys.readouterr().err.replace("\n", " ")
    assert [path for path in sorted(folder.rglob("*")) if path not in before and "home" not in path.parts] == []


def test_a_build_that_fails_leaves_what_is_not_the_indexs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with hidden files only counts as empty."""
    (folder / "bad").mkdir()
    (folder / "bad" / "b.md").write_bytes(b"")
    (folder / "repo" / ".git").mkdir(parents=True)
    (folder / "repo" / ".git" / "HEAD").write_text("mine", encoding="utf-8")
    assert run("index", "build", "repo", "bad", "--encoder", "hash") == 2
    assert "None of the 1 files could be read" in capsys.readouterr().err
    assert [path.name for path in sorted((folder / "repo").rglob("*"))] == [".git", "HEAD"]


def test_a_build_that_is_interrupted_goes_on(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from homefire.retrieval import index_writer

    monkeypatch.setattr(index_writer, "PORTION", 2)
    committed = 0
    real = Index._commit

    def interrupted(self: Index, writer: index_writer.IndexWriter) -> None:
        nonlocal committed
        real(self, writer)
        committed += 1
        if committed == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Index, "_commit", interrupted)
        assert run("index", "build", "idx", "docs", "--encoder", "hash") == 130
    assert "an index from what was committed" in capsys.readouterr().err
    told = report(capsys, "build", "idx", "docs")
    assert told["changes"]["unchanged"] > 0 and told["changes"]["added"] > 0
    assert told["changes"]["unchanged"] + told["changes"]["added"] == told["stats"]["documents"] == 5


def test_serve_answers_dspys_client_and_ends_on_a_signal(built: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HOMEFIRE_API_KEY"}
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in a shell's background ignores it, and so would a child
    with subprocess.Popen(
        [sys.executable, "-m", "homefire", "index", "serve", "idx", "--port", "0"],
        cwd=built,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, handler)
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert re.search(r"^idx \(\d+ passages\) answers at http://127\.0\.0\.1:\d+/api/search$", line), line + process.stderr.read()
        url = line.split()[-1]
        assert url in process.stdout.readline() + process.stdout.readline()
        best = ColBERTv2(url=url)("broken laptop", k=1)[0]
        assert "replaced the same day" in best["long_text"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "asked to end" in err, "Traceback" in err, out) == (0, True, False, "")
