"""What an efficiency model needs to know of a machine: the figures of its specification sheet, and nothing fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.machines.device import Device, Link


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device's specification sheet. Swap it, and an unseen machine can be predicted.

    peak_flops: dense operations per second in the compute format used. bandwidth_bytes_per_s: main memory, less
    check bits that travel with the data. sm_count: units that work is spread over (SM, CU, Xe core, CPU core, TensorCore).
    l2_bytes: last cache before memory.
    """

    peak_flops: float
    bandwidth_bytes_per_s: float
    sm_count: int
    l2_bytes: float
    clock_hz: float
    memory_bytes: float
    kind: str
    vendor: str
    arch: str

    @property
    def ops_per_unit_clock(self) -> float:
        """Operations one unit does in one clock: how big its matrix engine is."""
        return self.peak_flops / (self.sm_count * self.clock_hz)


def device_facts(device: Device, compute_format: str) -> DeviceFacts:
    """The facts of `device` when it computes in `compute_format` (a stand-in counts: bf16 for fp16).

    Raises: UnsupportedError when the device has no such arithmetic.
    """
    return DeviceFacts(
        peak_flops=device.peak(compute_format),
        bandwidth_bytes_per_s=device.main_memory.payload_bytes_per_s,
        sm_count=device.units,
        l2_bytes=device.cache_bytes,
        clock_hz=device.clock_hz,
        memory_bytes=device.capacity_bytes,
        kind=device.kind,
        vendor=device.vendor.lower(),
        arch=device.architecture,
    )


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """One tier of the network: bandwidth of one device in one direction, and how devices reach one another.

    kind: "nvlink", "pcie", "xgmi", "ici", "fabric" (wafer) or "network" (between boxes).
    """

    bandwidth_bytes_per_s: float
    latency_s: float
    kind: str


# What a link is called in the catalogue, and the family of collective constants it uses. First match wins.
LINK_KINDS: Mapping[str, str] = {
    "nvlink": "nvlink",
    "nvl": "nvlink",
    "pcie": "pcie",
    "xgmi": "xgmi",
    "infinity": "xgmi",
    "ici": "ici",
    "neuronlink": "ici",
    "fabric": "fabric",
    "swarm": "fabric",
}


def link_facts(link: Link) -> LinkFacts:
    """The facts of a catalogue link; a name of no known family counts as a network."""
    name = link.name.lower()
    kind = next((kind for word, kind in LINK_KINDS.items() if word in name), "network")
    return LinkFacts(link.bandwidth_bytes_per_s, link.latency_s, kind)
