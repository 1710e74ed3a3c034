"""Claims about a machine itself: its memory, cores, power and price, put beside the catalogue's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from waferline.catalog.yaml_file import read_packaged
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.power import idle_power_w
from waferline.text import metric
from waferline.units import JOULES_PER_KWH, SECONDS_PER_HOUR

_ROUNDING = 1.02  # figures are printed rounded
_GIBI = 2.0**30 / 1e9  # a GB of memory is often a GiB
_PRICES = 2.0  # prices of one machine differ so much between vendors and years
SPECIFICATION, ELECTRICITY = "specification", "price of electricity"

Status = Literal["plausible", "optimistic", "infeasible", "unverifiable"]
# verdict, reason, the law that is broken, the catalogue's figure
Found = tuple[Status, str, str, float | None]


class Sheet(NamedTuple):
    """A figure of a machine: its unit, the section of its file that holds it, and the verdict on a value for one of them."""

    unit: str
    section: str
    judge: Callable[[Device, float], Found]


def judge_sheet(
    name: str, machine: str, value: float, devices: float
) -> tuple[Status, tuple[str, ...], str, float | None]:
    """The verdict on a figure of `devices` machines together, with reasons, the law that it breaks and what the catalogue says."""
    device = load_hardware(machine)
    status, reason, law, known = SHEET[name].judge(device, value / devices)
    sources = [c.title for c in device.citations if SHEET[name].section in c.covers]
    said = f"{reason} ({sources[0]})" if sources and known is not None else reason
    each = () if devices == 1 else (f"of each of {devices:.0f}",)
    return status, (said, *each), law, None if known is None else known * devices


def _memory(device: Device, value: float) -> Found:
    sizes = [device.capacity_bytes, device.most_capacity_bytes]
    told = f"the catalogue has {metric(max(sizes), 'B')} of {device.main_memory.name}"
    if any(1 / _ROUNDING <= size / (value * unit) <= _ROUNDING for size in sizes for unit in (1.0, _GIBI)):
        return "plausible", told, "", max(sizes)
    if value > max(sizes) * _ROUNDING:
        return "infeasible", told, SPECIFICATION, max(sizes)
    return "plausible", f"{told}: that is less", "", max(sizes)


def _cores(device: Device, value: float) -> Found:
    if device.kind not in ("wafer", "cpu", "mcu"):
        why = f"the catalogue counts {device.units} units of {device.title}, not cores"
        return "unverifiable", why, "", None
    same = 1 / _ROUNDING <= value / device.units <= _ROUNDING
    told = f"the catalogue has {device.units:,} cores"
    return (
        ("plausible", told, "", float(device.units))
        if same
        else ("infeasible", told, SPECIFICATION, float(device.units))
    )


def _power(device: Device, value: float) -> Found:
    if device.tdp_w is None:
        return "unverifiable", f"the catalogue knows no power of {device.title}", "", None
    told = f"the catalogue has {metric(device.tdp_w, 'W')} at most"
    if value > device.tdp_w * _ROUNDING:
        return "unverifiable", f"{told} for the device alone: what else draws power is not stated", "", device.tdp_w
    if device.idle_w is not None and value < device.idle_w / _ROUNDING:
        return "infeasible", f"{told} and {metric(device.idle_w, 'W')} when idle", SPECIFICATION, device.idle_w
    return "plausible", told, "", device.tdp_w


def _price(device: Device, value: float) -> Found:
    """An hour costs at least its electricity at the cheapest place: of a machine that waits, which is the least it draws."""
    regions = read_packaged("regions.yaml")["regions"].values()
    cheapest = min(float(place["usd_per_kwh"]) for place in regions if "usd_per_kwh" in place)
    idle, full = (
        (watts or 0.0) * SECONDS_PER_HOUR / JOULES_PER_KWH * cheapest for watts in (idle_power_w(device), device.tdp_w)
    )
    if value < idle / _ROUNDING:
        return "infeasible", f"its electricity costs ${idle:.2f} an hour even when it only waits", ELECTRICITY, idle
    spent = f"; its electricity alone costs up to ${full:.2f}" if full else ""
    if device.hourly_usd is None:
        return "unverifiable", f"the catalogue knows no price of an hour of {device.title}{spent}", "", None
    told = f"the catalogue has ${device.hourly_usd:.2f} an hour{spent if value < full else ''}"
    status: Status = "optimistic" if value < device.hourly_usd / _PRICES else "plausible"
    return status, told, "", device.hourly_usd


SHEET: Mapping[str, Sheet] = {
    "memory_bytes": Sheet("B", "memory", _memory),
    "cores": Sheet("", "units", _cores),
    "power_w": Sheet("W", "power", _power),
    "hourly_usd": Sheet("$", "price", _price),
}
