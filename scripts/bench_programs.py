"""What programs cost beside the model. Run it with: .venv/bin/python scripts/bench_programs.py --out reports/programs.json

Every measurement runs in a fresh process. Predict's own cost, and what recording adds to it, are those of an engine that answers at once:
the best and the mean of many short rounds. What recording costs a user is told as a share of a real call of the small model, alone and as
one of 64 at once, and measured too, by batches with and without it in turns. ReAct over 64 questions at once is compared with 64 calls of
Predict: requests in flight, as their mean over the time of the run, and tokens a second. The response cache is off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

import homefire
from homefire.configs.console import progress, quiet_libraries
from homefire.configs.home import write_atomic
from homefire.engine.batch import Texts
from homefire.engine.catalogue import pull

MAX_TOKENS = 48
CALLS = 20
"""Calls of one short round."""
Measured = dict[str, float]


class Sort(homefire.Signature):
    """Say what kind of question it is, and answer it."""

    question: str = homefire.InputField()
    kind: Literal["count", "place", "person", "other"] = homefire.OutputField()
    answer: str = homefire.OutputField()


def lookup(topic: str) -> str:
    """Looks a topic up."""
    return f"Nothing much is known about {topic}."


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


class InFlight(homefire.BaseCallback):
    """Requests in flight over time, and tokens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._changed = self.began = time.perf_counter()
        self._area = 0.0
        self.requests = self.tokens = 0

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self._move(1)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self._move(-1)
        if isinstance(outputs, Texts):
            with self._lock:
                self.requests += 1
                self.tokens += sum(one.completion_tokens for one in outputs.completions)

    def measured(self) -> Measured:
        """The means from the beginning until now."""
        self._move(0)
        seconds = time.perf_counter() - self.began
        return {
            "in_flight": self._area / seconds,
            "tokens_per_second": self.tokens / seconds,
            "requests": self.requests,
            "seconds": seconds,
        }

    def _move(self, change: int) -> None:
        with self._lock:
            now = time.perf_counter()
            self._area += self._now * (now - self._changed)
            self._now, self._changed = self._now + change, now


@contextmanager
def recorded() -> Iterator[None]:
    """A block inside `record`."""
    with homefire.record():
        yield


@contextmanager
def stored() -> Iterator[None]:
    """A block that a trace store records."""
    with tempfile.TemporaryDirectory() as folder:
        store = homefire.TraceStore(Path(folder) / "traces.db", max_waiting=1_000_000)
        with store.recording():
            yield
        stats = store.stats()
        store.close()
        if stats.dropped or stats.lost:
            raise SystemExit(f"{stats.dropped} runs were dropped and {stats.lost} lost: {stats.problem}")


RECORDINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {"nothing": nullcontext, "record": recorded, "store": stored}


def questions(count: int) -> list[homefire.Example]:
    """Distinct questions."""
    return [homefire.Example(question=f"How many legs do {number} spiders have?").with_inputs("question") for number in range(2, count + 2)]


