"""Retrieval: quality, speed and size, beside plain libraries. Run it with: .venv/bin/python scripts/bench_retrieval.py --data FOLDER

FOLDER has the collections `scifact`, `cranfield` and `squad_dev` (`scripts/retrieval_data.py` reads them); `HOMEFIRE_DATA` names it too.
Every case runs in a fresh process; inside one the contestants of a ratio take turns. `--only` picks cases by a part of their names,
`--quick` takes small ones, `--vectors FOLDER` keeps what was encoded for the next run, and `--out FILE` saves all numbers as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from ranking_metrics import DEPTHS
from retrieval_data import COLLECTIONS, Collection, collection
from retrieval_quality import Prepared, measure, with_encoder
from retrieval_speed import bits, encoding, late, methods, synthetic, updates
from rich.console import Console
from rich.table import Table

from homefire.configs.console import progress, quiet_libraries
from homefire.configs.home import write_atomic
from homefire.engine.catalogue import pull

STATIC = "static-minilm"
"""The encoder of the catalogue that reads no sentences: a table of vectors of tokens."""
QUICK = 100
"""Queries of each set in a quick run."""
Measured = dict[str, Any]
Found = dict[str, Measured]


class Work:
    """What cases are made of."""

    def __init__(self, data: Path, vectors: Path | None, quick: bool) -> None:
        self.data, self.vectors, self.quick = data, vectors, quick

    def collection(self, name: str) -> Collection:
        return collection(self.data, name)

    def prepared(self, name: str) -> Prepared:
        return Prepared(self.collection(name), self.vectors, *([QUICK] if self.quick else []))

    def texts(self, name: str) -> list[str]:
        passages = self.collection(name).passages
        return [passage.text for passage in passages[:: 8 if self.quick else 3]]


CASES: dict[str, Callable[[Work], Measured]] = {
    **{f"quality {name}": lambda work, name=name: measure(work.prepared(name)) for name in COLLECTIONS},
    **{f"static {name}": lambda work, name=name: with_encoder(work.collection(name), STATIC) for name in COLLECTIONS},
    "bits squad": lambda work: bits(work.prepared("squad")),
    **{f"updates {name}": lambda work, name=name: updates(work.prepared(name)) for name in ("cranfield", "squad")},
    "methods squad": lambda work: methods(work.prepared("squad")),
    "late squad": lambda work: late(work.prepared("squad")),
    **{f"encoding {name}": lambda work, name=name: encoding(work.texts(name)) for name in ("squad", "cranfield")},
    "passages 10,000": lambda work: synthetic(10_000),
    "passages 100,000": lambda work: synthetic(100_000),
    "passages 1,000,000": lambda work: synthetic(1_000_000),
}
"""What is measured."""
SLOW = {"quality scifact", "passages 100,000", "passages 1,000,000"}
"""Cases that a quick run leaves out."""
_BARE = ("dense search over bare FAISS, queries/s in batches of 64", "batch_ratio", "", "0.95")
LIMITS = {
    "passages 10,000": [
        ("more than bare FAISS, one dense query", "more_milliseconds", "ms", "under 1"),
        (f"{_BARE[0]}, 10,000 passages", *_BARE[1:]),
    ],
    "passages 100,000": [(f"{_BARE[0]}, 100,000 passages", *_BARE[1:])],
    "late squad": [
        ("late interaction over exhaustive MaxSim, queries/s, one at a time", "single_ratio", "", "10"),
        ("the same, in batches of 50 on both sides", "ratio", "", ""),
        ("one query, without encoding", "single_milliseconds", "ms", ""),
        ("R@10 over that of exhaustive MaxSim", "recall_ratio", "", "0.99"),
        ("bytes a token at 2 bits", "bytes_a_token", "", "at most 110"),
    ],
    **{
        f"updates {name}": [
            (f"after removing and adding a third again, over a rebuild: {method}, {name}", f"index, {method} ratio", "", "0.995")
            for method in ("bm25", "dense", "late", "fused")
        ]
        for name in ("cranfield", "squad")
    },
    **{
        f"encoding {name}": [
            (f"encoding over sentence-transformers, {name}", "ratio", "", "1"),
            (f"encoding, {name}", "passages_per_second", "passages/s", ""),
        ]
        for name in ("squad", "cranfield")
    },
    "static squad": [(f"encoding by {STATIC}, squad", "passages_per_second", "passages/s", "")],
    "passages 1,000,000": [
        (f"{_BARE[0]}, 1,000,000 passages", *_BARE[1:]),
        ("open 1,000,000 passages", "open_seconds", "s", "under 1"),
        ("memory then", "open_megabytes", "MB", "under 300"),
    ],
}
"""What is wanted of which number of which case."""


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the collections.", envvar="HOMEFIRE_DATA")] = None,
    only: Annotated[str, typer.Option(help="Measure only cases whose name has this in it.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A look: fewer queries, small cases.")] = False,
    vectors: Annotated[Path | None, typer.Option(help="Folder that keeps encoded texts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save all measurements there, as JSON; cases not measured now stay as they are.")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and save."""
    quiet_libraries()
    if data is None or not data.is_dir():
        raise SystemExit(f"There is no folder of collections: got {data}. Name it with --data or HOMEFIRE_DATA.")
    if child is not None:
        print(json.dumps(CASES[child](Work(data, vectors, quick))))
        return
    wanted = [name for name in CASES if only in name and not (quick and name in SLOW)]
    if not wanted:
        raise SystemExit(f"No case has {only!r} in its name; there are {', '.join(CASES)}.")
    pull("all-minilm-l6-v2")
    if any(name.startswith("static") for name in wanted):
        pull(STATIC)
    found: Found = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.is_file() else {}
    with progress("Measuring", total=len(wanted)) as task:
        for name in wanted:
            task.update(description=name)
            found[name] = _in_child(name, data, vectors, quick)
            task.advance()
            if out is not None:
                write_atomic(out, json.dumps(found, indent=1))
    _print({name: found[name] for name in CASES if name in found})


