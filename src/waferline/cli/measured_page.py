"""The page "predicted and measured on this machine": operators that the calibration never saw, run and predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waferline.cli.measured_tables import _seconds, _si

if TYPE_CHECKING:
    from waferline.cli.measured import Known
    from waferline.measure.contract import Measurement

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


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: what it was, what it took, and what predict said."""

    measured: Measurement
    predicted: dict[str, Any]

    @property
    def off(self) -> float:
        """Predicted over measured time, less one."""
        return float(self.predicted["expected_s"]) / self.measured.median_s - 1.0


def run_page(known: Known, progress: Callable[[str], None]) -> list[Row]:
    """Measure every held-out operator on all threads. Raises: RefusedError when one gives a wrong result."""
    from waferline.cli.measured import predicted
    from waferline.kernels.cpu.threads import available_threads
    from waferline.measure.contract import required
    from waferline.measure.engine import Plan
    from waferline.measure.operators import OperatorRequest, entry_of, measure_operator, operator_of

    rows = []
    for name, shape, fmt, batch in HELD_OUT:
        threaded = entry_of(name).threaded
        request = OperatorRequest(name, shape, fmt, batch, available_threads() if threaded else 1, cold=threaded)
        progress(request.label)
        measured = required(measure_operator(request, Plan(repeats=11, least_s=0.2, most_s=5.0)))
        rows.append(Row(measured, predicted(known, operator_of(request, known.precision(fmt)))))
    return rows


def page_text(known: Known, rows: Sequence[Row]) -> str:
    """The page as Markdown, with the machine, the date, and every disturbance that was noticed."""
    first = rows[0].measured
    machine, device = first.machine, known.device
    errors = sorted(abs(row.off) for row in rows)
    inside = sum(e <= _TARGET for e in errors)
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Predicted and measured on one machine",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}, {machine['system']}; {versions}. {first.started}.",
        f"Roofs: memory {_si(device.bandwidth_bytes_per_s, 'B/s')}, "
        + ", ".join(f"{fmt} {_si(peak, 'FLOP/s')}" for fmt, peak in device.peak_flops.items())
        + ". Written by `waferline measure page` after `waferline measure machine`; no constant was fitted to these shapes.",
        "",
        f"Median error {errors[len(errors) // 2]:.1%}, worst {errors[-1]:.1%}, {inside} of {len(rows)} within {_TARGET:.0%}.",
        "",
        "| operator | measured | spread | predicted | off | speed of light | constants |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        m, p = row.measured, row.predicted
        lines.append(
            f"| {m.name} | {_seconds(m.median_s)} | {m.spread:.0%} | {_seconds(p['expected_s'])} | {row.off:+.1%} "
            f"| {_seconds(p['light_s'])} | {p['tier']} |"
        )
    warned = {w for row in rows for w in row.measured.conditions.warnings}
    lines += ["", *(f"- {w}" for w in sorted(warned))] if warned else []
    return "\n".join(lines) + "\n"


_TARGET = 0.15
