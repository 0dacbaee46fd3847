"""What the commands of an index print where a test would need a large index, or a long time."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from homefire.index_building import BuildReport
from homefire.index_display import bytes_in_words, duration, show_build, show_stats
from homefire.retrieval.index_stats import IndexStats
from homefire.retrieval.index_update import Changes
from homefire.retrieval.reading import Skipped

STATS = IndexStats(
    directory="big.index",
    generation=12,
    passages=1_234_567,
    documents=45_678,
    duplicates=321,
    deleted=99,
    segments=3,
    methods=("dense", "bm25", "late"),
    default_method="fused",
    encoder="all-minilm-l6-v2",
    dim=384,
    language="none",
    fields=("line", "page\x1b[31m"),
    dense_kinds={"lists": 1_234_567},
    dense_recall=0.98765,
    token_encoder="all-minilm-l6-v2/tokens",
    token_bits=2,
    tokens=170_000_000,
    bytes=20_500_000_000,
    bytes_of={"dense": 1_900_000_000, "bm25": 400_000_000, "late": 18_000_000_000, "passages": 200_000_000},
)
CHANGES = Changes(added=5, changed=1, unchanged=45_000, removed=2, passages_added=60, passages_removed=12, duplicates=1)


def printed(show: object, *values: object, width: int = 100) -> str:
    out = io.StringIO()
    show(*values, Console(file=out, width=width, highlight=False))  # type: ignore[operator]
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def test_a_large_index() -> None:
    text = printed(show_stats, STATS)
    assert "1,234,567 to search, 321 left out because another has the same text" in text
    assert "12, in 3 segments now, 99 deleted whose space comes back" in text
    assert "the nearest of many lists (IVF); 98.8% of the true ten best are found, as measured" in " ".join(text.split())
    assert "170,000,000 vectors of all-minilm-l6-v2/tokens, one a token, 2 bits a number" in " ".join(text.split())
    assert "by words as they stand" in text and "20 GB" in text
    assert "\x1b" not in text


def test_documents_that_are_kept_are_named() -> None:
    report = BuildReport(is_new=False, changes=replace(CHANGES, kept=3), documents=45_000, stats=STATS, seconds=1.0)
    assert "2 removed, 3 kept as before, for they could not be read" in " ".join(printed(show_build, report).split())
    assert str(replace(CHANGES, kept=3)).startswith("5 documents added, 1 changed, 45000 unchanged, 2 removed, 3 kept although")


def test_segments_that_are_searched_in_different_ways() -> None:
    text = printed(show_stats, replace(STATS, dense_kinds={"flat": 100, "lists": 900_000}, dense_recall=0.99999))
    assert "flat for 100 passages; lists for 900,000 passages; 99.9% of the true ten best" in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_build_with_many_skipped_files(width: int) -> None:
    skipped = [
        Skipped(f"docs/file {number}.pdf", "it is no PDF that can be read. Save it again.", whole=number % 2 == 0) for number in range(30)
    ]
    report = BuildReport(is_new=False, changes=CHANGES, documents=45_006, skipped=skipped, stats=STATS, seconds=3_725)
    text = printed(show_build, report, width=width)
    flat = " ".join(text.split())
    assert flat.startswith("big.index is up to date, after 1 h 2 min")
    assert "45,678: 5 added, 1 changed, 45,000 unchanged, 2 removed" in flat
    assert "12 gone since the last time" in flat
    assert "Not read: 15 skipped, 15 read in part" in flat
    assert "file 7.pdf" in flat and "file 8.pdf" not in flat and "and 22 more; --json has them all" in flat
    assert all(len(line) <= width for line in text.splitlines() if "big.index" not in line)


@pytest.mark.parametrize(("seconds", "words"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (125, "2 min 5 s"), (3_780, "1 h 3 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (812, "812 B"), (1_400, "1.4 kB"), (99_960, "100 kB"), (999_700, "1.0 MB"), (2.5e12, "2.5 TB")]
)
def test_bytes(count: float, words: str) -> None:
    assert bytes_in_words(int(count)) == words
