"""Charts as HTML and inline SVG: scores with intervals, loss curves, confusion matrices.

Knows no report and no run: it draws numbers. Colours come from the page's style sheet, so that they follow light, dark and print.

Text is set in HTML or at its natural size, never stretched, so that it stays legible at the width of a phone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_MOST_POINTS = 240
COUNTS_UP_TO = 24
"""Labels up to which a matrix has room for its counts; beyond that they are tooltips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A share from 0 to 1 with its interval."""

    name: str
    value: float
    low: float
    high: float
    tooltip: str


def score_plot(bars: Sequence[Bar], *, chance: float) -> str:
    """One row per score on an axis from 0 to 100%: a dot, its interval, and a dashed line at the share that guessing gets."""
    rows = []
    for place, bar in enumerate(bars):
        kind = "after" if place == len(bars) - 1 and place else "before"
        rows.append(
            f'<div class="score {kind}" title="{escape(bar.tooltip)}"><span class="name">{escape(bar.name)}</span><span class="track">'
            f'<i class="chance" style="left:{_percent(chance)}"></i>'
            f'<i class="range" style="left:{_percent(bar.low)};width:{_percent(bar.high - bar.low)}"></i>'
            f'<i class="dot" style="left:{_percent(bar.value)}"></i></span>'
            f'<span class="value">{100 * bar.value:.1f}%</span></div>'
        )
    ticks = "".join(f'<span style="left:{tick}%">{tick}%</span>' for tick in (0, 25, 50, 75, 100))
    axis = f'<div class="score axis"><span></span><span class="track">{ticks}</span><span></span></div>'
    return f'<div class="scores" role="img" aria-label="Accuracy with intervals">{"".join(rows)}{axis}</div>'


def loss_plot(train: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]]) -> str:
    """Loss over training steps: a line for training, dots and a line for validation. Lower is better.

    Args:
        train: pairs of step and loss, in order of steps; more than 240 are averaged in neighbouring groups.
        validation: the same, measured on held-out rows.
    """
    train = _thinned([point for point in train if math.isfinite(point[1])])
    validation = [point for point in validation if math.isfinite(point[1])]
    points = [*train, *validation]
    if not points:
        return '<p class="none">No loss was recorded.</p>'
    last = max(step for step, _ in points)
    ticks = _ticks(0.0, max(loss for _, loss in points))
    top = ticks[-1] or 1.0

    def place(step: float, loss: float) -> tuple[float, float]:
        return 100 * step / max(last, 1), 100 * loss / top

    grid = "".join(
        f'<line class="grid" x1="0" x2="100" y1="{100 - place(0, tick)[1]:.2f}" y2="{100 - place(0, tick)[1]:.2f}"/>' for tick in ticks
    )
    lines = ""
    marks = ""
    for kind, word, series in (("train", "training", train), ("validation", "validation", validation)):
        spots = [place(*point) for point in series]
        lines += f'<polyline class="{kind}" points="{" ".join(f"{x:.2f},{100 - y:.2f}" for x, y in spots)}"/>'
        marks += "".join(
            f'<i class="{kind}" style="left:{x:.2f}%;bottom:{y:.2f}%" title="step {step}: {word} loss {loss:.3f}"></i>'
            for (x, y), (step, loss) in zip(spots, series, strict=True)
        )
    decimals = max(0, -math.floor(math.log10(ticks[1]))) if len(ticks) > 1 else 1
    y_labels = "".join(f'<span class="y" style="bottom:{place(0, tick)[1]:.2f}%">{tick:.{decimals}f}</span>' for tick in ticks)
    steps = [tick for tick in _ticks(0.0, float(last)) if tick <= last and tick == int(tick)]
    x_labels = "".join(f'<span class="x" style="left:{place(tick, 0)[0]:.2f}%">{int(tick)}</span>' for tick in steps)
    svg = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{grid}{lines}</svg>'
    keys = _loss_key("train", "training", train) + _loss_key("validation", "validation", validation)
    return (
        f'<p class="keys">{keys}</p><div class="plot" role="img" aria-label="Loss over training steps">'
        f'{svg}{marks}{y_labels}{x_labels}</div><p class="axis-name">training step</p>'
    )


def _loss_key(kind: str, word: str, series: Sequence[tuple[int, float]]) -> str:
    if not series:
        return ""
    return f'<span class="key {kind}">{word} <b>{series[0][1]:.2f} → {series[-1][1]:.2f}</b></span>'


def confusion_matrix(labels: Sequence[str], counts: Mapping[tuple[str, str], int], *, other: bool) -> str:
    """A heat map with a row per true label and a column per answer; the shade is the share of the row.

    Right answers, on the diagonal, are blue and wrong ones orange, which all common kinds of colour vision tell apart.

    Args:
        labels: in the order of rows and columns.
        counts: examples by true label and answer.
        other: whether there is a last column for answers that are no label.
    """
    columns = [*labels, *(["no label"] if other else [])]
    layout = _layout(columns)
    parts = [_frame(len(labels), len(columns), layout)]
    for row in range(len(labels)):
        parts += _row(row, labels, counts, columns, layout)
    for column, answer in enumerate(columns):
        x = layout.left + (column + 0.5) * layout.cell
        turned = f' transform="rotate({layout.angle} {x:.1f} {layout.top - 7:.1f})"'
        parts.append(_text(answer, layout, x, layout.top - 7, "start", turned))
    width = layout.left + len(columns) * layout.cell + layout.right
    height = layout.top + len(labels) * layout.cell + 4
    least = min(width, 360.0 if len(columns) <= 12 else 30.0 * len(columns) if len(columns) <= COUNTS_UP_TO else 0.85 * width)
    measures = f"width:100%;max-width:{width:.0f}px;min-width:{least:.0f}px"
    opening = f'<svg class="matrix" viewBox="0 0 {width:.0f} {height:.0f}" style="{measures}" role="img" aria-label="Confusion matrix">'
    return f'<div class="scroll">{opening}{"".join(parts)}</svg></div>'


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Measures of a matrix in pixels."""

    cell: float
    font: float
    left: float
    top: float
    right: float
    angle: int


