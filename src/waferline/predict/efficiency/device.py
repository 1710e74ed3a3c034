"""What an efficiency model needs to know of a machine: the figures of its specification sheet, and nothing fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from waferline.machines.device import Device, Link

# Multiply-accumulate throughput of one unit in one clock, at which transferred constants are quoted. A scale, not a fact:
# NVIDIA's Ampere SM does 2048 bf16 operations a clock, so efficiencies read as those of an A100-sized matrix unit.
REFERENCE_OPS_PER_UNIT_CLOCK = 2048.0
REFERENCE_BYTES_PER_UNIT_CLOCK = 16.0  # the same for memory traffic: an A100 or H100 moves 13-14 bytes a unit and clock
LOWEST_EFFICIENCY, HIGHEST_EFFICIENCY = 0.02, 1.0


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


def matrix_efficiency(device: DeviceFacts, c: Mapping[str, float]) -> float:
    """Share of peak arithmetic that large work reaches on `device`.

    A transferred record states it at the reference unit, and the power law with which it falls as units grow: bigger matrix
    engines are harder to feed and closer to the power limit. A calibrated record's power is 0.
    """
    share = c["compute_efficiency"] * (device.ops_per_unit_clock / REFERENCE_OPS_PER_UNIT_CLOCK) ** c["compute_slope"]
    return min(max(share, LOWEST_EFFICIENCY), HIGHEST_EFFICIENCY)


def memory_efficiency(device: DeviceFacts, c: Mapping[str, float]) -> float:
    """Share of the sheet's bandwidth that long streams reach.

    Transferred records say how it falls with the bytes one unit moves in a clock.
    """
    per_unit_clock = device.bandwidth_bytes_per_s / (device.sm_count * device.clock_hz)
    share = c["bandwidth_efficiency"] * (per_unit_clock / REFERENCE_BYTES_PER_UNIT_CLOCK) ** c["bandwidth_slope"]
    return min(max(share, LOWEST_EFFICIENCY), HIGHEST_EFFICIENCY)


def floor_s(device: DeviceFacts, c: Mapping[str, float]) -> float:
    """Seconds that even an empty kernel takes: fixed, or (transferred records) a number of clocks."""
    return c["floor_s"] + c["floor_clocks"] / device.clock_hz
