"""Power from activity: how much of its limit a device draws while it computes, reads memory and talks to others."""

from __future__ import annotations

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import exp, minimum
from waferline.machines.device import Device
from waferline.predict.phase import Phase


def idle_power_w(device: Device) -> float | None:
    """Watts of a device that waits: its sheet's, else its kind's share of the limit; None where neither is known."""
    if device.idle_w is not None or device.tdp_w is None:
        return device.idle_w
    return float(read_packaged("power.yaml")["kinds"][device.kind]["idle"]) * device.tdp_w


def phase_power_w(device: Device, phase: Phase) -> Floats | None:
    """Average watts of one device over a phase; None when its power limit is not known.

    Activity of a roof is the share of the phase during which it alone would be busy. Figures are by kind of machine
    (`catalog/power.yaml`): fitted for GPUs, where power saturates at the limit, and assumed for the rest.
    """
    if device.tdp_w is None:
        return None
    row = read_packaged("power.yaml")["kinds"][device.kind]
    compute = row["compute"] * minimum(phase.compute_s / phase.time_s, 1.0)
    memory = minimum(phase.memory_s / phase.time_s, 1.0)
    if "memory_per_byte_j" in row:
        moving = row["memory_per_byte_j"] * device.bandwidth_bytes_per_s / device.tdp_w * memory
        return device.tdp_w * (row["active"] + (1.0 - row["active"]) * (1.0 - exp(-(compute + moving))))
    idle = (idle_power_w(device) or 0.0) / device.tdp_w
    link = row["link"] * minimum(phase.link_s / phase.time_s, 1.0)
    return device.tdp_w * minimum(idle + compute + row["memory"] * memory + link, 1.0)
