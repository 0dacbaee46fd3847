"""What the commands of an index show on the terminal: what was done, what there is, and how it is searched.

Knows no command line and no index: it puts values into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from homefire.retrieval.excerpt import shown
from homefire.retrieval.index_stats import IndexStats
from homefire.retrieval.reading import Skipped

if TYPE_CHECKING:
    from pathlib import Path

    from homefire.index_building import BuildReport
    from homefire.retrieval.index_check import CheckReport
    from homefire.retrieval.index_update import Changes

_SHOWN_SKIPPED = 8
_KINDS = {
    "flat": "few enough for a query to be compared with all",
    "lists": "too many for that, so a query is compared with the nearest of many lists (IVF)",
}
"""How FAISS searches, and why so."""


def show_build(report: BuildReport, console: Console) -> None:
    """Prints what a build did, what was left out and why, and what the index holds now."""
    stats = report.stats
    what = "is new" if report.is_new else "was built anew" if report.changes is None else "is up to date"
    console.print(Text.assemble((shown(stats.directory), "bold cyan"), f" {what}, after {duration(report.seconds)}"), soft_wrap=True)
    console.print()
    console.print(_facts({"Documents": _documents(report), "Passages": _passages(stats, report.changes)}))
    show_skipped(report.skipped, console)
    console.print()
    console.print(_parts(stats))


def show_stats(stats: IndexStats, console: Console) -> None:
    """Prints what an index holds and how it is searched."""
    rest = f", {stats.deleted:,} deleted whose space comes back when segments are merged" if stats.deleted else ""
    facts = {
        "Documents": f"{stats.documents:,}",
        "Passages": _passages(stats, None),
        "Fields": ", ".join(("id", "source", "position", *map(shown, stats.fields))),
        "Commits": f"{stats.generation:,}, in {stats.segments:,} segment{'s' * (stats.segments != 1)} now{rest}",
    }
    console.print(Text(shown(stats.directory), style="bold cyan"), soft_wrap=True)
    console.print()
    console.print(_facts(facts))
    console.print()
    console.print(_parts(stats))


def show_check(report: CheckReport, directory: Path, console: Console, *, repair: bool) -> None:
    """Prints what a check found, what was mended, and what is lost.

    Args:
        report: Of the check.
        directory: Of the index.
        console: Where to.
        repair: Whether mending was asked for.
    """
    name = shown(str(directory))
    if report.is_whole:
        console.print(Text(f"{name} is whole: every file is what was written.", style="green"), soft_wrap=True)
        return
    _list(f"{name} is damaged:", report.problems, "bold red", console)
    if not repair:
        console.print(Text(f"Mend it: homefire index check {name} --repair"), soft_wrap=True)
        return
    _list("Mended:", report.repaired, "bold green", console)
    if report.lost_passages:
        lost = f"Lost: {report.lost_passages:,} passages. Add their documents again, with homefire index add {name} PATH..."
        _list(lost, report.lost or ("Which documents they were of is not known; build the index again.",), "bold yellow", console)


def _list(title: str, lines: Sequence[str], style: str, console: Console) -> None:
    console.print(Text(title, style=style), soft_wrap=True)
    for line in lines:
        console.print(Text(f"  {shown(line)}"), soft_wrap=True)


def show_skipped(skipped: Sequence[Skipped], console: Console) -> None:
    """Prints what was not read, each with its reason; of many the first ones."""
    if not skipped:
        return
    whole = sum(one.whole for one in skipped)
    parts = [f"{count:,} {what}" for count, what in ((whole, "skipped"), (len(skipped) - whole, "read in part")) if count]
    console.print()
    console.print(Text(f"Not read: {', '.join(parts)}", style="bold yellow"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold", ratio=2, style="yellow")
    table.add_column(overflow="fold", ratio=3)
    for one in skipped[:_SHOWN_SKIPPED]:
        table.add_row(Text(shown(one.source)), Text(shown(one.reason)))
    console.print(table)
    if len(skipped) > _SHOWN_SKIPPED:
        console.print(Text(f"and {len(skipped) - _SHOWN_SKIPPED:,} more; --json has them all", style="dim"))


def duration(seconds: float) -> str:
    """`0.4 s`, `2 min 5 s`, `1 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bytes_in_words(count: int) -> str:
    """`812 B`, `1.4 kB`, `94 MB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def _documents(report: BuildReport) -> str:
    changes = report.changes
    if changes is None or report.is_new:
        return f"{report.documents:,}"
    counts = {"added": changes.added, "changed": changes.changed, "unchanged": changes.unchanged, "removed": changes.removed}
    words = [f"{count:,} {what}" for what, count in counts.items()]
    if changes.kept:
        words.append(f"{changes.kept:,} kept as before, for they could not be read")
    return f"{report.stats.documents:,}: " + ", ".join(words)


