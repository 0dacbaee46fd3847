"""Speed of the engine, as ratios within one run. Run it with: .venv/bin/python scripts/bench_engine.py --out reports/engine.json

Every measurement runs in a fresh process, and contestants take turns, so that a machine that slows down slows all of them. Decoding is
greedy, with the same prompts and grammar for homefire and for vLLM's own `LLM.chat`, which gets the engine settings that homefire chose.
Two signatures of two outputs: `labels` has two choices; `text` has a free text that often reaches its token limit. There bare vLLM stops
with broken JSON, while homefire also closes it: those tokens count, and so does the time they take. The response cache is off.
`--dspy` then measures the same program under DSPy, as `scripts/bench_dspy.py` does alone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

import homefire
from homefire.configs.console import progress, quiet_libraries
from homefire.configs.home import write_atomic
from homefire.demo_data import stdlib_docstrings
from homefire.engine.catalogue import pull, resolve
from homefire.engine.pool import chosen_settings
from homefire.engine.scripted_engine import ScriptedLM
from homefire.engine.settings import EngineSettings
from homefire.engine.vllm_arguments import CPU_BLOCK
from homefire.modules.json_format import JsonFormat

MAX_TOKENS = 48
LABELS = 77
Measured = dict[str, float]


class Text(homefire.Signature):
    """Say in a few words what the docstring's function does, and whether it returns something."""

    docstring: str = homefire.InputField()
    summary: str = homefire.OutputField()
    returns: Literal["yes", "no", "unclear"] = homefire.OutputField()


class Labels(homefire.Signature):
    """Say what the docstring's function does, and whether it returns something."""

    docstring: str = homefire.InputField()
    kind: Literal["reads", "writes", "computes", "checks", "other"] = homefire.OutputField()
    returns: Literal["yes", "no", "unclear"] = homefire.OutputField()


