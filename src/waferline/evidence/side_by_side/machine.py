"""This machine measured: its roofs, and the constants of its kernels fitted to predict's own formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from waferline.evidence.side_by_side.known import Known, constants_of
from waferline.machines.hardware import device_from_record
from waferline.machines.schema import parse_hardware
from waferline.measure.calibrate import Calibration, calibrate
from waferline.measure.machine import probe_machine, profile_json
from waferline.measure.machine_file import machine_record, record_of, save_machine, this_machine_path


def measure_this_machine(
    budget_s: float, also: Sequence[Path] = (), progress: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """Measure roofs, calibrate kernels for `budget_s` (none for 0), and save the file; answers with all of it as data.

    also: further places for the hardware file. Raises: as `probe_machine`; FileFormatError when a file cannot be written.
    """
    profile = probe_machine(progress)
    device = device_from_record(parse_hardware(machine_record(profile), "this machine").record())
    known, calibrations = Known(device, {}), list[Calibration]()
    if budget_s > 0:
        profile, calibrations = calibrate(
            profile,
            known.time_at,
            known.precision,
            lambda op: constants_of(device, op),
            within_s=budget_s,
            progress=progress,
        )
    record, places = machine_record(profile, calibrations), [this_machine_path(), *also]
    if places[0].exists():  # what other engines were measured with stays
        record |= {"engines": record_of(places[0]).get("engines", {})}
    for path in places:
        save_machine(record, path)
    return {
        **profile_json(profile),
        "calibrated": {c.key: c.to_json() for c in calibrations},
        "saved": [str(p) for p in places],
    }
