"""`homefire traces`: list, show, export, feedback.

Knows only the trace store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from homefire.configs.home import size, write_atomic
from homefire.errors import InputError
from homefire.modules.stored_trace import StoredTrace, TraceSummary, as_plain
from homefire.modules.trace import Step
from homefire.modules.trace_store import TraceStore

app = typer.Typer(no_args_is_help=True, help="Look into what programs did, export it, and say how good it was.")

Store = Annotated[Path | None, typer.Option("--store", help="The trace store's file; default: the one in homefire's folder.")]
Since = Annotated[str | None, typer.Option(metavar="WHEN", help="30m, 24h, 7d, or a date such as 2026-01-31.")]
Program = Annotated[str | None, typer.Option(help="Only runs of this program, by the name of its class.")]
MinScore = Annotated[float | None, typer.Option(help="Only runs whose feedback has at least this score.")]
Failed = Annotated[bool | None, typer.Option("--failed/--ok", help="Only runs that failed, or only others.", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="TRACE", help="Id of a trace, or its beginning.", show_default=False)]

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command("list")
def list_traces(
    since: Since = None,
    program: Program = None,
    min_score: MinScore = None,
    failed: Failed = None,
    limit: Annotated[int, typer.Option(min=1, help="Most runs.")] = 20,
    store: Store = None,
) -> None:
    """List the last runs: when, what, how long, how good."""
    kept = TraceStore(store)
    found = kept.find(since=_when(since), program=program, min_score=min_score, failed=failed, limit=limit)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Trace", "Began", "Program", "Steps", "Tokens", "Time", "Score", "Inputs", "Outputs"):
        table.add_column(column, justify="right" if column in ("Steps", "Tokens", "Time", "Score") else "left", no_wrap=column == "Trace")
    for one in found:
        table.add_row(*_row(one))
    if not found:
        typer.echo("There are no such traces.")
        return
    _print(table)
    stats = kept.stats()
    typer.echo(f"{len(found)} of {stats.traces} traces, {size(stats.bytes)}. Look into one with: homefire traces show {found[0].id[:8]}")


@app.command("show")
def show_trace(trace: Id, store: Store = None) -> None:
    """Show a run: its steps with prompts and answers, its tools, its feedback."""
    found = TraceStore(store).get(trace)
    console = Console(highlight=False, markup=False, emoji=False)
    one = found.summary
    console.print(Text(f"{one.id}  {one.program}", style="bold"))
    console.print(f"{_time(one.started)}, {one.seconds:.2f} s, {one.prompt_tokens} + {one.completion_tokens} tokens", soft_wrap=True)
    for label, values in (("Inputs", one.inputs), ("Outputs", one.outputs)):
        _fields(console, label, values)
    if one.error is not None:
        console.print(Text(f"Failed: {one.error}", style="bold red"), soft_wrap=True)
    for number, step in enumerate(found.steps, 1):
        _step(console, number, step)
    for call in found.calls:
        if call.kind == "tool":
            console.print(Text(f"\nTool {call.name}  {call.seconds:.2f} s", style="bold"))
            _fields(console, "Arguments", call.inputs)
            console.print(f"  gave {call.outputs!r}" if call.error is None else f"  failed: {call.error}", soft_wrap=True)
    for said in found.feedback:
        words = [part for part in ("" if said.score is None else f"score {said.score:g}", said.text) if part]
        console.print(Text(f"\nFeedback of {_time(said.at)}: {', '.join(words)}", style="bold green"), soft_wrap=True)
        _fields(console, "Labels", said.labels)


@app.command("export")
def export_traces(
    out: Annotated[Path, typer.Argument(help="JSON Lines file to write.", show_default=False)],
    form: Annotated[
        Literal["chat", "steps"],
        typer.Option("--form", help="chat: a sample for each answered step; steps: all that is known."),
    ] = "chat",
    since: Since = None,
    program: Program = None,
    min_score: MinScore = None,
    failed: Failed = None,
    path: Annotated[str | None, typer.Option(help="Only steps of the predictor of this dotted path.")] = None,
    store: Store = None,
) -> None:
    """Export steps as JSON Lines, the oldest first."""
    traces = TraceStore(store).traces(since=_when(since), program=program, min_score=min_score, failed=failed)
    lines = [line for trace in traces for line in (_chats(trace, path) if form == "chat" else _steps(trace, path))]
    write_atomic(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    typer.echo(f"Wrote {len(lines)} {'chat samples' if form == 'chat' else 'steps'} to {out}.")


@app.command("feedback")
def give_feedback(
    trace: Id,
    score: Annotated[float | None, typer.Option(help="By convention 0 is useless and 1 is right.")] = None,
    text: Annotated[str, typer.Option(help="In words.")] = "",
    label: Annotated[list[str] | None, typer.Option(metavar="FIELD=VALUE", help="An output as it should have been. Repeatable.")] = None,
    store: Store = None,
) -> None:
    """Note how good a run was."""
    kept = TraceStore(store)
    found = kept.get(trace)
    kept.feedback(found.id, score=score, text=text, labels=dict(_label(one) for one in label or []))
    typer.echo(f"Noted for {found.id}.")


def _row(one: TraceSummary) -> list[str | Text]:
    outcome = Text(shorten(one.error, 40), style="red") if one.error is not None else Text(_short(one.outputs))
    tokens, score = f"{one.prompt_tokens}+{one.completion_tokens}", "" if one.score is None else f"{one.score:g}"
    return [one.id[:8], _time(one.started), one.program, str(one.steps), tokens, f"{one.seconds:.2f} s", score, _short(one.inputs), outcome]


def _short(values: Any) -> str:
    return shorten(", ".join(f"{name}={value}" for name, value in values.items()), 40, placeholder=" ...")


def _step(console: Console, number: int, step: Step) -> None:
    model = step.model if step.adapter is None or step.adapter in step.model else f"{step.model} with {step.adapter}"
    took = f"{step.seconds:.2f} s, {step.usage.prompt_tokens} + {step.usage.completion_tokens} tokens"
    console.print(Text(f"\nStep {number}: {step.path}  {model}, {took}", style="bold"), soft_wrap=True)
    for message in step.messages:
        console.print(Text(f"{message.role}:", style="dim"), Text(message.content), soft_wrap=True)
    if step.answer:
        console.print(Text("answer:", style="dim"), Text(step.answer), soft_wrap=True)
    if step.error is not None:
        console.print(Text(f"Failed: {step.error}", style="bold red"), soft_wrap=True)


def _fields(console: Console, label: str, values: Any) -> None:
    if values:
        console.print(Text(label, style="bold"))
        for name, value in values.items():
            console.print(f"  {name}: {value}", soft_wrap=True)


def _chats(trace: StoredTrace, path: str | None) -> Iterator[dict[str, Any]]:
    """A chat for each answered step whose prompt was kept."""
    for step in trace.steps:
        if step.error is None and step.messages and step.answer and path in (None, step.path):
            turns = [*((one.role, one.content) for one in step.messages), ("assistant", step.answer)]
            facts = {"trace": trace.id, "path": step.path, "score": trace.score}
            yield {"messages": [{"role": role, "content": content} for role, content in turns], **facts}


def _steps(trace: StoredTrace, path: str | None) -> Iterator[dict[str, Any]]:
    for step in trace.steps:
        if path in (None, step.path):
            yield {
                "trace": trace.id,
                "step": step.id,
                "program": trace.summary.program,
                "path": step.path,
                "inputs": as_plain(step.inputs),
                "outputs": as_plain(dict(step.prediction.items())),
                "error": step.error,
                "messages": [{"role": one.role, "content": one.content} for one in step.messages],
                "answer": step.answer,
                "completions": [asdict(one) for one in step.completions],
                "model": step.model,
                "adapter": step.adapter,
                "started": step.started,
                "seconds": step.seconds,
                "score": trace.score,
                "feedback": [asdict(one) for one in trace.feedback],
            }


def _label(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"The label {text!r} has no value. Write it as FIELD=VALUE, as in --label answer=42.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _when(text: str | None) -> datetime | timedelta | None:
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise InputError(f"--since is {text!r}; expected so long ago, as in 30m, 24h or 7d, or a date such as 2026-01-31.") from None


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S}"


def _print(table: Table) -> None:
    Console(highlight=False, markup=False).print(table)
