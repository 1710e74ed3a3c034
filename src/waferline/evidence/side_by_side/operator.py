"""An operator run here beside what predict says of it, and the set of operators that no constant was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from waferline.evidence.side_by_side.known import Known, predicted
from waferline.kernels.cpu.threads import available_threads
from waferline.measure.contract import Measurement, required
from waferline.measure.engine import Plan
from waferline.measure.operators import OperatorRequest, entry_of, measure_operator, operator_of

# (operator, shape, format, batch): none of these is among the shapes that `measure machine` calibrates on.
HELD_OUT: tuple[tuple[str, tuple[int, ...], str, int], ...] = (
    ("gemv", (14336, 4096), "q4_k", 1),
    ("gemv", (4096, 14336), "q4_k", 1),
    ("gemv", (1024, 4096), "q4_k", 1),
    ("gemv", (2048, 5632), "q4_k", 1),
    ("gemm", (4096, 4096), "q4_k", 2),
    ("gemm", (14336, 4096), "q4_k", 4),
    ("gemm", (14336, 4096), "q4_k", 8),
    ("gemm", (4096, 4096), "q4_k", 128),
    ("gemm", (5632, 2048), "q4_k", 512),
    ("gemv", (32000, 2048), "q6_k", 1),
    ("gemv", (8192, 2048), "q8_0", 1),
    ("attention", (32, 8, 128, 2048), "fp16", 1),
    ("attention", (16, 4, 64, 4096), "fp16", 1),
    ("prefill_attention", (32, 4, 64, 384), "fp16", 1),
    ("prefill_attention", (16, 16, 128, 256), "fp16", 1),
    ("norm", (4096,), "fp32", 1),
    ("swiglu", (14336,), "fp32", 16),
    ("softmax", (32000,), "fp32", 1),
)
_PLAN = Plan(repeats=11, least_s=0.2, most_s=5.0)


@dataclass(frozen=True, slots=True)
class Beside:
    """One operator: what it took, what predict said (None where no machine is known), and, where a kernel was chosen, what the
    usual one took, which is the one that predict knows."""

    measured: Measurement
    predicted: dict[str, Any] | None
    bandwidth_bytes_per_s: float | None = None  # of the machine's main memory, as predict knows it
    usual: Measurement | None = None

    @property
    def off(self) -> float:
        """Predicted over measured time, less one."""
        assert self.predicted is not None
        return float(self.predicted["expected_s"]) / self.measured.median_s - 1.0

    def kept(self) -> dict[str, Any]:
        """The record as a store keeps it; predict knows the usual kernel alone."""
        return {**self.measured.to_json(), "predicted": None if self.usual else self.predicted}

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"measured": self.measured.to_json(), "predicted": self.predicted}
        if self.usual is not None:
            data["usual"] = self.usual.to_json()
        if self.bandwidth_bytes_per_s is not None:
            share = self.measured.rate("bytes") / self.bandwidth_bytes_per_s
            data["roof"] = {"bandwidth_share": share, "memory_bytes_per_s": self.bandwidth_bytes_per_s}
        return data


def operator_beside(request: OperatorRequest, known: Known | None, plan: Plan) -> Beside:
    """Run an operator, and ask predict the same. Raises: as `measure_operator`; RefusedError for a wrong result."""
    measured = required(measure_operator(request, plan))
    usual = required(measure_operator(replace(request, kernel=""), plan)) if request.kernel else None
    if known is None:
        return Beside(measured, None, usual=usual)
    part = known.on_threads(request.threads) if entry_of(request.operator).threaded else known
    op = operator_of(request, part.precision(request.format))
    return Beside(measured, predicted(part, op), part.device.bandwidth_bytes_per_s, usual)


def run_held_out(known: Known, progress: Callable[[str], None]) -> list[Beside]:
    """Measure every held-out operator on all threads. Raises: RefusedError when one gives a wrong result."""
    rows = []
    for name, shape, fmt, batch in HELD_OUT:
        threaded = entry_of(name).threaded
        request = OperatorRequest(name, shape, fmt, batch, available_threads() if threaded else 1, cold=threaded)
        progress(request.label)
        rows.append(operator_beside(request, known, _PLAN))
    return rows