def texts(count: int) -> list[str]:
    """Distinct docstrings, spread over the library; the last eight are for the warm-up."""
    rows = stdlib_docstrings()
    return [rows[index * len(rows) // (count + 8)].text for index in range(count + 8)]


def _examples(count: int) -> tuple[list[homefire.Example], list[homefire.Example]]:
    made = [homefire.Example(docstring=text).with_inputs("docstring") for text in texts(count)]
    return made[:count], made[count:]


def _program(model: str, signature: Any, **sampling: Any) -> homefire.Predict:
    program = homefire.Predict(signature)
    program.lm = homefire.LM(model, cache=False, max_tokens=MAX_TOKENS, **sampling)
    return program


def evaluate(model: str, count: int, signature: type[homefire.Signature]) -> Measured:
    """`Evaluate` over the examples."""
    program = _program(model, signature)
    examples, warm_up = _examples(count)
    program.batch(warm_up)
    evaluation = homefire.Evaluate(examples, lambda example, prediction: prediction.returns == "yes", display_progress=False)
    started = time.perf_counter()
    result = evaluation(program)
    return {"tokens": sum(row.completion_tokens for row in result.rows), "seconds": time.perf_counter() - started}


def bare(model: str, count: int, signature: type[homefire.Signature], tuned: bool = True) -> Measured:
    """`LLM.chat` over the same prompts, with homefire's engine settings or as it comes."""
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    llm = LLM(**_bare_arguments(model, tuned))
    form = JsonFormat()
    grammar = StructuredOutputsParams(grammar=form.grammar(signature).gbnf)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, structured_outputs=grammar)
    chats = [[{"role": m.role, "content": m.content} for m in form.render(signature, [], {"docstring": text})] for text in texts(count)]
    llm.chat(chats[count:], sampling, use_tqdm=False)
    started = time.perf_counter()
    outputs = llm.chat(chats[:count], sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"tokens": sum(len(output.outputs[0].token_ids) for output in outputs), "seconds": seconds}


def _bare_arguments(model: str, tuned: bool) -> dict[str, Any]:
    chosen = chosen_settings(resolve(model), EngineSettings())
    arguments: dict[str, Any] = {"model": str(resolve(model).path), "disable_log_stats": True}
    if chosen.kv_cache_gib:  # without a size of its own, vLLM wants nearly all of the machine's memory and may not start
        arguments["kv_cache_memory_bytes"] = int(chosen.kv_cache_gib * 2**30)
    if not tuned:
        return arguments
    if chosen.cores:
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = chosen.cores
    if chosen.device == "cpu":
        arguments["block_size"] = CPU_BLOCK
    return arguments | {
        "dtype": chosen.dtype,
        "max_model_len": chosen.context,
        "max_num_seqs": chosen.max_batch,
        "enforce_eager": chosen.eager,
    }


def samples(model: str, count: int) -> Measured:
    """Eight samples of one call against eight calls, one after the other."""
    program = _program(model, Text, temperature=0.8)
    examples, warm_up = _examples(count)
    program.batch(warm_up)
    started = time.perf_counter()
    for example in examples:
        program(docstring=example.docstring, config={"n": 8})
    together = time.perf_counter() - started
    started = time.perf_counter()
    for example in examples:
        for _ in range(8):
            program(docstring=example.docstring)
    return {"ratio": (time.perf_counter() - started) / together}


def prefix(model: str, count: int) -> Measured:
    """Share of the prompt tokens of a ten-demo prompt that are served from the prefix cache."""
    program = _program(model, Labels)
    examples, warm_up = _examples(count)
    program.batch(warm_up)
    program.demos = [homefire.Example(docstring=text, kind="computes", returns="yes") for text in texts(10)[:10]]
    infos = [prediction.info for prediction in program.batch(examples)]
    return {"ratio": sum(info.cached_tokens for info in infos) / sum(info.prompt_tokens for info in infos)}


def choices(model: str, count: int) -> Measured:
    """All probabilities of a label among 77 against generating the label: one call at a time, and a batch at once."""
    names = sorted({row.text.split()[0].strip(".,:;()'\"").lower() for row in stdlib_docstrings()})
    labels = tuple([name for name in names if name.isalpha() and len(name) > 3][:LABELS])
    if len(labels) < LABELS:
        raise SystemExit(f"This Python's library has only {len(labels)} words for labels.")
    signature = homefire.Signature("docstring -> label: L", custom_types={"L": Literal[labels]})
    program = _program(model, signature)
    examples, warm_up = _examples(count)
    for prediction in program.batch(warm_up):
        prediction.probabilities("label")
    generating: list[float] = []
    scoring: list[float] = []
    for example in examples:
        started = time.perf_counter()
        prediction = program(docstring=example.docstring)
        generating.append(time.perf_counter() - started)
        started = time.perf_counter()
        prediction.probabilities("label")
        scoring.append(time.perf_counter() - started)
    return {"ratio": sum(generating) / sum(scoring), "milliseconds": 1000 * statistics.median(scoring)}


def overhead(model: str, count: int) -> Measured:
    """Milliseconds of a call of Predict with an engine that answers at once: the best of many short rounds."""
    program = homefire.Predict(Labels)
    program.lm = ScriptedLM(lambda request: '{"kind": "reads", "returns": "yes"}')
    best = float("inf")
    for _ in range(count):
        started = time.perf_counter()
        for _ in range(10):
            program(docstring="Return the answer.")
        best = min(best, (time.perf_counter() - started) / 10)
    return {"milliseconds": 1000 * best}


def imported(model: str, count: int) -> Measured:
    """Seconds and megabytes of `import homefire`, over those of a bare interpreter."""
    code = "{}\nimport resource, time; print(time.perf_counter() - s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    runs: dict[str, list[list[float]]] = {"import homefire": [], "pass": []}
    for _ in range(count):
        for what, seen in runs.items():
            line = code.format(f"import time; s = time.perf_counter()\n{what}")
            seen.append([float(word) for word in subprocess.check_output([sys.executable, "-c", line], text=True).split()])
    own, none = ([statistics.median(values) for values in zip(*seen, strict=True)] for seen in runs.values())
    return {"seconds": own[0] - none[0], "megabytes": own[1] - none[1]}


CASES: dict[str, tuple[int, Callable[[str, int], Measured]]] = {
    "bare labels": (512, lambda model, count: bare(model, count, Labels)),
    "homefire labels": (512, lambda model, count: evaluate(model, count, Labels)),
    "bare text": (512, lambda model, count: bare(model, count, Text)),
    "homefire text": (512, lambda model, count: evaluate(model, count, Text)),
    "default text": (64, lambda model, count: bare(model, count, Text, tuned=False)),
    "homefire 64 texts": (64, lambda model, count: evaluate(model, count, Text)),
    "samples": (6, samples),
    "prefix": (256, prefix),
    "choices": (24, choices),
    "overhead": (1000, overhead),
    "import": (9, imported),
}
"""What is measured, with the number of examples that it takes."""


def main(
    model: Annotated[str, typer.Option(help="Model to run.")] = "smollm2-135m",
    rounds: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
    only: Annotated[str, typer.Option(help="Measure only cases whose name has this in it.")] = "",
    examples: Annotated[int | None, typer.Option(help="Examples of the cases with hundreds, for a quick look.")] = None,
    out: Annotated[Path | None, typer.Option(help="Save all measurements there, as JSON.")] = None,
    dspy: Annotated[
        bool, typer.Option("--dspy", help="Then measure the same program under DSPy; its numbers go to a file beside --out.")
    ] = False,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure, print and save."""
    if child is not None:
        quiet_libraries()
        count, measure = CASES[child]
        print(json.dumps(measure(model, min(count, examples or count) if count > 100 else count)))
        return
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
    if dspy:
        saved = [] if out is None else ["--out", str(out.with_name(f"{out.stem}-dspy.json"))]
        subprocess.run([sys.executable, str(Path(__file__).with_name("bench_dspy.py")), "--model", model, *saved], check=True)


def _in_child(name: str, model: str, examples: int | None) -> Measured:
    command = [sys.executable, __file__, "--child", name, "--model", model]
    command += ["--examples", str(examples)] if examples else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOMEFIRE_QUIET": "1"})
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    measured: Measured = json.loads(done.stdout.strip().splitlines()[-1])
    return measured


def _print(found: dict[str, list[Measured]]) -> None:
    """The table: medians of the rounds, ratios between contestants of the same round."""
    table = Table(title="The engine")
    for column in ("what", "wanted", "median", "all rounds"):
        table.add_column(column)
    for title, own, other, wanted in (
        ("Evaluate over bare LLM.chat, labels, tokens/s", "homefire labels", "bare labels", "0.97"),
        ("Evaluate over bare LLM.chat, text, tokens/s", "homefire text", "bare text", "0.97"),
        ("Evaluate over LLM.chat out of the box, text, tokens/s", "homefire 64 texts", "default text", ""),
    ):
        if own in found and other in found:
            ratios = [_speed(ours) / _speed(theirs) for ours, theirs in zip(found[own], found[other], strict=True)]
            table.add_row(title, wanted, f"{statistics.median(ratios):.2f}", ", ".join(f"{ratio:.2f}" for ratio in ratios))
            for name in (own, other):
                table.add_row(f"   {name}", "", f"{statistics.median(map(_speed, found[name])):.0f} tokens/s", "")
    for title, name, unit, wanted in (
        ("n=8 over eight calls", "samples", "ratio", "3"),
        ("ten-demo prompt: share served from the prefix cache", "prefix", "ratio", "0.9"),
        ("77 labels: generating over scoring all, one call at a time", "choices", "ratio", "1"),
        ("77 labels: scoring all of them", "choices", "milliseconds", ""),
        ("Predict's own cost", "overhead", "milliseconds", "0.1"),
        ("import homefire", "import", "seconds", "0.3"),
        ("import homefire", "import", "megabytes", "40"),
    ):
        if found.get(name):
            values = [measured[unit] for measured in found[name]]
            rounds = ", ".join(f"{value:.3g}" for value in values)
            table.add_row(title, wanted, f"{statistics.median(values):.3g}{'' if unit == 'ratio' else ' ' + unit}", rounds)
    Console().print(table)


def _speed(measured: Measured) -> float:
    return measured["tokens"] / measured["seconds"]


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
