"""The machine at hand against the sheet of a machine of the catalogue: what is measured of each figure that both state."""

from __future__ import annotations

from typing import Any

from waferline.machines.hardware import load_hardware
from waferline.measure.machine_file import this_machine


def audit(name: str) -> dict[str, Any]:
    """Peaks and main memory, measured and as the sheet of `name` says, in FLOP/s, byte/s and byte.

    Peaks are those of as many of the sheet's units as are at hand: a virtual machine has some cores of a socket, which share all of
    its memory. Raises: UnknownNameError; RefusedError where this machine was never measured.
    """
    sheet = load_hardware(name)
    here = this_machine()
    units = min(here.units, sheet.units)
    rows = [
        (f"peak {fmt}", "FLOP/s", peak, sheet.peak_flops[fmt] * units / sheet.units)
        for fmt, peak in here.peak_flops.items()
        if fmt in sheet.peak_flops
    ]
    rows.append(("memory bandwidth", "B/s", here.bandwidth_bytes_per_s, sheet.bandwidth_bytes_per_s))
    rows.append(("memory", "B", here.capacity_bytes, sheet.capacity_bytes))
    return {
        "machine": sheet.name,
        "title": sheet.title,
        "units": here.units,
        "units_of_sheet": sheet.units,
        "rows": [
            {"figure": figure, "unit": unit, "measured": measured, "sheet": stated, "share": measured / stated}
            for figure, unit, measured, stated in rows
        ],
    }