def _in_child(name: str, data: Path, vectors: Path | None, quick: bool) -> Measured:
    command = [sys.executable, __file__, "--child", name, "--data", str(data), *(["--quick"] if quick else [])]
    command += [] if vectors is None else ["--vectors", str(vectors)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOMEFIRE_QUIET": "1"})
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    measured: Measured = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _print(found: Found) -> None:
    console = Console()
    for table in (_quality(found), _speed(found), _methods(found), _growth(found), _sizes(found)):
        if table.row_count:
            console.print(table)


def _quality(found: Found) -> Table:
    """A line a way of searching: nDCG@10 and the recalls on each collection."""
    names = [name for name in COLLECTIONS if f"quality {name}" in found]
    table = Table(title=f"nDCG@10 / {' / '.join(f'R@{k}' for k in DEPTHS)}")
    for column in ("", *(f"{name}, {found[f'quality {name}']['queries']} queries" for name in names)):
        table.add_column(column)
    tables = [found[f"quality {name}"]["table"] | found.get(f"static {name}", {}).get("table", {}) for name in names]
    for row in dict.fromkeys(row for one in tables for row in one):
        table.add_row(row, *(" ".join(f"{value:.3f}" for value in one[row].values()) if row in one else "" for one in tables))
    return table


def _speed(found: Found) -> Table:
    table = Table(title="Speed and size")
    for column in ("what", "wanted", "measured"):
        table.add_column(column)
    for case, rows in LIMITS.items():
        for what, key, unit, limit in rows:
            if case in found:
                table.add_row(what, limit, f"{found[case][key]:.3g} {unit}")
    return table


def _methods(found: Found) -> Table:
    """A line a method."""
    table = Table(title="Searches for 10 passages, SQuAD, without encoding")
    for column in ("", "one query, ms", "batches of 64, queries/s"):
        table.add_column(column)
    one = found.get("methods squad", {})
    for name in [key.removesuffix(" milliseconds") for key in one if key.endswith(" milliseconds")]:
        speed = one.get(f"{name} queries_per_second")
        table.add_row(name, f"{one[f'{name} milliseconds']:.2f}", "" if speed is None else f"{speed:.0f}")
    return table


def _growth(found: Found) -> Table:
    """A line a number of passages."""
    table = Table(title="As an index grows (synthetic vectors of 384 numbers, 10 hits, without encoding)")
    columns: dict[str, Callable[[Measured], str]] = {
        "passages": lambda one: f"{one['passages']:,}",
        "FAISS index, its recall": lambda one: f"{one['kind']}, {one['recall']:.3f}",
        "one dense query, ms": lambda one: f"{one['single_milliseconds']:.2f}",
        "bare FAISS, ms": lambda one: f"{one['bare_milliseconds']:.2f}",
        "batches of 64, queries/s": lambda one: f"{one['queries_per_second']:.0f}",
        "over bare FAISS (0.95)": lambda one: f"{one['batch_ratio']:.2f}",
        "one BM25 query, ms": lambda one: f"{one['bm25_milliseconds']:.2f}",
        "open, s": lambda one: f"{one['open_seconds']:.3f}",
        "memory, MB": lambda one: f"{one['open_megabytes']:.0f}",
    }
    for column in columns:
        table.add_column(column, justify="right")
    for name, one in found.items():
        if name.startswith("passages "):
            table.add_row(*(show(one) for show in columns.values()))
    return table


def _sizes(found: Found) -> Table:
    """A line a number of bits."""
    table = Table(title="Late interaction by bits, SQuAD")
    for column in ("", "nDCG@10", "below float16 (2 bits: at most 0.005)", "MB"):
        table.add_column(column)
    one = found.get("bits squad", {})
    for key, name in {"exact": "float16, exhaustive", "4 bits": "4 bits", "2 bits": "2 bits", "1 bits": "1 bit"}.items():
        if one:
            reached = one[f"{key} nDCG@10"]
            table.add_row(name, f"{reached:.4f}", f"{one['exact nDCG@10'] - reached:.4f}", f"{one[f'{key} megabytes']:.0f}")
    return table


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
