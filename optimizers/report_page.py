"""The HTML page of a report: one file with its style and its charts in it.

Knows no run and no disk: it turns `ReportData` into text, and escapes every text that it was given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from homefire.optimizers.charts import COUNTS_UP_TO, Bar, confusion_matrix, loss_plot, score_plot
from homefire.optimizers.report_data import (
    ChangedExample,
    ReportData,
    ScoreRow,
    duration,
    gain_in_points,
    interval_in_percent,
    p_value_in_words,
    speed,
)
from homefire.optimizers.report_style import STYLE

_SHOWN = 12
"""Changed examples of each kind that are in view; the others unfold."""
_SIDE_BY_SIDE = 14
"""Labels up to which two matrices fit beside each other."""


def page(data: ReportData) -> str:
    """The whole page."""
    sections = (_head, _verdict, _loss, _confusions, _changes, _samples, _stages, _origin, _usage)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(data.title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(section(data) for section in sections)}"
        "<footer>Written by homefire. This page is one file and loads nothing.</footer></main></body></html>\n"
    )


def _head(data: ReportData) -> str:
    facts = {"Model": data.model, "Adapter": data.adapter, "Machine": data.machine, "Written": f"{data.created:%Y-%m-%d %H:%M %Z}".strip()}
    shown = "".join(f"<span><b>{name}</b>{escape(value)}</span>" for name, value in facts.items() if value)
    return (
        f'<header><p class="eyebrow"><b>homefire</b> · finetuning run</p><h1>{escape(data.title)}</h1>'
        f'<p class="subtitle">{escape(data.subtitle)}</p><p class="facts">{shown}</p></header>'
        f'<div class="card headline">{_jump(data)}{_intervals(data)}{_stats(data)}</div>'
    )


def _jump(data: ReportData) -> str:
    before, after = (f"{100 * score.accuracy:.1f}<small>%</small>" for score in (data.scores[0], data.scores[-1]))
    interval = data.scores[-1].interval
    return (
        f'<div><p class="jump-name">Accuracy on the test split</p><p class="jump{" worse" if data.gain < 0 else ""}">'
        f'<span class="old">{before}</span><span class="arrow">→</span><span class="new">{after}</span></p>'
        f'<p class="jump-note">{100 * interval.level:.0f}% interval {interval_in_percent(interval)}</p></div>'
    )


def _intervals(data: ReportData) -> str:
    chance = 1 / max(len(data.labels), 1)
    level = f"{100 * data.scores[0].interval.level:.0f}%"
    note = f"Bars: {level} intervals. Dashed line: a guess among {len(data.labels)} labels, {100 * chance:.1f}%."
    return f'<div>{score_plot([_bar(score) for score in data.scores], chance=chance)}<p class="jump-note">{note}</p></div>'


def _bar(score: ScoreRow) -> Bar:
    words = f"{score.name}: {100 * score.accuracy:.1f}%, {100 * score.interval.level:.0f}% interval {interval_in_percent(score.interval)}"
    return Bar(name=score.name, value=score.accuracy, low=score.interval.low, high=score.interval.high, tooltip=words)


def _stats(data: ReportData) -> str:
    before, after = data.scores[0], data.scores[-1]
    stats = (
        ("Gain", gain_in_points(data).replace("-", "&minus;"), p_value_in_words(data.p_value)),
        ("Mended and broken", f"{len(data.mended)} and {len(data.broken)}", f"of {after.total} test examples"),
        ("Valid outputs", f"{after.valid_outputs} of {after.total}", f"{before.valid_outputs} of {before.total} before"),
        ("Time", duration(sum(stage.seconds for stage in data.stages)), f"in {len(data.stages)} stages"),
    )
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in stats)
    return f'<dl class="stats">{cells}</dl>'


def _verdict(data: ReportData) -> str:
    kind, word = ("", "✓ Promoted") if data.promoted else (" kept", "✗ Not promoted")
    return f'<p class="verdict{kind}"><b>{word}</b><span>{escape(data.gate)}</span></p>'


def _loss(data: ReportData) -> str:
    train = [(point.step, point.loss) for point in data.loss if not point.validation]
    validation = [(point.step, point.loss) for point in data.loss if point.validation]
    return _section(
        "Loss", "How far the model's answers were from the right ones while it trained. Lower is better.", loss_plot(train, validation)
    )


def _confusions(data: ReportData) -> str:
    known = set(data.labels)
    matrices = []
    other = any(answer not in known for counts in (data.confusion_before, data.confusion_after) for _, answer in counts)
    for score, counts in ((data.scores[0], data.confusion_before), (data.scores[-1], data.confusion_after)):
        matrix = confusion_matrix(data.labels, counts, other=other)
        matrices.append(f"<div><h3>{escape(score.name)} <span>{100 * score.accuracy:.1f}% right</span></h3>{matrix}</div>")
    lead = (
        'A row holds the examples of one label, a column one answer. <i class="swatch"></i>right <i class="swatch wrong"></i>wrong; '
        "the fuller the colour, the larger the share of its row. "
        + ("The row ends with its share of right answers." if len(data.labels) <= COUNTS_UP_TO else "Point at a square for its numbers.")
    )
    wide = " wide" if len(data.labels) > _SIDE_BY_SIDE else ""
    return _section("What is taken for what", lead, f'<div class="pair{wide}">{"".join(matrices)}</div>')


def _changes(data: ReportData) -> str:
    mended, broken = data.mended, data.broken
    still = len([example for example in data.changed if example.label not in (example.before, example.after)])
    lead = f"{len(mended)} answers were mended and {len(broken)} were broken" + (
        f"; {still} more changed and are still wrong." if still else "."
    )
    body = _change_list("Mended", "wrong before, right now", mended) + _change_list("Broken", "right before, wrong now", broken)
    return _section("Examples that changed", lead, body, long=True)


def _change_list(name: str, meaning: str, examples: Sequence[ChangedExample]) -> str:
    head = f'<h3 class="changes-head">{name} <span>{len(examples)}, {meaning}</span></h3>'
    if not examples:
        return f'{head}<p class="none">None.</p>'
    items = [_change(example) for example in examples]
    rest = items[_SHOWN:]
    more = f'<details><summary>{len(rest)} more</summary><ul class="changes">{"".join(rest)}</ul></details>' if rest else ""
    return f'{head}<ul class="changes">{"".join(items[:_SHOWN])}</ul>{more}'


def _change(example: ChangedExample) -> str:
    pills = " → ".join(
        f'<span class="pill{" ok" if answer == example.label else ""}" title="{escape(answer)}">{escape(answer) or "no answer"}</span>'
        for answer in (example.before, example.after)
    )
    text = example.text if len(example.text) <= 320 else example.text[:319] + "…"
    return f'<li title="label: {escape(example.label)}"><span class="text">{escape(text)}</span><span class="move">{pills}</span></li>'


def _samples(data: ReportData) -> str:
    if not data.samples:
        return ""

    def pairs(values: Mapping[str, str], kind: str) -> str:
        return f'<dl class="{kind}">{"".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in values.items())}</dl>'

    cards = "".join(f'<div class="sample">{pairs(sample.inputs, "in")}{pairs(sample.outputs, "out")}</div>' for sample in data.samples)
    return _section(
        "Typed predictions", "Inputs, and the values that the program returned for them.", f'<div class="samples">{cards}</div>'
    )


def _stages(data: ReportData) -> str:
    longest = max((stage.seconds for stage in data.stages), default=0.0) or 1.0
    rows = "".join(
        f'<tr><td>{escape(stage.name)}</td><td class="n">{stage.seconds:,.1f}</td>'
        f'<td class="spark"><i style="width:{100 * stage.seconds / longest:.1f}%"></i></td>'
        f'<td class="n">{speed(stage)}</td><td class="detail">{escape(stage.detail)}</td></tr>'
        for stage in data.stages
    )
    head = (
        '<tr><th>Stage</th><th class="n">Seconds</th><th class="spark"></th><th class="n">Tokens/s</th><th class="detail">Detail</th></tr>'
    )
    total = sum(stage.seconds for stage in data.stages)
    foot = f'<td>Total</td><td class="n">{total:,.1f}</td><td class="spark"></td><td></td><td class="detail">{duration(total)}</td>'
    table = f'<table class="stages"><thead>{head}</thead><tbody>{rows}</tbody><tfoot><tr>{foot}</tr></tfoot></table>'
    return _section("Where the time went", "", table)


def _origin(data: ReportData) -> str:
    lists = "".join(
        f"<div><h3>{name}</h3><dl>{_properties(values)}</dl></div>"
        for name, values in (("Lineage", data.lineage), ("Settings", data.settings))
        if values
    )
    return _section("What was trained", "", f'<div class="props">{lists}</div>') if lists else ""


def _properties(values: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())


def _usage(data: ReportData) -> str:
    blocks = (data.use_in_python, "\n".join(data.use_in_shell))
    body = "".join(f"<pre>{escape(block)}</pre>" for block in blocks if block)
    return _section("Use it", "", body) if body else ""


def _section(title: str, lead: str, body: str, *, long: bool = False) -> str:
    opening = '<section class="long">' if long else "<section>"
    return f'{opening}<h2>{title}</h2><p class="lead">{lead}</p>{body}</section>\n'
