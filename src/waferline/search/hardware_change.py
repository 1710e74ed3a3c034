"""A machine with one part made faster or larger, and everything else as it is."""

from __future__ import annotations

from dataclasses import replace

from waferline.machines.device import Device
from waferline.remember import by_identity

PARTS = ("flops", "bandwidth", "capacity", "links")


@by_identity
def scaled(device: Device, part: str, factor: float) -> Device:
    """`device` with `part` (one of `PARTS`) times `factor`: all peaks, the main memory's bandwidth or size, or every link."""
    memory = device.main_memory
    if part == "flops":
        return device.with_(peak_flops={name: peak * factor for name, peak in device.peak_flops.items()})
    if part == "bandwidth":
        faster = replace(memory, bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s * factor)
        return device.with_(memory=(*device.memory[:-1], faster))
    if part == "capacity":
        larger = replace(memory, capacity_bytes=memory.capacity_bytes * factor)
        return device.with_(memory=(*device.memory[:-1], larger))
    links = tuple(replace(link, bandwidth_bytes_per_s=link.bandwidth_bytes_per_s * factor) for link in device.links)
    return device.with_(links=links)