def _layout(columns: Sequence[str]) -> _Layout:
    count = len(columns)
    cell = next(
        size for most, size in ((4, 64.0), (8, 48.0), (12, 37.0), (COUNTS_UP_TO, 28.0), (40, 18.0), (math.inf, 12.0)) if count <= most
    )
    font = 12.0 if cell > 24 else 10.5 if cell > 14 else 9.0
    longest = max(len(_shortened(column)) for column in columns) * font * 0.55
    if cell <= 14:
        return _Layout(cell=cell, font=font, left=longest + 12, top=longest + 14, right=6, angle=-90)
    slanted = len(_shortened(columns[-1])) * font * 0.55 * 0.72
    return _Layout(cell=cell, font=font, left=longest + 12, top=0.72 * longest + 20, right=max(44.0, slanted - cell / 2 + 12), angle=-45)


def _row(row: int, labels: Sequence[str], counts: Mapping[tuple[str, str], int], columns: Sequence[str], layout: _Layout) -> list[str]:
    label = labels[row]
    found = Counter[str | None]()
    for (truth, answer), count in counts.items():
        if truth == label:
            found[answer if answer in labels else None] += count
    total = found.total()
    y = layout.top + row * layout.cell
    parts = [_text(label, layout, layout.left - 7, y + layout.cell / 2, "end")]
    for column, answer in enumerate(columns):
        count = found[answer if column < len(labels) else None]
        if count:
            parts.append(_cell(label, answer, count, total, layout.left + column * layout.cell, y, layout.cell, right=column == row))
    if len(columns) <= COUNTS_UP_TO and total:
        x = layout.left + len(columns) * layout.cell + 7
        parts.append(f'<text class="share" x="{x:.1f}" y="{y + layout.cell / 2:.1f}">{100 * found[label] / total:.0f}%</text>')
    return parts


def _frame(rows: int, columns: int, layout: _Layout) -> str:
    right, bottom = layout.left + columns * layout.cell, layout.top + rows * layout.cell
    across = "".join(f"M{layout.left:.1f} {layout.top + row * layout.cell:.1f}H{right:.1f}" for row in range(rows + 1))
    down = "".join(f"M{layout.left + column * layout.cell:.1f} {layout.top:.1f}V{bottom:.1f}" for column in range(columns + 1))
    return f'<path class="lattice" d="{across}{down}"/>'


def _cell(label: str, answer: str, count: int, total: int, x: float, y: float, size: float, *, right: bool) -> str:
    share = count / total
    hint = f"{count} of {total} with the label {label} were answered {answer} ({100 * share:.0f}%)"
    gap = 1.0 if size > 14 else 0.5
    number = ""
    if size > 24:
        ink = "strong" if share > 0.5 else "weak"
        number = f'<text class="count {ink}" x="{x + size / 2:.1f}" y="{y + size / 2:.1f}">{count}</text>'
    side = size - 2 * gap
    place = f'x="{x + gap:.1f}" y="{y + gap:.1f}" width="{side:.1f}" height="{side:.1f}" rx="{size / 12:.1f}"'
    kind = "right" if right else "wrong"
    return f'<g><title>{escape(hint)}</title><rect class="{kind}" {place} fill-opacity="{0.12 + 0.88 * share:.2f}"/>{number}</g>'


def _text(name: str, layout: _Layout, x: float, y: float, anchor: str, turned: str = "") -> str:
    return (
        f'<text class="label" font-size="{layout.font}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>'
        f"<title>{escape(name)}</title>{escape(_shortened(name))}</text>"
    )


def _shortened(name: str, most: int = 26) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    size = -(-len(points) // _MOST_POINTS) if points else 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[len(group) // 2][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from `low` to the first at or above `high`."""
    span = high - low
    if span <= 0:
        return [low, low + 1]
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= span / 5)
    return [low + step * index for index in range(math.ceil(span / step - 1e-9) + 1)]