def _passages(stats: IndexStats, changes: Changes | None) -> str:
    words = [f"{stats.passages:,} to search"]
    if stats.duplicates:
        words.append(f"{stats.duplicates:,} left out because another has the same text")
    if changes is not None and changes.passages_removed:
        words.append(f"{changes.passages_removed:,} gone since the last time")
    return ", ".join(words)


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table


def _parts(stats: IndexStats) -> Table:
    """What stands on the disk, and how each method searches."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Method", no_wrap=True)
    table.add_column("On disk", justify="right", no_wrap=True)
    table.add_column("How it searches", overflow="fold")
    for name, words in _ways(stats).items():
        is_default = name == stats.default_method and len(stats.methods) > 1
        label = Text(name, style="bold green" if is_default else "")
        table.add_row(label, bytes_in_words(stats.bytes_of[name]) if name in stats.bytes_of else "", Text(words))
    table.add_row("", "", "")
    table.add_row("texts", bytes_in_words(stats.bytes_of.get("passages", 0)), "passages with their places and fields")
    table.add_row("all", Text(bytes_in_words(stats.bytes), style="bold"), "")
    return table


def _ways(stats: IndexStats) -> dict[str, str]:
    ways = {"dense": _dense(stats), "bm25": _bm25(stats), "late": _late(stats)}
    found = {name: ways[name] for name in stats.methods}
    if len(stats.methods) > 1:
        rest = " and ".join([", ".join(stats.methods[:-1]), stats.methods[-1]])
        found["fused"] = f"{rest} together: each scores what any of them finds" + (
            "; the default" if stats.default_method == "fused" else ""
        )
    return found


def _dense(stats: IndexStats) -> str:
    kinds = [
        _KINDS.get(kind, kind) if len(stats.dense_kinds) == 1 else f"{kind} for {count:,} passages"
        for kind, count in sorted(stats.dense_kinds.items())
    ]
    recall = ""
    if stats.dense_recall is not None:
        exact = set(stats.dense_kinds) == {"flat"}
        recall = ", and none is missed" if exact else f"; {_percent(stats.dense_recall)} of the true ten best are found, as measured"
    return f"by one vector a passage, {stats.dim} numbers of {stats.encoder}{': ' * bool(kinds)}{'; '.join(kinds)}{recall}"


def _bm25(stats: IndexStats) -> str:
    return f"by words, in their {stats.language} stems" if stats.language != "none" else "by words as they stand"


def _late(stats: IndexStats) -> str:
    bits = (
        "not compressed while they are so few"
        if stats.token_bits is None
        else f"{stats.token_bits} bit{'s' * (stats.token_bits > 1)} a number"
    )
    return f"by late interaction: {stats.tokens:,} vectors of {stats.token_encoder}, one a token, {bits}"


def _percent(share: float) -> str:
    """Never 100% for less than all."""
    return "100%" if share >= 1 else f"{min(99.9, 100 * share):.1f}%"
