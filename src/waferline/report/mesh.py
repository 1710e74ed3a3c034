"""What a mesh answers as tables: time and its split, use of the machine, limits, and the trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from waferline.report.table import Block, Column, Table, right
from waferline.simulate.mesh.result import MeshResult
from waferline.text import metric, percent

TRACE_ROWS = 40  # printed; --json --trace has them all
HOW = {
    "simulated": "simulated, every word through the routers",
    "predicted": "predicted, closed form: the mesh was not run",
}


def mesh_report(result: MeshResult, *, trace: bool = False) -> Iterator[Block]:
    """Everything a `MeshResult` says."""
    p = result.parameters
    yield f"{result.operation} by {result.algorithm} on {result.width}x{result.height} cores of {p.device}", "title"
    yield f"{HOW[result.how]}; parameter set {p.name}"
    yield ""
    yield Table("Time", ("", *right("cycles", "time"), ""), list(_time_rows(result)))
    yield Table("Use of the mesh", ("", *right("", "limit")), list(_use_rows(result)))
    limits = [
        (f"{r.letter}  {r.quantity}", r.value, r.limit, "pass" if r.passes else "BREAKS", r.where)
        for r in result.compliance.requirements
    ]
    yield Table("PLMR compliance", ("", Column("takes", "g"), Column("limit", "g"), "", "where"), limits)
    accuracy = result.accuracy
    if accuracy is None:
        yield "numbers: not computed"
    else:
        verdict = "within" if accuracy.passes else "BEYOND"
        yield f"numbers: max |error| {accuracy.max_abs_error:.2e}, {verdict} the tolerance {accuracy.tolerance:.2e}"
        yield f"against {accuracy.reference}"
    yield ""
    details = [(_words(k), v) for k, v in result.details.items() if isinstance(v, int | float)]
    if details:
        yield Table("Details", ("", Column("", ",.6g")), details)
    if trace and result.trace:
        columns = [_words(name) for name in result.trace[0]]
        shown = [[_cell(value) for value in row.values()] for row in result.trace[:TRACE_ROWS]]
        more = len(result.trace) - TRACE_ROWS
        notes = (f"{more} more steps: --json --trace prints all",) if more > 0 else ()
        yield Table("Steps", right(*columns), shown, notes)


def _time_rows(result: MeshResult) -> Iterator[tuple[str, str, str, str]]:
    yield "total", f"{result.cycles:,.1f}", metric(result.seconds, "s"), ""
    for name in ("compute", "communication", "overlap"):
        cycles = getattr(result, f"{name}_cycles")
        share = percent(cycles / result.cycles) if result.cycles else ""
        yield name, f"{cycles:,.1f}", metric(cycles / result.parameters.clock_hz, "s"), share
    if result.how == "simulated" and result.closed_form_cycles:
        difference = result.cycles / result.closed_form_cycles - 1
        yield "closed form", f"{result.closed_form_cycles:,.1f}", "", f"{difference:+.2%} event"


def _use_rows(result: MeshResult) -> Iterator[tuple[str, str, str]]:
    p = result.parameters
    yield from ((name, metric(size, "B"), "") for name, size in result.memory_bytes.items())
    yield "SRAM per core", metric(result.used_bytes, "B"), metric(p.sram_bytes, "B")
    yield "SRAM utilisation", percent(result.sram_utilisation), ""
    yield "colours per router", str(result.colours), str(p.colours)
    if result.hop_words:
        yield "link utilisation", percent(result.link_utilisation), ""
        yield "word-hops", f"{result.hop_words:,}", ""
    yield "energy (whole device)", metric(result.energy_j, "J"), ""


def facts_report(title: str, facts: Mapping[str, Any]) -> Iterator[Block]:
    """What is said as names and values, without what is nested."""
    rows = [(_words(k), _cell(v)) for k, v in facts.items() if not isinstance(v, dict | list)]
    yield Table(title, ("", ""), rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2e}"
