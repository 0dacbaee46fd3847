"""Whether every answer has its types: thousands of generated signatures with hostile inputs. Run: .venv/bin/python scripts/bench_typed.py

A small model answers under the grammars of the three formats in turn, at a token limit that often cuts it off. Each row is written to
`--out` when it is done; after a kill or Ctrl-C the same command goes on where it stopped. Validity is judged by pydantic in strict mode.
Cases of one signature run one after the other, so that what their prompts share is read once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typed_cases import TypedCase, problems, typed_case

import homefire
from homefire.configs.console import progress
from homefire.modules.format import Format
from homefire.modules.parallel import run_in_threads

FORMATS: dict[str, Format] = {"json": homefire.JsonFormat(), "chat": homefire.ChatFormat(), "xml": homefire.XmlFormat()}
CHUNK = 512
"""Cases that are made and handed to threads at once."""


def main(
    count: Annotated[int, typer.Option(help="Generations, over all formats.")] = 10_000,
    out: Annotated[Path, typer.Option(help="File of the rows, one JSON object a line; picked up when it is there.")] = Path("typed.jsonl"),
    model: Annotated[str, typer.Option(help="Model to run.")] = "smollm2-135m",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer before it is closed.")] = 96,
    context: Annotated[int, typer.Option(help="Most tokens of prompt and answer; inputs have up to 4000 characters.")] = 6144,
    signatures: Annotated[int, typer.Option(help="Different signatures; each is compiled once for each format.")] = 250,
    seed: Annotated[int, typer.Option(help="Of the cases.")] = 0,
) -> None:
    """Measure, save and print."""
    setup = {"model": model, "max_tokens": max_tokens, "context": context, "signatures": signatures, "seed": seed}
    rows = _opened(out, setup)
    done = {row["case"] for row in rows}
    left = sorted((number for number in range(count) if number not in done), key=lambda number: (number % signatures, number))
    lock = threading.Lock()

    def save(row: dict[str, Any]) -> None:
        with lock, out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=True) + "\n")
            rows.append(row)

    if left:
        lm = homefire.LM(model, max_tokens=max_tokens, context=context, cache=False)
        threads = lm.max_batch
        with progress("Generating", total=len(left)) as task:
            for start in range(0, len(left), CHUNK):
                calls = [partial(_run, lm, typed_case(seed, number, signatures), number, save) for number in left[start : start + CHUNK]]
                run_in_threads(calls, threads, lambda _: task.advance())
    _print([row for row in rows if row["case"] < count])


def _run(lm: homefire.LM, case: TypedCase, number: int, save: Callable[[dict[str, Any]], None]) -> None:
    name = list(FORMATS)[number % len(FORMATS)]
    row: dict[str, Any] = {"case": number, "format": name, "outputs": len(case.signature.output_fields)}
    with homefire.context(lm=lm, format=FORMATS[name]):
        try:
            prediction = homefire.Predict(case.signature)(**case.inputs)
        except (homefire.ParseError, homefire.EngineError, homefire.ContextTooLong) as error:
            save({**row, "error": f"{type(error).__name__}: {error}"[:500], "calls": 0, "closed": False, "tokens": 0})
            return
    wrong = problems(case, prediction)
    info = prediction.info
    row |= {"error": "; ".join(wrong) or None, "calls": info.calls, "closed": prediction.cut_off, "tokens": info.completion_tokens}
    save(row)


def _opened(out: Path, setup: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are there, without one that a kill cut in half; a new file begins with what is run."""
    lines = out.read_text(encoding="utf-8").splitlines(keepends=True) if out.exists() else []
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
        out.write_text("".join(lines), encoding="utf-8")
    if not lines:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"setup": setup}) + "\n", encoding="utf-8")
        return []
    first = json.loads(lines[0])
    if first != {"setup": setup}:
        raise SystemExit(f"{out} is of another run, {first}; this one is {setup}. Give another --out, or the same options.")
    return [json.loads(line) for line in lines[1:]]


def _print(rows: Iterable[dict[str, Any]]) -> None:
    table = Table(title="Typed outputs", caption="closed: cut off and completed; again: asked again; calls and tokens of an answer")
    for column in ("format", "n", "valid", "share", "closed", "again", "calls", "tokens", "an output"):
        table.add_column(column, justify="right" if table.columns else "left")
    by_format = {name: [row for row in rows if row["format"] == name] for name in FORMATS}
    for name, some in {**by_format, "all": list(rows)}.items():
        if not some:
            continue
        count, tokens = len(some), sum(row["tokens"] for row in some)
        closed = sum(row["closed"] for row in some)
        again = sum(max(0, row["calls"] - 1 - row["closed"]) for row in some)
        valid = sum(row["error"] is None for row in some)
        calls = sum(row["calls"] for row in some)
        cells = (count, valid, f"{valid / count:.2%}", closed, again, f"{calls / count:.3f}", f"{tokens / count:.1f}")
        table.add_row(name, *map(str, cells), f"{tokens / sum(row['outputs'] for row in some):.1f}")
    console = Console()
    console.print(table)
    for row in rows:
        if row["error"] is not None:
            console.print(f"case {row['case']} ({row['format']}): {row['error']}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
