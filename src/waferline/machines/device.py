"""A device: what one chip, socket, board or wafer can compute, hold and move, from its specification sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from reprlib import repr as shown
from typing import Any, Literal, NamedTuple

from waferline.errors import InvalidInputError, UnsupportedError, unknown

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


def _positive(owner: str, figure: str, value: object, *, or_zero: bool = False) -> None:
    """A figure of a machine is a finite number above 0 (or from 0 on).

    Raises: InvalidInputError naming the owner, the figure and the value.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 if or_zero else math.ulp(0.0)) <= value < math.inf:  # type: ignore[operator]
        bound = "of at least 0" if or_zero else "above 0"
        raise InvalidInputError(f"{figure} is a finite number {bound}, not {shown(value)}", where=owner)


def _all_are(owner: str, figure: str, values: object, kind: type) -> None:
    if not isinstance(values, tuple) or not all(isinstance(value, kind) for value in values):
        raise InvalidInputError(f"{figure} is a tuple of {kind.__name__}, not {shown(values)}", where=owner)


# One sixteenth of capacity and traffic: "6.25 % of the overall GDDR5 is reserved for ECC bits" (NVIDIA, Tesla V100 whitepaper), and
# 46,068 of 49,140 MiB are left of an A40's, L40's or L40S's GDDR6.
INLINE_ECC_SHARE = 1.0 / 16.0


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """One level, nearest the arithmetic first; the last is where weights live."""

    name: str
    capacity_bytes: float
    bandwidth_bytes_per_s: float
    inline_ecc: bool = False  # check bits lie among the data, on as sold: GDDR6 of NVIDIA's data-center cards

    def __post_init__(self) -> None:
        for figure in ("capacity_bytes", "bandwidth_bytes_per_s"):
            _positive(f"memory {self.name}", figure, getattr(self, figure))

    @property
    def payload_bytes_per_s(self) -> float:
        """What data can have of the bandwidth while check bits are on. A bound takes all of it: they can be switched off."""
        return self.bandwidth_bytes_per_s * (1.0 - INLINE_ECC_SHARE if self.inline_ecc else 1.0)


@dataclass(frozen=True, slots=True)
class Link:
    """How devices reach one another: bandwidth of ONE device in ONE direction."""

    name: str
    scope: Literal["scale-up", "scale-out", "host", "io"]
    bandwidth_bytes_per_s: float
    latency_s: float
    max_devices: int  # 1 for a host or io link: it joins this device alone
    topology: str | None = None  # switch, mesh (all-to-all point to point), ring, torus, tree, bus; None of host and io

    def __post_init__(self) -> None:
        owner = f"link {self.name}"
        _positive(owner, "bandwidth_bytes_per_s", self.bandwidth_bytes_per_s)
        _positive(owner, "latency_s", self.latency_s, or_zero=True)
        _positive(owner, "max_devices", self.max_devices)


@dataclass(frozen=True, slots=True)
class Citation:
    """A source and the figures it covers (`peak_flops`, `memory`, `links`, `power`, `price`, ...).

    checked: false where the document was not opened and nothing else confirms the figures.
    """

    title: str
    url: str
    date: str
    covers: tuple[str, ...]
    checked: bool = True


def _quantity(value: float, unit: str) -> Any:
    from waferline.units import quantity  # reads NumPy, which a machine alone does not need

    return quantity(value, unit)


class Levels(tuple[MemoryLevel, ...]):
    """Memory from the nearest to the main level, which lessons read as quantities."""

    __slots__ = ()

    @property
    def capacity(self) -> Any:
        return _quantity(self[-1].capacity_bytes, "byte")

    @property
    def bandwidth(self) -> Any:
        return _quantity(self[-1].bandwidth_bytes_per_s, "byte/s")


