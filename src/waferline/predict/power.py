"""Power from activity: how much of its limit a device draws while it computes, reads memory and talks to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import exp, maximum, minimum
from waferline.machines.device import Device
from waferline.predict.phase import Phase


def idle_power_w(device: Device) -> float | None:
    """Watts of a device that waits: its sheet's, else its kind's share of the limit; None where neither is known."""
    if device.idle_w is not None or device.tdp_w is None:
        return device.idle_w
    return float(read_packaged("power.yaml")["kinds"][device.kind]["idle"]) * device.tdp_w


def phase_power_w(device: Device, phase: Phase) -> Floats | None:
    """Average watts of one device over a phase; None when its power limit is not known.

    Figures are by kind of machine (`catalog/power.yaml`): fitted for GPUs, where power saturates at the limit, and assumed for
    the rest.
    """
    if device.tdp_w is None:
        return None
    table = read_packaged("power.yaml")
    row = table["kinds"][device.kind] | table["fitted"].get(device.kind, {})
    return drawn_w(row, device, *(busy / phase.time_s for busy in (phase.compute_s, phase.memory_s, phase.link_s)))


def drawn_w(row: Mapping[str, float], device: Device, compute: Floats, memory: Floats, link: Floats) -> Floats:
    """Watts of a device with a power limit, by the shares of the time in which each roof alone would be busy."""
    limit_w = device.tdp_w or 0.0
    computing, moving = row["compute"] * minimum(compute, 1.0), minimum(memory, 1.0)
    if "memory_per_byte_j" in row:
        moved = row["memory_per_byte_j"] * device.bandwidth_bytes_per_s / limit_w * moving
        return limit_w * (row["active"] + (1.0 - row["active"]) * (1.0 - exp(-(computing + moved))))
    idle = (idle_power_w(device) or 0.0) / limit_w
    return limit_w * minimum(idle + computing + row["memory"] * moving + row["link"] * minimum(link, 1.0), 1.0)


def power_quantiles(kind: str) -> tuple[float, float]:
    """5 % and 95 % quantiles of log(measured / predicted watts) on machines of a kind."""
    table = read_packaged("power.yaml")
    low, high = table["fitted"].get(kind, table["assumed"])["residual"]
    return float(low), float(high)


def energy_quantiles(kind: str, time: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The same of energy, on machines whose times are known as `time` says: both are off on their own."""
    low, high = ((p * p + t * t) ** 0.5 for p, t in zip(power_quantiles(kind), time, strict=True))
    return -low, high


def served_energy_quantiles(kind: str, time: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The same of a token of a served load; never nearer than published runs lay."""
    low, high = energy_quantiles(kind, time)
    published = read_packaged("power.yaml")["fitted"].get(kind, {}).get("energy", (0.0, 0.0))
    return minimum(low, published[0]), maximum(high, published[1])
