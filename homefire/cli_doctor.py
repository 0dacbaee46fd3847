"""`homefire doctor`: the machine, the engine and its settings with reasons, and what to do about what is missing.

Knows no rule: `diagnose` finds out, this prints.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from homefire.configs.home import size
from homefire.configs.load import load, model_name
from homefire.engine.diagnosis import Diagnosis, diagnose
from homefire.engine.machine import Machine, core_ranges, detect
from homefire.engine.settings import EngineSettings


def doctor(
    model: Annotated[str | None, typer.Option(help="Model to choose settings for; without it the default one.")] = None,
    config: Annotated[str | None, typer.Option(help="Preset (laptop, gpu-server) or YAML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this machine has, which engine and settings are chosen and why, and what is missing.

    Leaves with 0 when a local model can run, else with 1.
    """
    settings = load(config, EngineSettings, "engine") if config else EngineSettings()
    diagnosis = diagnose(detect(), model or (model_name(config) if config else None), settings)
    if as_json:
        print(json.dumps(_record(diagnosis), indent=2))
    else:
        _show(diagnosis, Console(highlight=False))
    raise typer.Exit(0 if diagnosis.can_run else 1)


def _show(diagnosis: Diagnosis, console: Console) -> None:
    _section(console, "Machine", _machine_rows(diagnosis.machine))
    packages = diagnosis.machine.packages
    _section(console, "Packages", list(packages.items()) or [("none", "nothing that runs, trains or encodes is installed")])
    engine = [("model", diagnosis.model), ("backend", diagnosis.backend or "none"), ("because", diagnosis.backend_reason)]
    _section(console, "Engine", engine)
    if diagnosis.chosen is not None:
        rows = [(name, value, diagnosis.chosen.reasons[name]) for name, value in diagnosis.chosen.in_words().items() if name != "backend"]
        _section(console, "Settings", rows)
        if diagnosis.chosen.dropped:
            _section(console, "Without effect here", list(diagnosis.chosen.dropped.items()))
    console.print()
    for gap in diagnosis.gaps:
        console.print(Text.assemble(("missing: " if gap.blocks else "advice: ", "bold red" if gap.blocks else "bold yellow"), gap.what))
        if gap.command:
            console.print(f"    {gap.command}", markup=False, soft_wrap=True)
    verdict = f"{diagnosis.model} can run on this machine." if diagnosis.can_run else f"{diagnosis.model} cannot run yet: see above."
    console.print(Text(verdict, style="bold green" if diagnosis.can_run else "bold red"))


def _section(console: Console, title: str, rows: Sequence[tuple[str, ...]]) -> None:
    console.print(Text(f"\n{title}", style="bold"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
    for row in rows:
        table.add_row(*(Text(cell, style="cyan" if index == 0 else "") for index, cell in enumerate(row)))
    console.print(table)


def _machine_rows(machine: Machine) -> list[tuple[str, str]]:
    physical = len(machine.physical_cores)
    rows = [
        ("system", f"{machine.system} on {machine.arch}, Python {machine.python}"),
        ("processor", f"{machine.cpu_name} ({', '.join(sorted(machine.cpu_features)) or 'no special instructions'})"),
        ("cores", f"{len(machine.cores)} to use ({core_ranges(machine.cores)}), {physical} of them compute"),
        ("memory", f"{size(machine.memory_available)} free of {size(machine.memory_total)}"),
    ]
    for gpu in machine.gpus:
        capability = ".".join(map(str, gpu.capability))
        memory = f"{size(gpu.memory_free)} free of {size(gpu.memory_total)}"
        rows.append((f"GPU {gpu.index}", f"{gpu.name}, {memory}, compute capability {capability}, driver {gpu.driver}"))
    if not machine.gpus:
        rows.append(("GPU", "Apple silicon, through Metal" if machine.mps else "none"))
    return [*rows, ("files", f"{machine.home}, {size(machine.disk_free)} free")]


def _record(diagnosis: Diagnosis) -> dict[str, Any]:
    machine = dataclasses.asdict(diagnosis.machine)
    machine |= {"home": str(diagnosis.machine.home), "cpu_features": sorted(diagnosis.machine.cpu_features)}
    chosen = dataclasses.asdict(diagnosis.chosen) if diagnosis.chosen else None
    return {
        "can_run": diagnosis.can_run,
        "model": diagnosis.model,
        "backend": diagnosis.backend,
        "backend_reason": diagnosis.backend_reason,
        "settings": chosen,
        "gaps": [dataclasses.asdict(gap) for gap in diagnosis.gaps],
        "machine": machine,
    }
