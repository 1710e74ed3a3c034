"""Power from activity: how much of its limit a device draws while it computes, reads memory and talks to others."""

from __future__ import annotations

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import minimum
from waferline.machines.device import Device
from waferline.predict.phase import Phase


def phase_power_w(device: Device, phase: Phase) -> Floats | None:
    """Average watts of one device over a phase; None when its power limit is not known.

    Activity of a roof is the share of the phase during which it alone would be busy. Figures are assumptions by
    kind of machine (`catalog/power.yaml`), not fitted.
    """
    if device.tdp_w is None:
        return None
    row = read_packaged("power.yaml")["kinds"][device.kind]
    idle = row["idle"] if device.idle_w is None else device.idle_w / device.tdp_w
    activity = (
        idle
        + row["compute"] * minimum(phase.compute_s / phase.time_s, 1.0)
        + row["memory"] * minimum(phase.memory_s / phase.time_s, 1.0)
        + row["link"] * minimum(phase.link_s / phase.time_s, 1.0)
    )
    return device.tdp_w * minimum(activity, 1.0)
