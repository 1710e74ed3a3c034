"""A fleet: so many machines of one kind, working on one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from waferline.errors import InvalidInputError
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.workloads.scenario import whole


@dataclass(frozen=True, slots=True)
class Fleet:
    """`devices` machines of one kind: `Fleet("h100", 256)`."""

    machine: Any
    devices: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "machine", load_hardware(self.machine))
        count = whole("devices", self.devices)
        if not isinstance(count, float):
            raise InvalidInputError("devices of a fleet is one number, not an array")
        object.__setattr__(self, "devices", int(count))

    @property
    def device(self) -> Device:
        device: Device = self.machine
        return device

    @property
    def title(self) -> str:
        return f"{self.devices} × {self.device.name}"


def as_fleet(fleet: Any) -> Fleet:
    """A fleet as it is, or one machine as a fleet of one. Raises: as `load_hardware`."""
    return fleet if isinstance(fleet, Fleet) else Fleet(fleet, 1)
