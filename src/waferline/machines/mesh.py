"""A mesh of small cores: its figures (latency, links, SRAM, routes, arithmetic) and the named sets they come in.

The device model is PLMR of WaferLLM (OSDI'25, section 3.1): massive Parallelism, non-uniform Latency, constrained
Memory, constrained Routing. A set belongs to one cohort of measurements; figures of two sets are never combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from waferline.catalog.yaml_file import packaged_names, read_packaged
from waferline.errors import FileFormatError, InvalidInputError, unknown

ELEMENT_BYTES: Mapping[str, int] = MappingProxyType({"fp32": 4, "fp16": 2, "int8": 1})
"""Bytes of one element, by number format a core computes in."""

ALIASES: Mapping[str, str] = MappingProxyType(
    {"wse2": "wse2-waferllm", "cs2": "wse2-waferllm", "wse3": "wse3-notebook", "cs3": "wse3-notebook"}
)
"""Device names and the parameter set they mean when only the device is named."""


@dataclass(frozen=True, slots=True)
class MeshParameters:
    """Every figure the mesh models need, for one device and one cohort of measurements.

    Cycles are core clock cycles (1 / `clock_hz`). `provenance` maps each field name to where its figure comes from;
    a source that begins with `assumed` marks a figure nobody published.
    """

    name: str
    description: str
    device: str
    grid_width: int  # usable cores along x
    grid_height: int  # usable cores along y
    clock_hz: float
    sram_bytes: int  # per core
    code_bytes: int  # of it, for code, stack and runtime
    sram_read_bytes_per_cycle: float
    sram_write_bytes_per_cycle: float
    colours: int  # routes a program may define per core
    queue_words: int  # words a router buffers per colour
    word_bytes: int  # one link word
    link_words_per_cycle: float  # per direction of one link
    hop_cycles: float  # alpha: router to neighbouring router
    stage_cycles: float  # beta: word in at a core's router, received, added, sent on, out again (both ramps included)
    ramp_cycles: float  # T_R: core to its router, one way
    macs_per_cycle: Mapping[str, float]  # SIMD width by number format
    map_base_cycles: float  # one @map iteration over n elements: base + vector * ceil(n / simd)
    map_vector_cycles: float
    step_cycles: float  # fixed cost of one GEMM step (issue, join, swap)
    align_base_cycles: float  # one alignment round: base + word * words
    align_word_cycles: float
    start_cycles: float  # fixed cost of one GEMM
    gemv_row_cycles: float  # one row of a local GEMV, on top of ceil(n / simd)
    gemv_base_cycles: float  # fixed cost of one GEMV
    decode_row_cycles: float  # per GEMV row inside a decode layer: also norms, softmax, activation
    decode_layer_cycles: float  # fixed cost of one decode layer
    power_w: float  # the whole device
    provenance: Mapping[str, str]

    def simd(self, number_format: str) -> float:
        """Multiply-accumulates per cycle and core in `number_format`.

        Raises:
            UnknownNameError: the cores of this set do not compute in that format.
        """
        if number_format not in self.macs_per_cycle:
            raise unknown("number format", number_format, self.macs_per_cycle, where=f"mesh parameters '{self.name}'")
        return self.macs_per_cycle[number_format]

    def elements_per_word(self, number_format: str) -> int:
        """Elements of `number_format` in one link word (2 for fp16 in 32 bits)."""
        if number_format not in ELEMENT_BYTES:
            raise unknown("number format", number_format, ELEMENT_BYTES, where="mesh link word")
        return self.word_bytes // ELEMENT_BYTES[number_format]

    @property
    def data_bytes(self) -> int:
        """SRAM bytes per core left for operands and buffers."""
        return self.sram_bytes - self.code_bytes

    @property
    def cores(self) -> int:
        """Usable cores."""
        return self.grid_width * self.grid_height

    def with_values(self, **changes: Any) -> MeshParameters:
        """A copy with some figures replaced; each replaced figure's provenance says so."""
        notes = dict.fromkeys(changes, "set by the caller")
        return replace(self, **changes, provenance=MappingProxyType({**self.provenance, **notes}))


TEXT_FIELDS = ("name", "description", "device")
WHOLE_FIELDS = ("grid_width", "grid_height", "sram_bytes", "code_bytes", "colours", "queue_words", "word_bytes")


def parameter_set_names() -> list[str]:
    """The named parameter sets of the catalogue, sorted."""
    return packaged_names("mesh")


@cache
def load_parameters(name: str) -> MeshParameters:
    """The parameter set called `name` (or by its device: `wse2`, `wse3`).

    Raises:
        UnknownNameError: no such set; the nearest names are given.
        FileFormatError: the set's file misses a figure or a source, or has one that is unknown.
    """
    key = ALIASES.get(name.lower(), name.lower())
    if key not in parameter_set_names():
        raise unknown("mesh parameter set", name, [*parameter_set_names(), *ALIASES])
    return parameters_from_mapping(read_packaged(f"mesh/{key}.yaml"), where=f"{key}.yaml")


def parameters_from_mapping(data: Mapping[str, Any], *, where: str) -> MeshParameters:
    """A parameter set from `{name, description, device, figures: {field: {value, source}}}`.

    Raises:
        FileFormatError: a figure or source is missing, unknown or out of range.
    """
    wanted = {field.name for field in fields(MeshParameters)} - {*TEXT_FIELDS, "provenance"}
    figures = data.get("figures", {})
    if wrong := sorted(set(figures) ^ wanted):
        raise FileFormatError(f"figures missing or unknown: {', '.join(wrong)}", where=where)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for field, entry in figures.items():
        if not isinstance(entry, Mapping) or set(entry) != {"value", "source"}:
            raise FileFormatError(f"figure '{field}' needs exactly value and source", where=where)
        values[field], sources[field] = _figure(field, entry["value"], where), str(entry["source"])
    values |= {field: str(data[field]) for field in TEXT_FIELDS}
    return MeshParameters(**values, provenance=MappingProxyType(sources))


def _figure(field: str, value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({str(k): float(v) for k, v in value.items()})
    number = int(value) if field in WHOLE_FIELDS else float(value)
    if number < 0 and field != "decode_layer_cycles":  # the only fitted intercept that is below zero
        raise FileFormatError(f"figure '{field}' is negative: {value}", where=where)
    return number


def check_grid(parameters: MeshParameters, width: int, height: int) -> None:
    """Refuse a grid that the device does not have.

    Raises:
        InvalidInputError: the grid has no cores, or is larger than the usable rectangle.
    """
    if width < 1 or height < 1:
        raise InvalidInputError(f"grid {width}x{height} has no cores", where="grid", hint="at least 1x1")
    if width > parameters.grid_width or height > parameters.grid_height:
        raise InvalidInputError(
            f"grid {width}x{height} is larger than the usable {parameters.grid_width}x{parameters.grid_height} cores "
            f"of {parameters.device}",
            where="grid",
            hint=f"at most {parameters.grid_width}x{parameters.grid_height}",
        )
