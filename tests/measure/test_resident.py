"""The fail-loud protocol: no device, a device lost midway and every rate that is no rate must not pass."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from waferline.errors import DoesNotFitError, InvalidInputError, RefusedError, UnknownNameError
from waferline.measure.contract import Measurement, Refusal
from waferline.measure.engine import Cpu, NotEngaged
from waferline.measure.resident import (
    CANONICAL_ENCODE_SHAPES,
    DEPLOYMENT,
    EncodeShape,
    Gate,
    Met,
    Undetermined,
    Unmet,
    cpu_oracle_normal_equations_solve,
    encode_shape,
    judge,
    measure_resident_solve_throughput,
)
from waferline.measure.resident.shapes import RIDGE, Inputs
from waferline.measure.resident.solvers import CpuSolver
from waferline.measure.resident.verdict import judge_rate

SMALL = EncodeShape("small", 300, 40)
TARGET = DEPLOYMENT.rows_per_s


def test_the_canonical_shapes_and_the_target_are_those_of_the_protocol() -> None:
    assert [(s.label, s.n, s.p) for s in CANONICAL_ENCODE_SHAPES] == [
        ("sae-2k-2048", 2000, 2048),
        ("sae-4k-4096", 4000, 4096),
        ("sae-8k-1024", 8000, 1024),
    ]
    assert TARGET == 100_000.0
    # 19.6, 157 and 17.1 GFLOP a solve, as computed from the published times and rates
    assert [round(s.flops / 1e9) for s in CANONICAL_ENCODE_SHAPES] == [20, 157, 17]


@given(n=st.integers(1, 60), p=st.integers(1, 300), ridge=st.floats(1e-3, 10.0))
@settings(max_examples=40, deadline=None)
def test_the_oracle_solves_the_normal_equations(n: int, p: int, ridge: float) -> None:
    random = np.random.default_rng(n * 1000 + p)
    x, w, rhs = random.standard_normal((n, p)), random.uniform(0, 2, n), random.standard_normal(p)
    beta = cpu_oracle_normal_equations_solve(x, w, rhs, ridge)
    left = x.T @ (w * (x @ beta)) + ridge * beta
    assert np.abs(left - rhs).max() < 1e-8 * (1 + np.abs(beta).max())


def test_the_oracle_refuses_what_is_not_positive_definite() -> None:
    x = np.ones((3, 2))
    with pytest.raises(RefusedError, match="pivot"):
        cpu_oracle_normal_equations_solve(x, np.ones(3), np.ones(2), -10.0)
    with pytest.raises(InvalidInputError):
        cpu_oracle_normal_equations_solve(x, np.array([1.0, -1.0, 1.0]), np.ones(2), 1.0)
    with pytest.raises(InvalidInputError):
        cpu_oracle_normal_equations_solve(x, np.array([1.0, math.nan, 1.0]), np.ones(2), 1.0)


@pytest.mark.parametrize("p", [7, 256, 513])
def test_the_cpu_as_a_device_agrees_with_the_oracle(p: int) -> None:
    shape = EncodeShape("x", 700, p)
    inputs = Inputs.of(shape)
    solver = CpuSolver(Cpu(1))
    solver.stage(inputs.x)
    w = inputs.weights(3)
    wanted = cpu_oracle_normal_equations_solve(inputs.x, w, inputs.rhs, RIDGE)
    assert np.abs(solver.solve(w, inputs.rhs) - wanted).max() < 1e-9 * np.abs(wanted).max()


def test_a_cpu_run_is_measured_and_judged_as_the_cpu() -> None:
    result = measure_resident_solve_throughput(SMALL, 5, device="cpu")
    assert isinstance(result.outcome, Measurement)
    assert result.outcome.device == "cpu"
    assert result.outcome.check.error < 1e-9
    assert result.measured_rows_per_s == pytest.approx(SMALL.n / result.outcome.median_s)
    assert isinstance(result.verdict, Undetermined) and result.verdict.reason == "other-device"
    judged = judge(result.outcome, Gate(1.0, "cpu"))
    assert isinstance(judged, Met) and judged.device == "cpu"
    assert result.to_json()["engaged"]


def test_no_gpu_is_undetermined_and_never_met() -> None:
    from waferline.kernels.gpu.available import unavailable

    if unavailable() is None:
        pytest.skip("a GPU is here")
    result = measure_resident_solve_throughput(SMALL, 5, device="cuda")
    assert isinstance(result.verdict, Undetermined)
    assert result.verdict.reason == "no-device"
    assert (result.engaged, result.measured_rows_per_s, result.verdict.meets_target) == (False, 0.0, False)
    with pytest.raises(RefusedError) as caught:
        raise result.outcome.error() if isinstance(result.outcome, Refusal) else AssertionError
    assert caught.value.exit_code == 4


STAGING: dict[str, Exception] = {
    "staging": RuntimeError("out of device memory"),
    "memory": MemoryError(),
    "value": ValueError("an array is too big"),
    "algebra": np.linalg.LinAlgError("SVD did not converge"),
    "elsewhere": NotEngaged("X lies on the host"),
}


class BadSolver(CpuSolver):
    """A solver that goes wrong in a chosen way at a chosen solve; the arithmetic before it is real."""

    def __init__(self, how: str, at: int) -> None:
        super().__init__(Cpu(1, "bad:0"))
        self.how, self.left = how, at

    def stage(self, x: np.ndarray) -> None:
        if self.how in STAGING:
            raise STAGING[self.how]
        super().stage(x)

    def solve(self, w: np.ndarray, rhs: np.ndarray) -> np.ndarray:
        self.left -= 1
        beta = super().solve(w, rhs)
        time.sleep(3e-4)  # longer than the shortest repeat, so that one repeat is one solve
        if self.left >= 0:
            return beta
        if self.how == "lost":
            raise RuntimeError("the device was lost")
        if self.how == "host":
            raise NotEngaged("the Gram matrix was formed on the host")
        return {"nan": beta * math.nan, "inf": beta * math.inf, "zero": beta * 0.0, "off": beta * (1 + 1e-8)}[self.how]


@pytest.mark.parametrize(
    ("how", "at", "reason"),
    [
        ("staging", 0, "device-lost"),
        ("memory", 0, "out-of-memory"),
        ("value", 0, "failed"),
        ("algebra", 0, "failed"),
        ("elsewhere", 0, "not-engaged"),
        ("lost", 0, "device-lost"),
        ("lost", 4, "device-lost"),
        ("host", 3, "not-engaged"),
        ("nan", 0, "wrong-result"),
        ("nan", 3, "wrong-result"),
        ("inf", 3, "wrong-result"),
        ("zero", 3, "wrong-result"),
        ("off", 0, "wrong-result"),
    ],
)
def test_a_device_that_fails_anywhere_gives_rate_zero(how: str, at: int, reason: str) -> None:
    result = measure_resident_solve_throughput(SMALL, 6, solver=BadSolver(how, at))
    assert isinstance(result.outcome, Refusal)
    assert result.outcome.reason == reason
    assert result.measured_rows_per_s == 0.0
    assert isinstance(result.verdict, Undetermined)
    assert not result.verdict.meets_target


@pytest.mark.parametrize(
    ("rate", "fraction", "meets"),
    [
        (0.0, 0.0, False),
        (-1.0, 0.0, False),
        (math.nan, 0.0, False),
        (math.inf, 0.0, False),
        (-math.inf, 0.0, False),
        (0.25 * TARGET, 0.25, False),
        (math.nextafter(TARGET, 0.0), 1.0, False),
        (TARGET, 1.0, True),
        (2 * TARGET, 2.0, True),
    ],
)
def test_the_verdict_on_every_kind_of_rate(rate: float, fraction: float, meets: bool) -> None:
    verdict = judge_rate("cuda:0", rate, DEPLOYMENT)
    assert verdict.meets_target is meets
    assert (isinstance(verdict, Met), isinstance(verdict, Unmet)) == (meets, not meets)
    assert verdict.fraction == pytest.approx(fraction)


def test_a_verdict_comes_only_from_an_outcome() -> None:
    refusal = Refusal(name="x", device="cuda:0", reason="no-device", explanation="none")
    assert judge(refusal, Gate(0.0)) == Undetermined("no-device", "none", Gate(0.0))
    with pytest.raises(TypeError):
        Undetermined("no-device", "none", Gate(0.0), 1.0, True)  # type: ignore[call-arg]


@pytest.mark.parametrize("reps", [-1, 0, 4])
def test_too_few_repeats_are_bad_input(reps: int) -> None:
    with pytest.raises(InvalidInputError):
        measure_resident_solve_throughput(SMALL, reps, device="cpu")


def test_shapes_and_devices_by_name() -> None:
    assert encode_shape("sae-8k-1024").n == 8000
    assert encode_shape("12x34") == EncodeShape("12x34", 12, 34)
    with pytest.raises(UnknownNameError, match="sae-2k-2048"):
        encode_shape("sae-2k")
    for shape in ("0x4", "4x0"):
        with pytest.raises(InvalidInputError):
            encode_shape(shape)
    for shape in ("²x4", "9" * 5000 + "x4", "x", "4x", "-4x4"):
        with pytest.raises(UnknownNameError):
            encode_shape(shape)
    with pytest.raises(UnknownNameError):
        measure_resident_solve_throughput(SMALL, 5, device="tpu")
    with pytest.raises(InvalidInputError):
        measure_resident_solve_throughput(EncodeShape("none", 0, 4), 5, device="cpu")


def test_what_does_not_fit_is_said_before_it_is_allocated() -> None:
    with pytest.raises(DoesNotFitError):
        measure_resident_solve_throughput(EncodeShape("huge", 10**7, 10**6), 5, device="cpu")
