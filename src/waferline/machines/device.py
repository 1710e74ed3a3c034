"""A device: what one chip, socket, board or wafer can compute, hold and move, from its specification sheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from waferline.errors import UnsupportedError

Kind = Literal["gpu", "cpu", "tpu", "npu", "wafer", "mcu", "soc", "fpga", "pim", "lpu"]

# Which arithmetic may stand in for a format without changing results for the worse: a 16-bit float for the other,
# a wider float for a narrower one. There is no stand-in for fp8, fp4, int8 or int4: the caller must choose one.
STAND_INS: Mapping[str, tuple[str, ...]] = {
    "bf16": ("bf16", "fp16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "fp32": ("fp32",),
    "tf32": ("tf32", "fp32"),
    "fp64": ("fp64",),
    "fp8": ("fp8",),
    "fp6": ("fp6", "fp8"),
    "fp4": ("fp4",),
    "int8": ("int8",),
    "int4": ("int4", "int8"),
}


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """One level, nearest the arithmetic first; the last is where weights live."""

    name: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Link:
    """How devices reach one another: bandwidth of ONE device in ONE direction."""

    name: str
    scope: Literal["scale-up", "scale-out", "host", "io"]
    bandwidth_bytes_per_s: float
    latency_s: float
    max_devices: int = 1
    topology: str = "switch"  # switch, mesh (all-to-all point to point), ring, torus, tree, bus


@dataclass(frozen=True, slots=True)
class Citation:
    """A source and the figures it covers (`peak_flops`, `memory`, `links`, `power`, `price`, ...)."""

    title: str
    url: str
    date: str
    covers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device. Peaks are dense (never sparse) and count a multiply-accumulate as two operations."""

    name: str
    title: str
    vendor: str
    kind: Kind
    architecture: str
    year: int
    peak_flops: Mapping[str, float]  # by arithmetic format: fp64, fp32, tf32, bf16, fp16, fp8, fp6, fp4, int8, int4
    memory: tuple[MemoryLevel, ...]
    links: tuple[Link, ...] = ()
    units: int = 1  # SMs, CUs, cores, tensor cores: what work is spread over
    clock_hz: float = 1e9
    tdp_w: float | None = None
    idle_w: float | None = None
    price_usd: float | None = None
    hourly_usd: float | None = None
    group: str = "Cloud"
    attribute: str = ""
    aliases: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    notes: str = ""
    mesh: str | None = None  # name of the mesh parameter set of a wafer
    extra: Mapping[str, float] = field(default_factory=dict)
    efficiency: Mapping[str, Any] = field(default_factory=dict)  # operator constants measured on this very machine

    @property
    def main_memory(self) -> MemoryLevel:
        return self.memory[-1]

    @property
    def capacity_bytes(self) -> float:
        return self.main_memory.capacity_bytes

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.main_memory.bandwidth_bytes_per_s

    @property
    def cache_bytes(self) -> float:
        """Capacity of the last level before main memory (L2 of a GPU, L3 of a CPU); 0 when there is none."""
        return self.memory[-2].capacity_bytes if len(self.memory) > 1 else 0.0

    def link(self, scope: str) -> Link | None:
        return next((x for x in self.links if x.scope == scope), None)

    def arithmetic(self, fmt: str) -> str:
        """The format the units really compute in when asked for `fmt`.

        Raises: UnsupportedError when the device has neither `fmt` nor a lossless stand-in.
        """
        for candidate in STAND_INS.get(fmt, (fmt,)):
            if candidate in self.peak_flops:
                return candidate
        have = ", ".join(sorted(self.peak_flops))
        raise UnsupportedError(
            f"{self.name} has no {fmt} arithmetic",
            hint=f"it computes {have}; weight-only formats such as w8a16 or w4a16 run anywhere",
        )

    def peak(self, fmt: str) -> float:
        """Dense peak operations per second in `fmt` or its stand-in."""
        return self.peak_flops[self.arithmetic(fmt)]

    def with_(self, **changes: object) -> Device:
        """A copy with some figures changed, for what-if questions."""
        return replace(self, **changes)  # type: ignore[arg-type]
