"""Stage once, solve many times, refuse unless every solve ran on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from waferline.arrays import FloatArray
from waferline.errors import InvalidInputError, unknown
from waferline.measure.contract import FEWEST_REPEATS, Check, Measurement, Outcome, Refusal, relative_error, required
from waferline.measure.engine import Cpu, DeviceLost, NotEngaged, Plan, measure
from waferline.measure.fingerprint import fingerprint
from waferline.measure.resident.oracle import cpu_oracle_normal_equations_solve
from waferline.measure.resident.shapes import RIDGE, EncodeShape, Inputs
from waferline.measure.resident.solver import Solver
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

    def required(self) -> Measurement:
        """The measurement. Raises: RefusedError or DoesNotFitError where there is none."""
        return required(self.outcome)

    def to_json(self) -> dict[str, Any]:
        """The result as data: the record with its verdict; the rate is 0 where the device was not engaged."""
        spread = self.outcome.spread if isinstance(self.outcome, Measurement) else None
        return {
            "shape": {"label": self.shape.label, "n": self.shape.n, "p": self.shape.p},
            "engaged": self.engaged,
            "measured_rows_per_s": self.measured_rows_per_s,
            "measured_flops_per_s": self.measured_flops_per_s,
            "spread": spread,
            **verdict_json(self.verdict),
            "record": self.outcome.to_json(),
        }

    @property
    def measured_flops_per_s(self) -> float:
        """The honest companion of rows/s, which rewards few unknowns."""
        return self.outcome.rate("flops")


def measure_resident_solve_throughput(
    shape: EncodeShape,
    reps: int,
    *,
    device: str = "cuda",
    solver: Solver | None = None,
    progress: Callable[[str], None] | None = None,
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
    if progress is not None:
        progress(f"{shape.label}: {reps} solves on {device}")
    outcome = _measure(shape, reps, solver or _solver(device))
    return ResidentResult(shape, outcome, judge(outcome))


def _measure(shape: EncodeShape, reps: int, solver: Solver) -> Outcome:
    name = f"resident solve {shape.label} ({shape.n}x{shape.p})"

    def refuse(reason: Any, explanation: str) -> Refusal:
        return Refusal(
            name=name,
            device=solver.device.name,
            reason=reason,
            explanation=explanation,
            machine=fingerprint().to_json(),
        )

    missing = solver.device.unavailable()
    if missing is not None:
        return refuse("no-device", missing)
    solver.fits(shape)
    inputs = Inputs.of(shape)
    try:
        solver.stage(inputs.x)
    except (DeviceLost, RuntimeError) as error:
        return refuse("device-lost", f"staging X failed: {str(error).splitlines()[0] if str(error) else 'no reason'}")
    except NotEngaged as error:
        return refuse("not-engaged", str(error))
    used: list[FloatArray] = []  # weights of the solve whose result is checked

    def arguments(call: int) -> tuple[FloatArray, FloatArray]:
        used[:] = [inputs.weights(call)]
        return used[0], inputs.rhs

    def check(beta: Any) -> Check:
        wanted = cpu_oracle_normal_equations_solve(inputs.x, used[0], inputs.rhs, RIDGE)
        return Check("the CPU oracle (left-looking Cholesky, fp64)", relative_error(_on_host(beta), wanted), PARITY)

    return measure(
        solver.solve,
        name=name,
        check=check,
        inputs=arguments,
        device=solver.device,
        plan=Plan(repeats=reps, warmups=1, least_s=0.0, most_s=_MOST_S),
        work={"rows": float(shape.n), "flops": shape.flops},
        detail={"shape": {"label": shape.label, "n": shape.n, "p": shape.p}, "ridge": RIDGE, "precision": "fp64"},
    )


def _on_host(beta: Any) -> FloatArray:
    return np.asarray(beta.cpu() if hasattr(beta, "cpu") else beta, np.float64)


def _solver(device: str) -> Solver:
    if device not in _SOLVERS:
        raise unknown("device", device, _SOLVERS)
    return _SOLVERS[device]()


def _cpu() -> Solver:
    from waferline.kernels.cpu.threads import available_threads
    from waferline.measure.resident.cpu import CpuSolver

    return CpuSolver(Cpu(available_threads()), RIDGE)


def _cuda() -> Solver:
    from waferline.measure.resident.cuda import cuda_solver

    return cuda_solver(RIDGE)


_SOLVERS: Mapping[str, Callable[[], Solver]] = {"cuda": _cuda, "cpu": _cpu}
