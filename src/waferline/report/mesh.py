"""Mesh simulations as tables: time and its split, use of the machine, limits, and the trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from waferline.report.tables import simple_table
from waferline.simulate.mesh.result import MeshResult
from waferline.text import metric, percent

TRACE_ROWS = 40  # printed; --json --trace has them all


def print_mesh(result: MeshResult, *, trace: bool = False) -> None:
    """Everything a `MeshResult` says."""
    console = Console(highlight=False)
    p = result.parameters
    console.print(f"{result.operation} by {result.algorithm} on {result.width}x{result.height} cores of {p.device}")
    console.print(f"simulated, {result.fidelity} fidelity, parameter set {p.name}\n")
    console.print(_time(result))
    console.print(simple_table("Use of the mesh", ["", "", "limit"], _use_rows(result)))
    rows = [
        (f"{r.letter}  {r.quantity}", f"{r.value:g}", f"{r.limit:g}", "pass" if r.passes else "BREAKS", r.where)
        for r in result.compliance.requirements
    ]
    console.print(simple_table("PLMR compliance", ["", "takes", "limit", "", "where"], rows))
    _print_accuracy(console, result)
    extra = {k: v for k, v in result.details.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if extra:
        console.print(simple_table("Details", ["", ""], [(_words(k), f"{v:,.6g}") for k, v in extra.items()]))
    if trace and result.trace:
        columns = list(result.trace[0])
        shown = [[_cell(row[c]) for c in columns] for row in result.trace[:TRACE_ROWS]]
        console.print(simple_table("Steps", [_words(c) for c in columns], shown))
        if len(result.trace) > TRACE_ROWS:
            console.print(f"{len(result.trace) - TRACE_ROWS} more steps: --json --trace prints all")


def _time(result: MeshResult) -> Any:
    rows = [("total", f"{result.cycles:,.1f}", metric(result.seconds, "s"), "")]
    for name in ("compute", "communication", "overlap"):
        cycles = getattr(result, f"{name}_cycles")
        share = percent(cycles / result.cycles) if result.cycles else ""
        rows.append((name, f"{cycles:,.1f}", metric(cycles / result.parameters.clock_hz, "s"), share))
    if result.fidelity == "event" and result.closed_form_cycles:
        difference = result.cycles / result.closed_form_cycles - 1
        rows.append(("closed form", f"{result.closed_form_cycles:,.1f}", "", f"{difference:+.2%} event"))
    return simple_table("Time", ["", "cycles", "time", ""], rows)


def _use_rows(result: MeshResult) -> list[tuple[str, str, str]]:
    p = result.parameters
    rows = [(name, metric(size, "B"), "") for name, size in result.memory_bytes.items()]
    rows.append(("SRAM per core", metric(result.used_bytes, "B"), metric(p.sram_bytes, "B")))
    rows.append(("SRAM utilisation", percent(result.sram_utilisation), ""))
    rows.append(("colours per router", str(result.colours), str(p.colours)))
    if result.hop_words:
        rows.append(("link utilisation", percent(result.link_utilisation), ""))
        rows.append(("word-hops", f"{result.hop_words:,}", ""))
    rows.append(("energy (whole device)", metric(result.energy_j, "J"), ""))
    return rows


def _print_accuracy(console: Console, result: MeshResult) -> None:
    accuracy = result.accuracy
    if accuracy is None:
        console.print("numbers: not computed\n")
        return
    verdict = "within" if accuracy.passes else "BEYOND"
    text = f"numbers: max |error| {accuracy.max_abs_error:.2e}, {verdict} the tolerance {accuracy.tolerance:.2e}"
    console.print(f"{text}\nagainst {accuracy.reference}\n")


def print_kv(rows: Mapping[str, Any]) -> None:
    """What `simulate_kv` found."""
    console = Console(highlight=False)
    shown = [(_words(k), f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else _cell(v)) for k, v in rows.items()
             if not isinstance(v, dict | list)]  # fmt: skip
    console.print(simple_table("KV cache of one region", ["", ""], shown))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
