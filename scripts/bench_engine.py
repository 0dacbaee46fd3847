"""Speed of the engine against bare vLLM, as ratios within one run. Run it with: .venv/bin/python scripts/bench_engine.py

Each round measures, in a fresh process each: vLLM's own `LLM.chat` with the engine settings that homefire chose; homefire's `Evaluate`
over the same examples; and `LLM.chat` out of the box. Same prompts, grammar and greedy sampling everywhere. Two signatures of two fields:
`labels` has two choices; `text` has a free text that often reaches its token limit. There bare vLLM stops with broken JSON, while homefire
also closes it: those tokens count, and so does the time they take.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Annotated, Any, Literal, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

import homefire
from homefire.configs.console import progress, quiet_libraries
from homefire.demo_data import stdlib_docstrings
from homefire.engine.catalogue import pull, resolve
from homefire.engine.pool import chosen_settings
from homefire.engine.settings import EngineSettings
from homefire.engine.vllm_backend import CPU_BLOCK
from homefire.modules.json_format import JsonFormat

MAX_TOKENS = 48


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


SIGNATURES: dict[str, type[homefire.Signature]] = {"labels": Labels, "text": Text}


class Case(NamedTuple):
    """One measurement."""

    contestant: str
    signature: str
    count: int


def texts(count: int) -> list[str]:
    """Distinct docstrings, spread over the library; the last eight are for the warm-up."""
    rows = stdlib_docstrings()
    return [rows[index * len(rows) // (count + 8)].text for index in range(count + 8)]


def main(
    model: Annotated[str, typer.Option(help="Model to run.")] = "smollm2-135m",
    examples: Annotated[int, typer.Option(help="Examples for Evaluate.")] = 256,
    at_once: Annotated[int, typer.Option(help="Requests for the comparison with vLLM out of the box.")] = 64,
    rounds: Annotated[int, typer.Option(help="Times that everything is measured.")] = 3,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
    signature: Annotated[str, typer.Option(hidden=True)] = "text",
) -> None:
    """Measure and print."""
    if child is not None:
        print(json.dumps(_measure(child, model, examples, SIGNATURES[signature])))
        return
    pull(model)
    speeds: dict[Case, list[float]] = {}
    plan = [Case(who, name, examples) for name in SIGNATURES for who in ("tuned", "homefire")]
    plan += [Case("default", "text", at_once), Case("homefire", "text", at_once)]
    with progress("Measuring", total=rounds * len(plan)) as task:
        for _ in range(rounds):
            for case in plan:
                speeds.setdefault(case, []).append(_in_child(case, model))
                task.advance()
    _print(speeds)


def _in_child(case: Case, model: str) -> float:
    command = [sys.executable, __file__, "--child", case.contestant, "--model", model]
    command += ["--examples", str(case.count), "--signature", case.signature]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "HOMEFIRE_QUIET": "1"})
    if done.returncode != 0:
        raise SystemExit(f"{case} failed:\n{done.stderr[-3000:]}")
    measured = json.loads(done.stdout.strip().splitlines()[-1])
    return float(measured["tokens"] / measured["seconds"])


def _measure(contestant: str, model: str, count: int, signature: type[homefire.Signature]) -> dict[str, float]:
    quiet_libraries()
    return _homefire(model, count, signature) if contestant == "homefire" else _bare(contestant, model, count, signature)


def _homefire(model: str, count: int, signature: type[homefire.Signature]) -> dict[str, float]:
    lm = homefire.LM(model, max_tokens=MAX_TOKENS)
    program = homefire.Predict(signature)
    program.lm = lm
    *measured, warm_up = _examples(count)
    evaluate = homefire.Evaluate(measured, lambda example, prediction: prediction.returns == "yes", display_progress=False)
    program.batch(warm_up)
    started = time.perf_counter()
    result = evaluate(program)
    return {"tokens": sum(row.completion_tokens for row in result.rows), "seconds": time.perf_counter() - started}


def _examples(count: int) -> list[Any]:
    made = [homefire.Example(docstring=text).with_inputs("docstring") for text in texts(count)]
    return [*made[:count], made[count:]]


def _bare(contestant: str, model: str, count: int, signature: type[homefire.Signature]) -> dict[str, float]:
    path = resolve(model).path
    assert path is not None
    chosen = chosen_settings(resolve(model), EngineSettings())
    arguments: dict[str, Any] = {"model": str(path), "disable_log_stats": True}
    if chosen.kv_cache_gib:  # without a size of its own, vLLM wants nearly all of the machine's memory and may not start
        arguments["kv_cache_memory_bytes"] = int(chosen.kv_cache_gib * 2**30)
    if contestant == "tuned":
        if chosen.cores:
            os.environ["VLLM_CPU_OMP_THREADS_BIND"] = chosen.cores
        if chosen.device == "cpu":
            arguments["block_size"] = CPU_BLOCK
        arguments |= {
            "dtype": chosen.dtype,
            "max_model_len": chosen.context,
            "max_num_seqs": chosen.max_batch,
            "enforce_eager": chosen.eager,
        }
    from vllm import LLM, SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    llm = LLM(**arguments)
    form = JsonFormat()
    grammar = StructuredOutputsParams(grammar=form.grammar(signature).gbnf)
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, structured_outputs=grammar)
    chats = [[{"role": m.role, "content": m.content} for m in form.render(signature, [], {"docstring": text})] for text in texts(count)]
    llm.chat(chats[count:], sampling, use_tqdm=False)
    started = time.perf_counter()
    outputs = llm.chat(chats[:count], sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"tokens": sum(len(output.outputs[0].token_ids) for output in outputs), "seconds": seconds}


def _print(speeds: dict[Case, list[float]]) -> None:
    middle = {case: statistics.median(values) for case, values in speeds.items()}
    table = Table(title="Completion tokens per second")
    for column in ("what", "signature", "requests", "median", "all rounds", "ratio to vLLM"):
        table.add_column(column)
    names = {"tuned": "LLM.chat with homefire's settings", "homefire": "homefire Evaluate", "default": "LLM.chat out of the box"}
    for case, values in speeds.items():
        bare = next(other for other in speeds if other[1:] == case[1:] and other.contestant != "homefire")
        rounds = ", ".join(f"{value:.0f}" for value in values)
        ratio = f"{middle[case] / middle[bare]:.2f}"
        table.add_row(names[case.contestant], case.signature, str(case.count), f"{middle[case]:.0f}", rounds, ratio)
    Console().print(table)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
