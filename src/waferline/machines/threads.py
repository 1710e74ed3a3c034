"""A CPU of which some cores work: their arithmetic, and the memory bandwidth that so many can draw."""

from __future__ import annotations

from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.machines.device import Device
from waferline.remember import by_identity

_CPU = "cpu"


@by_identity
def with_threads(device: Device, threads: int | None) -> Device:
    """`device` with that many cores at work; more threads than cores are its cores. None: all of them.

    Arithmetic and caches are those of the cores at work. Memory stays whole: what one core can draw of it is a constant of
    the engine (`unit_bytes`). Raises: InvalidInputError for a number that is none, and for machines that are no CPUs.
    """
    if threads is None:
        return device
    if device.kind != _CPU:
        raise InvalidInputError(f"threads would not be read: {device.name} is no CPU")
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InvalidInputError(f"threads is a whole number of at least 1, not {threads!r}")
    if threads >= device.units:
        return device
    share = threads / device.units
    near = tuple(
        replace(level, bandwidth_bytes_per_s=level.bandwidth_bytes_per_s * share) for level in device.memory[:-1]
    )
    return device.with_(
        units=threads,
        peak_flops={fmt: peak * share for fmt, peak in device.peak_flops.items()},
        memory=(*near, device.main_memory),
    )
