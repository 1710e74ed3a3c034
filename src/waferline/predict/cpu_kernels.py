"""Block-format matrix products on CPUs: what a core multiplies in a clock, by kernel and format, against what memory delivers.

One physical model for every engine that runs on cores: arithmetic is a share of the vector width. Shrunk effects multiply it: of
the engine's kernels, the core's instruction for 8-bit products and its design, how codes of the format are read, the format, the
number of cores and the machine (facts: `catalog/cpu_cores.yaml`; fitted by `benchmarks/fit/cpu.py`: `catalog/cpu_kernels.yaml`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from waferline.arrays import Floats
from waferline.catalog.yaml_file import read_packaged
from waferline.elementwise import maximum, minimum
from waferline.formats import get_format
from waferline.machines.device import Device
from waferline.predict.efficiency.overlap import overlap_s
from waferline.workloads.operator import Operator

VECTOR, MATRIX = "vector", "matrix"  # kernels that unpack weights for every row of activations, and once for many
ROWS = 8.0  # of activations that a matrix kernel needs before unpacking once pays: its usual tile
_SATURATION = 3.0  # how sharply bandwidth turns from what cores draw to what memory has
_REFERENCE_BANDWIDTH = 1e11  # at which the share of the sheet's bandwidth is quoted
REFERENCE_CORES = 8.0  # at work, for which rates are quoted
_INT8_A_LANE = 4.0  # 8-bit products in the place of one fp32 product of a vector unit
_KINDS = ("gemm", "moe")
_LOOK_UP_EXPOSED = 0.2  # of look-ups and memory, the shorter beside the longer: as a p-norm of 4


def vector_flops(device: Device) -> float:
    """Operations per clock and core in 8-bit integers on vectors: no tiles, which block formats do not use."""
    peak = device.peak_flops
    lanes = peak.get("fp32", min(peak.values()))
    return min(_INT8_A_LANE * lanes, peak.get("int8", float("inf"))) / (device.units * device.clock_hz)


def drawn_bytes_per_s(device: Device, share: Floats, slope: Floats, core_bytes: Floats) -> Floats:
    """Memory bandwidth that the cores at work draw: share of the sheet, which falls as memories grow, or a core's own reach."""
    return drawn_of(device.bandwidth_bytes_per_s, device.units * device.clock_hz, share, slope, core_bytes)


def drawn_of(whole: Floats, clocks: Floats, share: Floats, slope: Floats, core_bytes: Floats) -> Floats:
    """The same of a memory's bandwidth in bytes/s and the clocks a second of all cores at work."""
    reached = share * whole * (whole / _REFERENCE_BANDWIDTH) ** slope
    own = clocks * core_bytes
    return minimum((reached**-_SATURATION + own**-_SATURATION) ** (-1.0 / _SATURATION), whole)


def product_s(
    flops: Floats, row_flops: Floats, moved_bytes: Floats, rates: tuple[Floats, Floats], drawn: Floats
) -> Floats:
    """Seconds of one matrix product; `row_flops` of one row of activations. rates: FLOP/s of vector and matrix kernels."""
    vector, matrix = rates
    unpacking = maximum(ROWS * row_flops * (1.0 / vector - 1.0 / matrix), 0.0)
    compute_s, memory_s = minimum(flops / vector, flops / matrix + unpacking), moved_bytes / drawn
    return hypotenuse(compute_s, memory_s)


def hypotenuse(compute_s: Floats, memory_s: Floats) -> Floats:
    """Two activities of one kernel that hide half of one another where they are alike."""
    return (compute_s * compute_s + memory_s * memory_s) ** 0.5