class Compute(NamedTuple):
    """Dense peaks as quantities: of 16 bits, or of the widest floats that there are, and of every format."""

    peak_flops: Any
    precision_flops: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device. Peaks are dense (never sparse) and count a multiply-accumulate as two operations.

    Every figure is checked, whether it comes from a file, the catalogue, `with_` or a caller.
    Raises: InvalidInputError for a figure that no machine can have.
    """

    name: str
    title: str
    vendor: str
    kind: Kind
    architecture: str
    year: int
    peak_flops: Mapping[str, float]  # by arithmetic format: fp64, fp32, tf32, bf16, fp16, fp8, fp6, fp4, int8, int4
    memory: tuple[MemoryLevel, ...]
    units: int  # SMs, CUs, cores, tensor cores: what work is spread over
    clock_hz: float
    group: str  # Cloud, Workstation, Edge or Tiny
    links: tuple[Link, ...] = ()  # of one scope the nearest first: a bridge between two cards, then the slots of a host
    tdp_w: float | None = None
    idle_w: float | None = None
    price_usd: float | None = None
    hourly_usd: float | None = None
    attribute: str = ""
    aliases: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    notes: str = ""
    mesh: str | None = None  # name of the mesh parameter set of a wafer
    extra: Mapping[str, float] = field(default_factory=dict)
    memory_sizes: Mapping[int, float] = field(default_factory=dict)  # GiB that it is sold with → bytes that it gives
    efficiency: Mapping[str, Any] = field(default_factory=dict)  # operator constants measured on this very machine
    # Constants of engines measured on this very machine, by name.
    engines: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for figure in ("units", "clock_hz"):
            _positive(self.name, figure, getattr(self, figure))
        for figure in ("tdp_w", "idle_w", "price_usd", "hourly_usd"):
            if getattr(self, figure) is not None:
                _positive(self.name, figure, getattr(self, figure))
        if not isinstance(self.peak_flops, Mapping) or not self.peak_flops:
            raise InvalidInputError(f"peak_flops is rates by format, not {shown(self.peak_flops)}", where=self.name)
        for fmt, peak in self.peak_flops.items():
            _positive(self.name, f"peak_flops of {fmt}", peak)
        _all_are(self.name, "memory", self.memory, MemoryLevel)
        _all_are(self.name, "links", self.links, Link)
        if not self.memory:
            raise InvalidInputError("memory has no level", where=self.name)
        object.__setattr__(self, "memory", Levels(self.memory))

    @property
    def compute(self) -> Compute:
        peaks = {fmt: _quantity(peak, "flop/s") for fmt, peak in self.peak_flops.items()}
        usual = next((peaks[fmt] for fmt in ("fp16", "bf16", "fp32") if fmt in peaks), next(iter(peaks.values())))
        return Compute(usual, peaks)

    @property
    def memory_capacity(self) -> Any:
        return self.memory.capacity  # type: ignore[attr-defined]

    @property
    def main_memory(self) -> MemoryLevel:
        return self.memory[-1]

    @property
    def capacity_bytes(self) -> float:
        return self.main_memory.capacity_bytes

    @property
    def most_capacity_bytes(self) -> float:
        """The most that any size it is sold with could give if nothing else took of it."""
        return max([self.capacity_bytes, *(gib * 2.0**30 for gib in self.memory_sizes)])

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.main_memory.bandwidth_bytes_per_s

    @property
    def cache_bytes(self) -> float:
        """Capacity of the last level before main memory (L2 of a GPU, L3 of a CPU); 0 when there is none."""
        return self.memory[-2].capacity_bytes if len(self.memory) > 1 else 0.0

    def link(self, scope: str) -> Link | None:
        """The nearest link of a scope."""
        return next((x for x in self.links if x.scope == scope), None)

    def reach(self, scope: str) -> int:
        """The most devices that links of a scope join, itself included: a card with a bridge for two has its slot, too."""
        return max((x.max_devices for x in self.links if x.scope == scope), default=1)

    @property
    def whole_numbers(self) -> bool:
        """Whether its units have no floats at all."""
        return "int8" in self.peak_flops and all(name.startswith("int") for name in self.peak_flops)

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

    def with_(self, **changes: Any) -> Device:
        """A copy with some figures changed, for what-if questions.

        Raises: UnknownNameError for what is no field, InvalidInputError for a figure that no machine can have.
        """
        known = [f.name for f in fields(self)]
        for name in changes:
            if name not in known:
                raise unknown("field of a device", name, known)
        return replace(self, **changes)
