"""This machine as it was measured, and what ran on it beside what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from waferline.app.page import Page
from waferline.app.question import Control
from waferline.machines.device import Device
from waferline.measure.machine_file import read_machine, this_machine_path
from waferline.measure.measurements import Measured, measurements
from waferline.measure.store import default_store
from waferline.report.charts.chart import Axis, Chart
from waferline.report.charts.roofs import roofs
from waferline.report.charts.scatter import Group, scatter
from waferline.report.measured import kept
from waferline.report.table import Column, Table
from waferline.text import metric, percent
from waferline.workloads.spec import ModelSpec

CONTROLS = (Control("ran", "What ran has", hint="such as gemv"),)
_MOST = 200  # records of a page
_PYTHON = "import waferline as wl\n\nfigures = wl.measurements()"


def answer(values: Mapping[str, str], _: ModelSpec | None) -> Page:
    """Roofs of the machine file, and the records of the store whose name has what is asked."""
    device, record = read_machine(this_machine_path()) if this_machine_path().exists() else (None, {})
    all_kept = measurements() if default_store().exists() else []
    found = [f for f in all_kept if values["ran"].lower() in f.name.lower()]
    return Page(
        sentence=f"{_machine(device)} {_records(found, bool(all_kept))}",
        charts=(*_beside(found), *((roofs(device),) if device else ())),
        blocks=(*(_roofs(device) if device else ()), *(kept(found[:_MOST]) if found else ())),
        cli="waferline measure show" if all_kept else "waferline measure machine",
        python=_PYTHON,
        data={"machine": dict(record), "measurements": found},
    )


def _machine(device: Device | None) -> str:
    if device is None:
        return "This machine was not measured yet: waferline measure machine does it, in a few minutes."
    return f"{device.title}: {metric(device.memory[-1].bandwidth_bytes_per_s, 'B/s')} from memory."


def _records(found: Sequence[Measured], others: bool) -> str:
    off = sorted(abs(f.off) for f in found if f.off is not None)
    if off:
        disturbed = sum(bool(f.warnings) for f in found if f.off is not None)
        others_ran = f" {disturbed} were measured while something else ran." if disturbed else ""
        return f"Of {len(off)} figures with a prediction, half are within {percent(off[len(off) // 2])}.{others_ran}"
    if found:
        return f"{len(found)} figures are kept, none with a prediction."
    return (
        "No record is called that." if others else "Nothing that ran here is kept: waferline measure operator or model."
    )


def _beside(found: Sequence[Measured]) -> tuple[Chart, ...]:
    """Predicted over measured times, a colour a kind of work."""
    told = [f for f in found if f.predicted is not None and f.unit == "s"]
    groups = [
        Group(
            name=kind, x=[f.measured for f in mine], y=[f.predicted or 0.0 for f in mine], text=[_said(f) for f in mine]
        )
        for kind in dict.fromkeys(f.kind for f in told)
        if (mine := [f for f in told if f.kind == kind])
    ]
    across, up = (Axis(title=side, unit="s", log=True) for side in ("measured", "predicted"))
    note = "The line is agreement. A prediction is the one that was made when the work ran."
    return (scatter("Predicted beside measured", across, up, groups, note=note, diagonal=True),) if groups else ()


def _said(f: Measured) -> str:
    lines = (f.name, f"{f.quantity} measured {metric(f.measured, f.unit)}, predicted {metric(f.predicted or 0.0, f.unit)}",
             f.started, *f.warnings)  # fmt: skip
    return "\n".join(lines)


def _roofs(device: Device) -> tuple[Any, ...]:
    levels = [(level.name, level.capacity_bytes, level.bandwidth_bytes_per_s) for level in device.memory]
    return (
        Table("Memory", ("level", Column("capacity", unit="B"), Column("bandwidth", unit="B/s")), levels),
        Table("Arithmetic", ("format", Column("peak", unit="FLOP/s")), list(device.peak_flops.items())),
    )
