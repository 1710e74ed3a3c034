"""Block-format matrix products on CPUs: what a core multiplies in a clock, by kernel and format, against what memory delivers.

One physical model for every engine that runs on cores: arithmetic is a share of the vector width, shrunk effects of the engine's
kernels, the format's unpacking and the machine multiply it (`catalog/cpu_kernels.yaml`, fitted by `benchmarks/fit/cpu.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
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
    whole = device.bandwidth_bytes_per_s
    reached = share * whole * (whole / _REFERENCE_BANDWIDTH) ** slope
    own = device.units * device.clock_hz * core_bytes
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
    sync_s: the barrier after an operator.
    """

    rates: tuple[float, float]
    drawn_bytes_per_s: float
    other: Mapping[str, float]
    sync_s: float

    def operator_s(self, op: Operator, expected_s: Floats, light_s: Floats, *, decode: bool) -> Floats:
        """Seconds of one operator; never below its bound."""
        if op.kind == "collective":
            return expected_s
        if op.kind == "look_up":  # as whole kernels were measured, and what memory lets through
            return overlap_s(expected_s, op.bytes / self.drawn_bytes_per_s, _LOOK_UP_EXPOSED) + self.sync_s
        if op.kind not in _KINDS:
            return maximum(self.other[rest(op.kind, decode=decode)] * expected_s, light_s) + self.sync_s
        facts = _facts()
        pair = facts["formats"].get(op.weights, _NEUTRAL)
        experts = facts["experts"] if op.kind == "moe" else _NEUTRAL
        rates = tuple(r * pair[k] * experts[k] for r, k in zip(self.rates, (VECTOR, MATRIX), strict=True))
        row_flops = minimum(2.0 * 8.0 * op.weight_bytes / get_format(op.weights).bits, op.flops)
        product = product_s(op.flops, row_flops, op.bytes, (rates[0], rates[1]), self.drawn_bytes_per_s)
        return maximum(product, light_s) + self.sync_s


_NEUTRAL: Mapping[str, float] = {VECTOR: 1.0, MATRIX: 1.0}


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
    own = next((facts["engines"][name] for name in names if name in facts["engines"]), None)
    if own is None:
        return None
    known, machine = device.name in facts["machines"], facts["machines"].get(device.name, {})
    clocks = device.units * device.clock_hz * vector_flops(device)
    vector, matrix = (clocks * facts["base"][k] * own[k] * machine.get(k, 1.0) for k in (VECTOR, MATRIX))
    memory = facts["memory"]
    drawn = drawn_bytes_per_s(
        device, memory["share"] * machine.get("memory", 1.0), memory["slope"], memory["core_bytes"]
    )
    return {
        "cpu": CpuKernels((vector, matrix), float(drawn), facts["other"], facts["sync_s"] * device.units),
        "step_s": facts["step_s"],
        "layer_s": 0.0,
        "residual": {k: tuple(q) for k, q in facts["residual"]["known" if known else "new"].items()},
        "fit": facts["fit"],
    }