@dataclass(frozen=True, slots=True)
class CpuKernels:
    """An engine's kernels on one CPU.

    rates: FLOP/s of vector and matrix kernels before the format counts. drawn_bytes_per_s: of memory by the cores at work.
    other: what attention (prefill, decode) and the rest take over their operators' own times.
    sync_s: the barrier after an operator. bitwise: its kernels look products up bit by bit.
    """

    rates: tuple[float, float]
    drawn_bytes_per_s: float
    other: Mapping[str, float]
    sync_s: float
    bitwise: bool = False

    def operator_s(self, op: Operator, expected_s: Floats, light_s: Floats, *, decode: bool) -> Floats:
        """Seconds of one operator; never below its bound."""
        if op.kind == "collective":
            return expected_s
        if op.kind == "look_up":  # as whole kernels were measured, and what memory lets through
            return overlap_s(expected_s, op.bytes / self.drawn_bytes_per_s, _LOOK_UP_EXPOSED) + self.sync_s
        if op.kind not in _KINDS:
            return maximum(self.other[rest(op.kind, decode=decode)] * expected_s, light_s) + self.sync_s
        facts = _facts()
        pairs = [facts[name].get(what, _NEUTRAL) for name, what in unpacked(op.weights, bitwise=self.bitwise).items()]
        if op.kind == "moe":
            pairs.append(facts["experts"])
        once = looked_up(op.weights, bitwise=self.bitwise)
        rates = [once * r * prod(pair[k] for pair in pairs) for r, k in zip(self.rates, (VECTOR, MATRIX), strict=True)]
        row_flops = minimum(2.0 * 8.0 * op.weight_bytes / get_format(op.weights).bits, op.flops)
        product = product_s(op.flops, row_flops, op.bytes, (rates[0], rates[1]), self.drawn_bytes_per_s)
        return maximum(product, light_s) + self.sync_s


_NEUTRAL: Mapping[str, float] = {VECTOR: 1.0, MATRIX: 1.0}


@cache
def _kinds() -> Mapping[str, Mapping[str, str]]:
    """What `cpu_cores.yaml` says: by list (designs, products, codes), the kind of every name."""
    lists = {k: v for k, v in read_packaged("cpu_cores.yaml").items() if isinstance(v, Mapping)}
    return {name: {one: kind for kind, all_of in of.items() for one in all_of} for name, of in lists.items()}


def core_of(device: Device) -> dict[str, str]:
    """Design and instruction for 8-bit products of a CPU's cores, as far as they are known."""
    return {name: of[device.architecture] for name, of in _kinds().items() if device.architecture in of}


def by_bit(engine: str) -> bool:
    """Whether an engine's kernels look products up for the bits of a weight one after the other."""
    return engine in read_packaged("cpu_cores.yaml")["by_bit"]


@cache
def unpacked(weights: str, *, bitwise: bool = False) -> dict[str, str]:
    """What unpacking depends on: the format, and how its codes are read where that is known; nothing where bits are looked up."""
    codes = _kinds()["codes"].get(weights)
    return {} if bitwise else {"formats": weights} | ({"codes": codes} if codes else {})


@cache
def looked_up(weights: str, *, bitwise: bool) -> float:
    """Products that one look-up stands for over those of 4-bit weights: a kernel by the bit passes over each of them."""
    return 4.0 / round(get_format(weights).bits) if bitwise else 1.0


def rest(kind: str, *, decode: bool) -> str:
    """Which factor of `other` an operator that is no matrix product takes."""
    attends = "attention" in kind or kind.startswith("mla")
    return f"attention_{'decode' if decode else 'prefill'}" if attends else "rest"


@cache
def _facts() -> Mapping[str, Any]:
    return read_packaged("cpu_kernels.yaml")["kernels"]


def engine_settings(names: tuple[str, ...], device: Device) -> Mapping[str, Any] | None:
    """Fields of an `Engine` on a CPU, of the first of `names` with runs on CPUs: kernels, host times, residuals; None without."""
    facts = _facts()
    name = next((name for name in names if name in facts["engines"]), None)
    if name is None:
        return None
    own = facts["engines"][name]
    known, machine = device.name in facts["machines"], facts["machines"].get(device.name, {})
    clocks = device.units * device.clock_hz * vector_flops(device)
    pairs = [own, *(facts[of].get(what, _NEUTRAL) for of, what in core_of(device).items())]
    crowd = {MATRIX: (device.units / REFERENCE_CORES) ** facts["crowd"]}
    vector, matrix = (
        clocks * facts["base"][k] * prod(pair.get(k, 1.0) for pair in pairs) * machine.get(k, 1.0) * crowd.get(k, 1.0)
        for k in (VECTOR, MATRIX)
    )
    memory = facts["memory"]
    drawn = drawn_bytes_per_s(
        device, memory["share"] * machine.get("memory", 1.0), memory["slope"], memory["core_bytes"]
    )
    return {
        "cpu": CpuKernels((vector, matrix), float(drawn), facts["other"], facts["sync_s"] * device.units, by_bit(name)),
        "step_s": facts["step_s"],
        "layer_s": 0.0,
        "residual": {k: tuple(q) for k, q in facts["residual"]["known" if known else "new"].items()},
        "fit": facts["fit"],
    }
