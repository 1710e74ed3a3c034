"""Every figure of a machine with the citation that covers it: nothing is shown without its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from waferline.catalog.names import compact
from waferline.machines.device import Citation, Device


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: dotted `name` (`memory.L2.capacity_bytes`), SI `value`, display `unit`, and its citations."""

    name: str
    value: float
    unit: str
    citations: tuple[Citation, ...]


def _covering(device: Device, section: str, part: str = "") -> tuple[Citation, ...]:
    """Citations that name the very figure if there are any, else those that cover its section."""
    exact = f"{section}.{compact(part)}"
    named = [c for c in device.citations for item in c.covers if _key(item) == exact] if part else []
    return tuple(named or (c for c in device.citations if section in c.covers))


def _key(item: str) -> str:
    section, _, part = item.partition(".")
    return f"{section}.{compact(part)}"


def _plain(device: Device) -> Iterator[tuple[str, str, str, float | None, str]]:
    """(section, covered part, figure, value, unit) of every figure, given or not."""
    yield "units", "", "units", device.units, ""
    yield "units", "clock_hz", "clock_hz", device.clock_hz, "Hz"
    for fmt, peak in device.peak_flops.items():
        yield "peak_flops", fmt, f"peak_flops.{fmt}", peak, "op/s" if fmt.startswith("int") else "FLOP/s"
    for level in device.memory:
        yield "memory", level.name, f"memory.{level.name}.capacity_bytes", level.capacity_bytes, "B"
        yield "memory", level.name, f"memory.{level.name}.bandwidth_bytes_per_s", level.bandwidth_bytes_per_s, "B/s"
    for gib, given in device.memory_sizes.items():
        yield "memory", "", f"memory_sizes.{gib}GB", given, "B"
    for link in device.links:
        name = f"links.{link.name} ({link.scope})"
        yield "links", link.name, f"{name}.bandwidth_bytes_per_s", link.bandwidth_bytes_per_s, "B/s"
        yield "links", "latency", f"{name}.latency_s", link.latency_s, "s"
        if link.scope.startswith("scale"):
            yield "links", link.name, f"{name}.max_devices", link.max_devices, ""
    yield "power", "tdp_w", "power.tdp_w", device.tdp_w, "W"
    yield "power", "idle_w", "power.idle_w", device.idle_w, "W"
    yield "price", "purchase_usd", "price.purchase_usd", device.price_usd, "USD"
    yield "price", "hourly_usd", "price.hourly_usd", device.hourly_usd, "USD/h"
    for key, value in device.extra.items():
        yield "extra", key, f"extra.{key}", value, ""


def figures(device: Device) -> list[Figure]:
    """All figures that `device` gives, in reading order."""
    return [
        Figure(name, value, unit, _covering(device, section, part))
        for section, part, name, value, unit in _plain(device)
        if value is not None
    ]
