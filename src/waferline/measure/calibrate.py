"""Which operators `measure machine` runs to learn how near its roofs the kernels come, within the time it is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from waferline.formats import Precision
from waferline.measure.constants import Fitted, TimeOf, fit
from waferline.measure.contract import Measurement
from waferline.measure.engine import Plan
from waferline.measure.machine import MachineProfile, Progress
from waferline.measure.operators import OperatorRequest, measure_operator, operator_of
from waferline.workloads.operator import Operator

# Formats in order of how many models come in them; the time allowed may end before the list does.
FORMATS = ("q4_k", "q6_k", "q8_0", "fp32", "q4_0", "q5_k", "bf16", "fp16", "tq2_0")
# (rows, columns, batch): memory bound, small enough to show the floor, where arithmetic takes over, and prefill. Four
# compiled widths in all: compiling is most of the time this takes on a first run.
CASES = (
    (4096, 4096, 1),
    (512, 2048, 1),
    (4096, 4096, 4),
    (4096, 4096, 16),
    (2048, 2048, 60),
    (2048, 2048, 516),
)
QUICK = Plan(repeats=9, warmups=2, least_s=0.1, most_s=2.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted constants of one operator kind in one format, with the measurements they rest on."""

    kind: str
    format: str
    fitted: Fitted
    measured: tuple[Measurement, ...]

    @property
    def key(self) -> str:
        """As a profile names it: `gemm/q4_k`."""
        return f"{self.kind}/{self.format}"

    def to_json(self) -> dict[str, Any]:
        """Constants and errors as plain data, with what was measured for them."""
        return {
            "c": dict(self.fitted.c),
            "median_error": self.fitted.median_error,
            "worst_error": self.fitted.worst_error,
            "cases": [
                {"name": m.name, "median_s": m.median_s, "log_error": e}
                for m, e in zip(self.measured, self.fitted.errors, strict=True)
            ],
        }


def calibrate(
    profile: MachineProfile,
    time_of: TimeOf,
    precision_of: Callable[[str], Precision],
    start_of: Callable[[Operator], Mapping[str, float]],
    *,
    within_s: float,
    formats: tuple[str, ...] = FORMATS,
    progress: Progress = lambda what: None,
) -> Iterator[Calibration]:
    """Calibrations of matrix products, format by format, none begun after `within_s` seconds.

    time_of: predict's time of an operator under given constants. precision_of: formats of a named precision here.
    start_of: the constants predict would use for an operator without a calibration.
    """
    began = time.perf_counter()
    for fmt in formats:
        if time.perf_counter() - began > within_s:
            return
        progress(f"{fmt} products")
        measured, cases = _run_cases(fmt, precision_of(fmt), profile.threads)
        if len(cases) == len(CASES):
            start = {**start_of(cases[0][0]), "floor_s": profile.fork_join.median_s}
            yield Calibration(cases[0][0].kind, fmt, fit(cases, time_of, start), tuple(measured))


def _run_cases(fmt: str, precision: Precision, threads: int) -> tuple[list[Measurement], list[tuple[Operator, float]]]:
    measured, cases = [], []
    for rows, cols, batch in CASES:
        request = OperatorRequest("gemv" if batch == 1 else "gemm", (rows, cols), fmt, batch, threads)
        outcome = measure_operator(request, QUICK)
        if isinstance(outcome, Measurement):
            measured.append(outcome)
            cases.append((operator_of(request, precision), outcome.median_s))
    return measured, cases
