"""The schema of a hardware file (YAML, one machine a file): what may be said, in which unit, and who says so.

Keys are checked (a misspelt one is named with the nearest valid key), figures pass the physics gate of
`waferline.machines.physics`, and every section of figures is covered by a dated citation.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from waferline.catalog.schema import checked
from waferline.machines.device import Kind
from waferline.machines.physics import breaks

PeakFormat = Literal["fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "fp6", "fp4", "int8", "int4"]
PEAK_FORMATS: tuple[str, ...] = get_args(PeakFormat)
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
Text = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MemorySection(_Section):
    """One level: usable bytes, and bytes/s of one device for reads at the peak clock."""

    name: Text
    capacity_bytes: Positive
    bandwidth_bytes_per_s: Positive
    inline_ecc: bool = False  # check bits among the data, on as sold


class LinkSection(_Section):
    """One link of ONE device in ONE direction; `latency_s` is one hop of a small message."""

    name: Text
    scope: Literal["scale-up", "scale-out", "host", "io"]
    bandwidth_bytes_per_s: Positive
    latency_s: NotNegative
    max_devices: Annotated[int, Field(ge=1)] | None = None
    topology: Literal["switch", "mesh", "ring", "torus", "tree", "bus"] | None = None

    @model_validator(mode="after")
    def _joins(self) -> LinkSection:
        if self.scope.startswith("scale") and (self.max_devices is None or self.topology is None):
            raise ValueError(f"links: {self.name} joins devices, so it says max_devices and topology")
        return self


class PowerSection(_Section):
    tdp_w: Positive | None = None
    idle_w: Positive | None = None


class PriceSection(_Section):
    purchase_usd: Positive | None = None
    hourly_usd: Positive | None = None


class CitationSection(_Section):
    """A source and the sections (`memory`) or single figures (`memory.L2`, `peak_flops.fp8`) it covers.

    `date` is that of publication or of reading. `checked` is false where the document was not opened when its figures were
    entered and nothing else that is cited confirms them.
    """

    title: Text
    url: Text
    date: datetime.date
    covers: Annotated[tuple[str, ...], Field(min_length=1)]
    checked: bool = True


class EngineSection(_Section):
    """Constants of an engine, as its own benchmark gave them on this machine, with the residuals and errors of their fit."""

    source: Text
    constants: Annotated[dict[str, NotNegative], Field(min_length=1)]
    residual: dict[Literal["prefill", "decode"], tuple[float, float, float, float]] = Field(default_factory=dict)
    card: dict[str, Any] = Field(default_factory=dict)


class HardwareFile(_Section):
    """A whole hardware file. Peaks are dense and count a multiply-accumulate as two operations."""

    name: Slug
    title: Text
    vendor: Text
    kind: Kind
    architecture: Text
    year: Annotated[int, Field(ge=1990, le=2040)]
    group: Literal["Cloud", "Workstation", "Edge", "Tiny"]
    attribute: Annotated[str, Field(pattern=r"^$|^[A-Z][A-Za-z0-9_]*$")] = ""
    aliases: tuple[Text, ...] = ()
    units: Annotated[int, Field(ge=1, le=10**9)]
    clock_hz: Positive
    peak_flops: Annotated[dict[PeakFormat, Positive], Field(min_length=1)]
    memory: Annotated[tuple[MemorySection, ...], Field(min_length=1)]
    memory_sizes: dict[Annotated[int, Field(ge=1)], Positive] = Field(default_factory=dict)  # GiB sold → bytes given
    links: tuple[LinkSection, ...] = ()
    power: PowerSection | None = None
    price: PriceSection | None = None
    mesh: str | None = None
    extra: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    efficiency: dict[str, Any] = Field(default_factory=dict)  # constants measured on this machine, by operator kind
    engines: dict[str, EngineSection] = Field(default_factory=dict)  # of those whose own benchmark ran on this machine
    citations: tuple[CitationSection, ...] = ()
    notes: str = ""

    def sections(self) -> tuple[str, ...]:
        """The sections of figures that this file fills and a citation has to cover."""
        given = {"links": self.links, "power": self.power, "price": self.price, "extra": self.extra}
        return ("units", "peak_flops", "memory", *(name for name, value in given.items() if value))

    def record(self) -> dict[str, Any]:
        """The file as plain data (JSON types), defaults filled in."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _covered(self) -> HardwareFile:
        sections = self.sections()
        covered = {item for citation in self.citations for item in citation.covers}
        for item in covered:
            if item.split(".")[0] not in sections:
                raise ValueError(
                    f"citations: covers '{item}', which this file does not give (it gives {', '.join(sections)})"
                )
        missing = [s for s in sections if s not in covered]
        if self.citations and missing:
            raise ValueError(f"citations: no source covers {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _sold(self) -> HardwareFile:
        """The capacity is that of one of the sizes, and no size gives more than it has."""
        if self.memory_sizes and self.memory[-1].capacity_bytes not in self.memory_sizes.values():
            raise ValueError("memory_sizes: none gives the capacity of the last memory level")
        for gib, given in self.memory_sizes.items():
            if given > gib * 2**30:
                raise ValueError(f"memory_sizes: {gib} GiB cannot give {given:.4g} bytes")
        return self

    @model_validator(mode="after")
    def _plausible(self) -> HardwareFile:
        found = breaks(self.record())
        if found:
            raise ValueError("; ".join(found))
        return self


def parse_hardware(data: object, where: str) -> HardwareFile:
    """Check a parsed file.

    Raises: FileFormatError naming `where`, the key, the value and the nearest valid key.
    """
    return checked(HardwareFile, data, where)