def own_cost(model: str, count: int) -> Measured:
    """Milliseconds of a call with an engine that answers at once, with nothing recorded, in `record` and in a store; in turns."""
    program = homefire.Predict(Sort)
    program.lm = homefire.ScriptedLM(lambda request: '{"kind": "count", "answer": "sixteen legs in all"}')
    seen: dict[str, list[float]] = {name: [] for name in RECORDINGS}
    for _ in range(max(1, count // 50)):
        for name, recording in RECORDINGS.items():
            with recording():
                for _ in range(50):
                    started = time.perf_counter()
                    for _ in range(CALLS):
                        program(question="How many legs do two spiders have?")
                    seen[name].append((time.perf_counter() - started) / CALLS)
    best = {f"{name}_best": 1000 * min(values) for name, values in seen.items()}
    return best | {f"{name}_mean": 1000 * statistics.fmean(values) for name, values in seen.items()}


def real(model: str, count: int) -> Measured:
    """Milliseconds of a real call alone and as one of many, with nothing recorded and in a store; in turns."""
    program = homefire.Predict(Sort)
    program.lm = homefire.LM(model, cache=False, max_tokens=MAX_TOKENS)
    examples = questions(count)
    program.batch(examples[:4])
    alone, batches = [], {name: [0.0] * 0 for name in RECORDINGS}
    for example in examples[:8]:
        started = time.perf_counter()
        program(**example.inputs())
        alone.append(time.perf_counter() - started)
    for _ in range(3):
        for name, recording in RECORDINGS.items():
            with recording():
                started = time.perf_counter()
                program.batch(examples, threads=count)
                batches[name].append(time.perf_counter() - started)
    found = {f"{name}_batch": 1000 * statistics.median(values) / count for name, values in batches.items()}
    return {"alone": 1000 * statistics.median(alone), **found}


def agents(model: str, count: int) -> Measured:
    """ReAct over many questions at once."""
    return _busy(homefire.ReAct(Sort, tools=[lookup, add], max_iters=4), model, count)


def predicts(model: str, count: int) -> Measured:
    """Predict over the same questions at once."""
    return _busy(homefire.Predict(Sort), model, count)


def _busy(program: homefire.Module, model: str, count: int) -> Measured:
    program.set_lm(homefire.LM(model, cache=False, max_tokens=MAX_TOKENS))
    examples = questions(count)
    program.batch(examples[:2])
    watch = InFlight()
    with homefire.context(callbacks=[watch]):
        program.batch(examples, threads=count)
    return watch.measured()


CASES: dict[str, tuple[int, Callable[[str, int], Measured]]] = {
    "own cost": (300, own_cost),
    "real": (64, real),
    "react": (64, agents),
    "predict": (64, predicts),
}
"""What is measured, with the number of examples that it takes."""


def main(
    model: Annotated[str, typer.Option(help="Model to run.")] = "smollm2-135m",
    rounds: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
    only: Annotated[str, typer.Option(help="Measure only cases whose name has this in it.")] = "",
    examples: Annotated[int | None, typer.Option(help="Examples of every case, for a quick look.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save all measurements there, as JSON.")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and save."""
    if child is not None:
        quiet_libraries()
        count, measure = CASES[child]
        print(json.dumps(measure(model, min(count, examples or count))))
        return
    if not Path(model).is_dir():
        pull(model)
    wanted = [name for name in CASES if only in name]
    found: dict[str, list[Measured]] = {name: [] for name in wanted}
    with progress("Measuring", total=rounds * len(wanted)) as task:
        for _ in range(rounds):
            for name in wanted:
                found[name].append(_in_child(name, model, examples))
                task.advance()
                if out is not None:
                    write_atomic(out, json.dumps(found, indent=2))
    _print(found)


def _in_child(name: str, model: str, examples: int | None) -> Measured:
    command = [sys.executable, __file__, "--child", name, "--model", model]
    command += ["--examples", str(examples)] if examples else []
    environment = {**os.environ, "HOMEFIRE_QUIET": "1", "HOMEFIRE_CACHE": "off"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    measured: Measured = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _print(found: dict[str, list[Measured]]) -> None:
    """The table: medians of the rounds."""
    table = Table(title="Programs")
    for column in ("what", "wanted", "median"):
        table.add_column(column)

    def row(title: str, wanted: str, name: str, value: Callable[[Measured], float], unit: str) -> None:
        if found.get(name):
            table.add_row(title, wanted, f"{statistics.median(map(value, found[name])):.3g}{unit}")

    row("Predict's own cost", "0.1 ms", "own cost", lambda one: one["nothing_best"], " ms")
    for kind in ("record", "store"):
        for measure in ("best", "mean"):
            row(
                f"{kind} adds to it, {measure}", "", "own cost", lambda one, k=kind, m=measure: one[f"{k}_{m}"] - one[f"nothing_{m}"], " ms"
            )
    row("a real call alone", "", "real", lambda one: one["alone"], " ms")
    row("a real call in a batch", "", "real", lambda one: one["nothing_batch"], " ms")
    if found.get("own cost") and found.get("real"):
        for kind in ("record", "store"):
            added = statistics.median(one[f"{kind}_mean"] - one["nothing_mean"] for one in found["own cost"])
            for title, call in (("alone", "alone"), ("in a batch", "nothing_batch")):
                row(f"{kind}: share of a real call {title}", "3%", "real", lambda one, a=added, c=call: 100 * a / one[c], "%")
    for kind in ("record", "store"):
        row(f"{kind}: batches with it over without", "1.03", "real", lambda one, k=kind: one[f"{k}_batch"] / one["nothing_batch"], "")
    for name in ("react", "predict"):
        row(f"{name}: mean requests in flight", "", name, lambda one: one["in_flight"], "")
        row(f"{name}: tokens/s", "", name, lambda one: one["tokens_per_second"], "")
    Console().print(table)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
