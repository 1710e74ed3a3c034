"""The memory that a machine is bought with: one of the sizes it is sold in, and what that size gives to a model."""

from __future__ import annotations

import re
from dataclasses import replace

from waferline.errors import InvalidInputError
from waferline.machines.device import Device, MemoryLevel
from waferline.remember import by_identity

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(gb|gib|g|tb|tib|t)?", re.IGNORECASE)
_GIB = 2.0**30
_SLOTTED = "cpu"  # kinds whose memory comes in modules: any size may be plugged in


@by_identity
def with_memory(device: Device, asked: str | None) -> tuple[Device, tuple[str, ...]]:
    """(`device` with the memory of the size `asked`, what to say of it). Sizes are sold in GiB, whether `64GB` or `64GiB`.

    Raises: InvalidInputError for what is no size, and for one that the machine is not sold with.
    """
    if asked is None:
        return device, ()
    size = _gib(asked)
    sold = device.memory_sizes or {round(device.capacity_bytes / _GIB): device.capacity_bytes}
    if size in sold:
        return _holding(device, sold[int(size)]), ()
    if device.kind == _SLOTTED and not device.memory_sizes:
        return _holding(device, size * _GIB), (f"{size:g} GiB of memory, as asked: the catalogue lists no sizes of it",)
    sizes = ", ".join(f"{gib:g}GB" for gib in sorted(sold))
    raise InvalidInputError(f"{device.name} is not sold with {asked} of memory", hint=f"it has {sizes}")


def _gib(asked: str) -> float:
    match = _SIZE.fullmatch(str(asked).strip())
    if match is None or not float(match[1]):
        raise InvalidInputError(f"memory is a size such as 64GB, got '{asked}'")
    return float(match[1]) * (1024.0 if (match[2] or "").lower().startswith("t") else 1.0)


def _holding(device: Device, capacity_bytes: float) -> Device:
    last: MemoryLevel = replace(device.main_memory, capacity_bytes=capacity_bytes)
    return device.with_(memory=(*device.memory[:-1], last))
