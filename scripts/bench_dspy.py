"""homefire beside DSPy: the same programs on the same model, in one run. Run it with: .venv/bin/python scripts/bench_dspy.py

DSPy is installed into an environment of its own, in a temporary folder, from wherever pip is configured to take packages; it is never a
part of homefire's. It calls `homefire.engine.server.Server`, which is vLLM's own server with the settings that homefire chooses for the
machine, from as many threads as --threads says. That server is stopped before homefire runs the same programs in process: both need all
cores. Each side has its default prompt format, then JSON; caches are off; decoding is greedy, with the same token limit.

Two things are measured: the share of outputs that have the types of their signature, in six ordinary signatures over ten texts; and
examples per second of one program over many docstrings. --out FILE saves the numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from homefire.configs.console import progress, quiet_libraries
from homefire.configs.home import write_atomic
from homefire.demo_data import stdlib_docstrings
from homefire.engine.catalogue import pull
from homefire.engine.server import Server

DSPY = "3.4.1"
PEER = Path(__file__).with_name("peer_dspy.py")
SPEED = "Docstring"
FORMATS = ("default", "json")
TEXTS = [
    "The bed was hard, but I loved the soup. Anna at the desk was kind to us both.",
    "Never again! We waited two hours for a cold pizza and nobody said sorry.",
    "On 3 May Maria and Tom opened the new library in Lyon; two hundred people came.",
    "My package arrived a week late and the box was crushed. The lamp inside still works, though.",
    "The concert in March was sold out. Julia played the violin for two hours and got a standing ovation.",
    'He said: "It costs 20 €, take it or leave it." We left it.',
    "Der Zug kam pünktlich, das Abteil war sauber, und der Kaffee war heiß.",
    "Update 2.4 fixes the crash on start but the app still loses my settings every evening.",
    "Our school's summer party is on the last Friday of June. Bring a cake, a friend and sunscreen.",
    "ok",
]
Rows = list[dict[str, Any]]


def main(
    model: Annotated[str, typer.Option(help="Model that both run.")] = "smollm2-135m",
    examples: Annotated[int, typer.Option(min=1, help="Docstrings for the speed.")] = 256,
    texts: Annotated[int, typer.Option(min=1, max=len(TEXTS), help="Texts for the six signatures.")] = len(TEXTS),
    threads: Annotated[int, typer.Option(min=1, help="Threads that DSPy may use; homefire takes its default.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, help="Token limit of one call.")] = 128,
    python: Annotated[str | None, typer.Option(help=f"Python of an environment that has dspy=={DSPY}, instead of making one.")] = None,
    out: Annotated[Path | None, typer.Option(help="File for the numbers, as JSON.")] = None,
) -> None:
    """Measure and print."""
    quiet_libraries()
    pull(model)
    work: dict[str, Any] = {"formats": FORMATS, "max_tokens": max_tokens, "texts": TEXTS[:texts], "docstrings": _docstrings(examples + 8)}
    work["warm_up"] = [work["docstrings"].pop() for _ in range(8)]
    with tempfile.TemporaryDirectory(prefix="bench-dspy-") as folder:
        peer = python or _environment(Path(folder))
        with Server(model, port=0, adapters=()) as server, progress("DSPy on the server"):
            dspy = _run(peer, "dspy", work | {"model": server.name, "url": server.url, "threads": threads}, Path(folder))
        with progress("homefire in process"):
            ours = _run(sys.executable, "homefire", work | {"model": model, "threads": None}, Path(folder))
    rows = [_compared(form, ours, dspy) for form in FORMATS]
    _print(rows)
    if out is not None:
        facts = {"model": model, "dspy": DSPY, "threads": threads, "max_tokens": max_tokens}
        write_atomic(out, json.dumps({**facts, "compared": rows, "homefire": ours, "peer": dspy}, indent=1))


def _docstrings(count: int) -> list[str]:
    """Distinct docstrings, spread over Python's library."""
    rows = stdlib_docstrings()
    return [rows[index * len(rows) // count].text for index in range(count)]


def _environment(folder: Path) -> str:
    """Python of a new environment with DSPy."""
    home = folder / "venv"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    with progress(f"Installing DSPy {DSPY} into an environment of its own"):
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", f"dspy=={DSPY}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"DSPy {DSPY} could not be installed:\n{done.stderr[-2000:]}\nGive an environment that has it with --python.")
    return str(python)


def _run(python: str, library: str, work: dict[str, Any], folder: Path) -> Rows:
    """What one side measured."""
    files = folder / f"{library}-work.json", folder / f"{library}-result.json"
    files[0].write_text(json.dumps(work), encoding="utf-8")
    switches = {
        "HOMEFIRE_QUIET": "1",
        "DSPY_CACHEDIR": str(folder / "cache"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    command = [python, str(PEER), library, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **switches}, cwd=folder)
    if done.returncode != 0:
        raise SystemExit(f"{library} failed:\n{done.stderr[-3000:]}")
    rows: Rows = json.loads(files[1].read_text(encoding="utf-8"))
    return rows


def _compared(form: str, ours: Rows, dspy: Rows) -> dict[str, Any]:
    """The two sides in one format: valid outputs, calls and speed, and the ratio of the speeds."""
    record: dict[str, Any] = {"format": form}
    for side, rows in (("homefire", ours), ("dspy", dspy)):
        mine = [row for row in rows if row["format"] == form]
        typed, speed = [row for row in mine if row["signature"] != SPEED], next(row for row in mine if row["signature"] == SPEED)
        record[side] = {
            "valid": sum(row["valid"] for row in typed),
            "of": sum(row["examples"] for row in typed),
            "calls": sum(row.get("calls", 0) for row in typed) or None,
            "speed_valid": speed["valid"],
            "speed_of": speed["examples"],
            "examples_per_second": speed["examples"] / speed["seconds"],
        }
    record["ratio"] = record["homefire"]["examples_per_second"] / record["dspy"]["examples_per_second"]
    return record


def _print(rows: Rows) -> None:
    table = Table(title=f"homefire in process, DSPy {DSPY} on vLLM's server")
    for column in ("format", "library", "valid, six signatures", "LM calls", "valid, docstrings", "examples/s", "ratio (at least 2)"):
        table.add_column(column, justify="left" if column in ("format", "library") else "right")
    for row in rows:
        for side in ("homefire", "dspy"):
            part = row[side]
            valid = f"{part['valid']} of {part['of']}", str(part["calls"] or ""), f"{part['speed_valid']} of {part['speed_of']}"
            table.add_row(
                row["format"], side, *valid, f"{part['examples_per_second']:.2f}", f"{row['ratio']:.2f}" if side == "homefire" else ""
            )
    Console().print(table)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
