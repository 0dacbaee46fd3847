"""The HTML page of an evaluation: one file that loads nothing, failures first.

Knows no program and no disk: it turns rows into text, and escapes every text that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pydantic_core import to_json

from homefire.modules.example import Example
from homefire.optimizers.charts import Bar, score_plot
from homefire.optimizers.evaluation_row import Row, interval_of, is_binary, json_fields
from homefire.optimizers.evaluation_style import SCRIPT, SCRIPT_HASH
from homefire.optimizers.evaluation_style import STYLE as OWN_STYLE
from homefire.optimizers.report_data import duration, interval_in_percent
from homefire.optimizers.report_style import STYLE

_LONGEST = 6000
_BINS = 20


def page(rows: Sequence[Row], *, metric: str, program: str, seconds: float) -> str:
    """The whole page.

    Args:
        rows: What was measured, in the order of the examples.
        metric: Name of the metric.
        program: Name of the program.
        seconds: What all of it took.
    """
    title = f"{program or 'A program'} on {len(rows)} examples"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_HASH}'"
    body = _head(title, metric) + _headline(rows, seconds) + _histogram(rows) + _rows(rows)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{STYLE}{OWN_STYLE}</style></head>\n"
        f"<body><main>{body}<footer>Written by homefire. This page is one file and loads nothing.</footer></main>"
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def _head(title: str, metric: str) -> str:
    judged = f'<p class="subtitle">Judged by {escape(metric)}.</p>' if metric else ""
    return f'<header><p class="eyebrow"><b>homefire</b> · evaluation</p><h1>{escape(title)}</h1>{judged}</header>'


def _headline(rows: Sequence[Row], seconds: float) -> str:
    if not rows:
        return '<p class="none">No example was evaluated.</p>'
    scores = [row.score for row in rows]
    mean, interval = sum(scores) / len(scores), interval_of(scores)
    share = is_binary(scores)
    words = f"{100 * interval.level:.0f}% interval {interval_in_percent(interval)}"
    plot = ""
    if interval.low >= 0 and interval.high <= 1:
        bar = Bar(name="Score", value=mean, low=interval.low, high=interval.high, tooltip=words)
        plot = f"<div>{score_plot([bar], chance=0)}</div>"
    failed, invalid = (sum(flags) for flags in ([row.error is not None for row in rows], [row.invalid for row in rows]))
    tokens = sum(row.prompt_tokens + row.completion_tokens for row in rows)
    right = f"{int(sum(scores))} of {len(rows)} right" if share else f"{min(scores):.3g} to {max(scores):.3g}"
    stats = (
        ("Examples", f"{len(rows)}", right),
        ("Failed", f"{failed}", f"{invalid} of them without a typed answer" if invalid else "with an error"),
        ("Tokens", f"{tokens:,}", f"{tokens / max(seconds, 1e-9):,.0f} a second"),
        ("Time", duration(seconds), f"{sum(row.seconds for row in rows) / len(rows):.2g} s an example"),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in stats)
    return (
        '<div class="card headline single"><div><p class="jump-name">Score</p><p class="jump">'
        f'<span class="new">{100 * mean:.1f}<small>%</small></span></p><p class="jump-note">{words}</p></div>{plot}'
        f'<dl class="stats">{cells}</dl></div>'
    )


def _histogram(rows: Sequence[Row]) -> str:
    scores = [row.score for row in rows]
    if is_binary(scores):
        return ""
    low, high = min(0.0, *scores), max(1.0, *scores)
    counts = [0] * _BINS
    for score in scores:
        counts[min(int((score - low) / (high - low) * _BINS), _BINS - 1)] += 1
    edges = [low + place * (high - low) / _BINS for place in range(_BINS + 1)]
    bars = "".join(
        f'<i style="height:{100 * count / max(counts):.1f}%" title="{edges[place]:.3g} to {edges[place + 1]:.3g}: {count}"></i>'
        for place, count in enumerate(counts)
    )
    ticks = "".join(f"<span>{low + share * (high - low):.3g}</span>" for share in (0, 0.25, 0.5, 0.75, 1))
    chart = f'<div class="histogram" role="img" aria-label="Histogram of scores">{bars}</div><div class="histogram-axis">{ticks}</div>'
    return f'<section><h2>Scores</h2><p class="lead">How many examples have which score. Higher is better.</p>{chart}</section>'


def _rows(rows: Sequence[Row]) -> str:
    order = sorted(range(len(rows)), key=lambda place: (rows[place].error is None, rows[place].score, place))
    kinds = [_kind(row) for row in rows]
    names = {"all": "All", "failed": "Failed", "low": "Wrong", "high": "Right"}
    if not is_binary([row.score for row in rows if row.error is None]):
        names |= {"low": "Below a half", "high": "A half and above"}
    counts = {name: len(rows) if name == "all" else kinds.count(name) for name in names}
    picks = "".join(f'<input class="pick" type="radio" name="pick" id="{name}"{" checked" if name == "all" else ""}>' for name in names)
    labels = "".join(f'<label for="{name}">{word} {counts[name]}</label>' for name, word in names.items())
    search = '<input type="search" placeholder="Search" aria-label="Search the rows" hidden>'
    items = "".join(_row(place, rows[place], kinds[place]) for place in order)
    lead = "Failures first, then from the lowest score up. A row opens to show all of it."
    return (
        f'<section class="long"><h2>Examples</h2><p class="lead">{lead}</p>{picks}'
        f'<div class="filters">{labels}{search}</div><div class="rows">{items}</div></section>'
    )


def _kind(row: Row) -> str:
    if row.error is not None:
        return "failed"
    return "high" if row.score >= 0.5 else "low"


def _row(place: int, row: Row, kind: str) -> str:
    inputs, labels = _sides(row.example)
    outputs = {} if row.prediction is None else json_fields(row.prediction)
    answer = " · ".join(map(_text, outputs.values())) if row.prediction is not None else row.error or ""
    score = "failed" if kind == "failed" else f"{row.score:.3g}"
    pill = {"failed": "", "low": "" if row.score == 0 else " some", "high": " ok" if row.score == 1 else " some"}[kind]
    error = "" if row.error is None else f'<p class="error">{escape(_cut(row.error))}</p>'
    trace = f"<details><summary>Traceback</summary><pre>{escape(row.traceback)}</pre></details>" if row.traceback else ""
    cost = f"{row.seconds:.2f} s, {row.prompt_tokens:,} tokens in, {row.completion_tokens:,} out"
    return (
        f'<details class="{kind}"><summary><span class="place">{place + 1}</span>'
        f"<span>{escape(' · '.join(map(_text, inputs.values()))[:300])}</span>"
        f'<span class="answer">{escape(answer[:200])}</span><span class="pill{pill}">{score}</span></summary>'
        f'<div class="detail">{error}{_list(inputs, "in")}{_list(labels, "wanted")}{_list(outputs, "out")}{trace}'
        f'<p class="cost">{cost}</p></div></details>'
    )


def _sides(example: Example) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The inputs, and what was wanted."""
    fields = json_fields(example)
    if example._input_keys is None:
        return fields, {}
    known = example._input_keys
    return {name: value for name, value in fields.items() if name in known}, {n: v for n, v in fields.items() if n not in known}


def _list(values: Mapping[str, Any], kind: str) -> str:
    names = {"in": "", "wanted": "wanted: ", "out": "→ "}
    items = "".join(f"<dt>{names[kind]}{escape(name)}</dt><dd>{escape(_cut(_text(value)))}</dd>" for name, value in values.items())
    return f'<dl class="{kind}">{items}</dl>' if items else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text) - _LONGEST:,} more characters)"
