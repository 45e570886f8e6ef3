"""The results, as a table for people and as JSON for programs."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.bench.rounds import Line, Plan, Side, Target
from ops.bench.stage import Stage

BUSY_LOAD = 0.7  # one-minute load average before the start; above it, a warning is printed
_PACKAGES = ("litestar", "uvicorn", "uvloop", "httptools", "psycopg", "psycopg-pool", "dramatiq", "pika", "pydantic")


def summary(stage: Stage, plan: Plan, lines: Sequence[Line]) -> dict[str, Any]:
    """The content of `--json`. `passed` is null for a comparison without a target."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "entries": stage.entries,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "passed": all(line.passed is not False for line in lines),
        "comparisons": [_line(line) for line in lines],
        "environment": _environment(stage),
    }


def print_table(result: dict[str, Any], lines: Sequence[Line], *, to_stderr: bool) -> None:
    """Prints the figures with their range, and below them what exactly was compared."""
    table = Table("", "ours", "baseline", "ratio", "target", "")
    for column in table.columns[1:4]:
        column.justify = "right"
        column.no_wrap = True
    for line in lines:
        verdict = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[line.passed]
        baseline = _figures(line.baseline) if line.baseline else "–"
        figures = (_figures(line.ours), baseline, "–" if line.ratio is None else f"{line.ratio:.2f}")
        table.add_row(f"{line.name}\n[dim]{line.ours.unit}[/]", *figures, _target(line.target), verdict)
    console = Console(stderr=to_stderr, highlight=False)
    console.print(table)
    shown: list[Mapping[str, float]] = []
    for line in lines:
        notes = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in line.notes.items())
        baseline = f"; baseline: {line.baseline.what}" if line.baseline else ""
        console.print(f"[bold]{line.name}[/]: {line.ours.what}{baseline}. {notes}", soft_wrap=True)
        for name, side in (("ours", line.ours), ("baseline", line.baseline)):
            if side and side.cpu and side.cpu not in shown:
                shown.append(side.cpu)
                console.print(f"[dim]  CPU ms, {name}: {_cpu(side)}[/]", soft_wrap=True)
    console.print(f"{words(result)}, with lowest–highest below", soft_wrap=True)
    if result["environment"]["load_average_before"] > BUSY_LOAD:
        # a baseline with eight processes gets more of a busy machine than one API process does
        console.print("[yellow]The machine was busy, which slows ours more than the baselines. Measure again.[/]")


def write_json(file: Path, result: dict[str, Any]) -> None:
    """Writes to the file, or to standard output for `-`."""
    text = json.dumps(result, indent=2) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
    else:
        file.write_text(text)


def _line(line: Line) -> dict[str, Any]:
    target = line.target and {
        "of": "ours" if line.target.of_ours else "ratio",
        "at_least" if line.target.at_least else "at_most": line.target.bound,
    }
    return {
        "name": line.name,
        "ours": _side(line.ours),
        "baseline": _side(line.baseline) if line.baseline else None,
        "ratio": None if line.ratio is None else round(line.ratio, 4),
        "target": target,
        "passed": line.passed,
        "notes": line.notes,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "what": side.what,
        "unit": side.unit,
        "median": round(side.median, 6),
        "min": round(min(side.values), 6),
        "max": round(max(side.values), 6),
        "rounds": [round(value, 6) for value in side.values],
        "cpu_milliseconds": {kind: round(value, 4) for kind, value in side.cpu.items()},
    }


def _environment(stage: Stage) -> dict[str, Any]:
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "postgres": stage.value("SHOW server_version"),
        "rabbitmq": stage.servers.rabbitmq.installation.version,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "durable": {name: stage.value(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")},
        "load_average_before": stage.load_average,
    }


def _figures(side: Side) -> str:
    return f"{short(side.median)}\n{short(min(side.values))}–{short(max(side.values))}"


def _cpu(side: Side) -> str:
    parts = ", ".join(f"{kind} {short(value)}" for kind, value in side.cpu.items())
    return f"{parts}; together {short(sum(side.cpu.values()))}"


def short(value: float) -> str:
    """A figure with three digits, or without a fraction."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def _target(target: Target | None) -> str:
    if target is None:
        return "–"
    return f"{'ours ' if target.of_ours else ''}{'≥' if target.at_least else '≤'} {target.bound:,g}"


def words(result: Mapping[str, Any]) -> str:
    """What was measured with what, in a sentence without its full stop."""
    environment = result["environment"]
    durable = ", ".join(f"{name} {value}" for name, value in environment["durable"].items())
    return (
        f"{result['entries']:,} entries; {environment['cpus']} CPUs, load {environment['load_average_before']:.2f} before; "
        f"Python {environment['python']}, Postgres {environment['postgres']} ({durable}: as ./stint up has it), "
        f"RabbitMQ {environment['rabbitmq']}; medians of {result['rounds']} rounds"
    )
