"""Stage once, solve many times, refuse unless every solve ran on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError
from waferline.measure.contract import FEWEST_REPEATS, Check, Measurement, Outcome, relative_error, required
from waferline.measure.engine import Plan, measure
from waferline.measure.resident.oracle import cpu_oracle_normal_equations_solve
from waferline.measure.resident.shapes import RIDGE, EncodeShape, Inputs
from waferline.measure.resident.solvers import Solver, solver_of
from waferline.measure.resident.verdict import Verdict, judge, verdict_json

PARITY = 1e-9  # largest distance from the oracle, relative to its largest coefficient
_MOST_S = 300.0  # a slow device still gets its repeats: the largest shape is 160 GFLOP


@dataclass(frozen=True, slots=True)
class ResidentResult:
    """The outcome for one shape. The rate is 0 and no gate passes unless the device was engaged throughout."""

    shape: EncodeShape
    outcome: Outcome
    verdict: Verdict

    @property
    def engaged(self) -> bool:
        return self.outcome.engaged

    @property
    def measured_rows_per_s(self) -> float:
        return self.outcome.rate("rows")

    measured_rows_per_sec = measured_rows_per_s  # the original's name

    @property
    def measured_flops_per_s(self) -> float:
        """The honest companion of rows/s, which rewards few unknowns."""
        return self.outcome.rate("flops")

    def required(self) -> Measurement:
        """The measurement. Raises: RefusedError or DoesNotFitError where there is none."""
        return required(self.outcome)

    def to_json(self) -> dict[str, Any]:
        """The result as data: the record with its verdict; the rate is 0 where the device was not engaged."""
        return {
            "shape": self.shape.to_json(),
            "engaged": self.engaged,
            "measured_rows_per_s": self.measured_rows_per_s,
            "measured_flops_per_s": self.measured_flops_per_s,
            "spread": self.outcome.spread if isinstance(self.outcome, Measurement) else None,
            **verdict_json(self.verdict),
            "record": self.outcome.to_json(),
        }


ResidentSolveThroughput = ResidentResult  # the original's name


def measure_resident_solve_throughput(
    shape: EncodeShape,
    reps: int,
    *,
    device: str = "cuda",
    solver: Solver | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> ResidentResult:
    """Rows per second of device-resident normal-equation solves, judged against the deployment target.

    reps: timed solves, at least 5. device: "cuda" or "cpu"; there is no falling back from one to the other. solver: a
    device of the caller's own.

    Raises: InvalidInputError for too few repeats, UnknownNameError for another device, DoesNotFitError before staging
    what does not fit.
    """
    if reps < FEWEST_REPEATS:
        raise InvalidInputError(f"{reps} repeats", where="reps", hint=f"at least {FEWEST_REPEATS}")
    if shape.n < 1 or shape.p < 1:
        raise InvalidInputError(f"shape {shape.n}x{shape.p}", where="shape", hint="sizes of at least 1")
    progress(f"{shape.label}: {reps} solves on {device}")
    outcome = _measure(shape, reps, solver or solver_of(device))
    return ResidentResult(shape, outcome, judge(outcome))


def _measure(shape: EncodeShape, reps: int, solver: Solver) -> Outcome:
    staged: list[Inputs] = []
    used: list[FloatArray] = []  # weights of the solve whose result is checked

    def arguments(call: int) -> tuple[FloatArray, FloatArray]:
        if not staged:  # here, so that what fails in staging is refused like what fails in a solve
            solver.fits(shape)
            staged.append(Inputs.of(shape))
            solver.stage(staged[0].x)
        used[:] = [staged[0].weights(call)]
        return used[0], staged[0].rhs

    def check(beta: Any) -> Check:
        wanted = cpu_oracle_normal_equations_solve(staged[0].x, used[0], staged[0].rhs, RIDGE)
        got = np.asarray(beta.cpu() if hasattr(beta, "cpu") else beta, np.float64)
        return Check("the CPU oracle (left-looking Cholesky, fp64)", relative_error(got, wanted), PARITY)

    return measure(
        solver.solve,
        name=f"resident solve {shape.label} ({shape.n}x{shape.p})",
        check=check,
        inputs=arguments,
        device=solver.device,
        plan=Plan(repeats=reps, warmups=1, least_s=0.0, most_s=_MOST_S),
        work={"rows": float(shape.n), "flops": shape.flops},
        detail={"shape": shape.to_json(), "ridge": RIDGE, "precision": "fp64"},
    )
