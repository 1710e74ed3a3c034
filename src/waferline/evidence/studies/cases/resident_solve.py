"""gam's device-resident throughput: three published solves on a V100 against the roofline with a Cholesky term.

Time of a weighted normal-equation solve whose design matrix stays on the device: Gram, Cholesky, two triangular solves.

The Gram product is an operator like any other and comes from the roofline. A Cholesky factorisation has a chain of p
dependent steps beside its p³/3 operations: t = step_s p + p³ / (3 rate). Neither constant follows from a data sheet.
Source: the protocol of gam's resident throughput (issue 988); the blocked factorisation of LAPACK's xPOTRF.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.evidence.studies.facts import Facts
from waferline.evidence.studies.study import Check, identity
from waferline.evidence.studies.tolerance import at_most, printed, relative
from waferline.machines.device import Device
from waferline.machines.hardware import load_hardware
from waferline.predict.roofline import Machine, time_operator
from waferline.workloads.operator import Operator

_BYTES = 8.0  # fp64
_STREAMS = 3.0  # X is read, its weighted copy written and read again


@dataclass(frozen=True, slots=True)
class Shapes:
    """Rows of X and unknowns of each problem."""

    n: FloatArray
    p: FloatArray

    @property
    def gram_flops(self) -> FloatArray:
        return 2 * self.n * self.p**2

    @property
    def flops(self) -> FloatArray:
        """Gram, Cholesky and the two triangular solves."""
        return self.gram_flops + self.p**3 / 3 + 2 * self.p**2


@dataclass(frozen=True, slots=True)
class Cholesky:
    """t = step_s p + p³ / (3 rate_flops)."""

    step_s: float
    rate_flops: float

    def seconds(self, p: FloatArray) -> FloatArray:
        return np.asarray(self.step_s * p + p**3 / (3 * self.rate_flops))


def gram_s(shapes: Shapes, device: Device) -> FloatArray:
    """Seconds of XᵀWX to expect on `device`, in fp64."""
    n, p = shapes.n, shapes.p
    nothing = np.zeros(())
    product = Operator(
        name="gram",
        kind="gemm",
        count=np.ones(()),
        flops=shapes.gram_flops,
        weight_bytes=_BYTES * n * p,
        activation_bytes=_BYTES * (n * p + p * p),
        kv_bytes=nothing,
        weights="fp64",
        activations="fp64",
        kv="fp64",
        shape={"m": p, "n": p, "k": n},
    )
    return np.asarray(time_operator(product, Machine(device)).expected_s)


def other_s(shapes: Shapes, device: Device) -> FloatArray:
    """Seconds of everything but Gram and factorisation: weighting, triangular solves, weights in and β out."""
    streamed = _BYTES * (_STREAMS * shapes.n * shapes.p + shapes.p**2)  # each triangular solve reads half the factor
    seconds = streamed / device.bandwidth_bytes_per_s
    host = [link for link in device.links if link.scope == "host"]
    if host:
        seconds = seconds + _BYTES * (shapes.n + 2 * shapes.p) / host[0].bandwidth_bytes_per_s
    return np.asarray(seconds)


def fit_cholesky(p: FloatArray, seconds: FloatArray, peak_flops: float) -> Cholesky:
    """Constants from measured factorisations, least relative squares, neither below what is possible (0 and the peak)."""
    columns = np.stack([p, p**3 / 3], axis=1) / seconds[:, None]
    candidates: list[tuple[float, float]] = []
    step, inverse = np.linalg.lstsq(columns, np.ones(len(p)), rcond=None)[0]
    candidates.append((max(float(step), 0.0), max(float(inverse), 1 / peak_flops)))
    alone = columns[:, 1]
    candidates.append((0.0, max(float(alone.sum() / (alone @ alone)), 1 / peak_flops)))
    rest = 1.0 - columns[:, 1] / peak_flops
    candidates.append((max(float(columns[:, 0] @ rest / (columns[:, 0] @ columns[:, 0])), 0.0), 1 / peak_flops))
    best = min(candidates, key=lambda c: float(np.sum((columns @ np.array(c) - 1) ** 2)))
    return Cholesky(best[0], 1 / best[1])


def leave_one_out(shapes: Shapes, seconds: FloatArray, device: Device) -> FloatArray:
    """Each time predicted with the factorisation's constants fitted to all the others."""
    known = gram_s(shapes, device) + other_s(shapes, device)
    predicted: Sequence[float] = [
        float(known[i] + _fit_without(i, shapes, seconds - known, device).seconds(shapes.p)[i])
        for i in range(len(seconds))
    ]
    return np.array(predicted)


def _fit_without(left_out: int, shapes: Shapes, rest_s: FloatArray, device: Device) -> Cholesky:
    others = np.arange(len(rest_s)) != left_out
    return fit_cholesky(shapes.p[others], rest_s[others], device.peak_flops["fp64"])


_NEAR = 0.25  # after calibrating the factorisation on other shapes
_WHY_GRAM = "the factorisation is a chain of dependent steps that a roofline of the Gram product does not see"
_WHY_LEFT_OUT = (
    "from p = 1024 to 2048 the rest of the solve grows 6 times, from 2048 to 4096 only 3.5 times: no sum of a linear and "
    "a cubic term does both, and two rows cannot fix more; the library may switch algorithms in between"
)


def compute(data: Facts) -> Iterator[Check]:
    device, rows = load_hardware(data["machine"]), data["rows"]
    shapes = Shapes(np.array([r["n"] for r in rows], float), np.array([r["p"] for r in rows], float))
    rates = np.array([r["rows_per_s"] for r in rows], float)
    seconds, peak = shapes.n / rates, device.peak_flops["fp64"]
    for row, rate in zip(rows, rates, strict=True):
        text = row["fraction"]
        of_target = float(rate / data["target_rows_per_s"])
        yield identity(f"{row['label']}: share of the target", "×", float(text), of_target, printed(text))
    for row, share in zip(rows, shapes.flops / seconds / peak, strict=True):
        yield Check(f"{row['label']}: share of the fp64 peak", "share", None, float(share), at_most(1.0, "peak"))
    gram = gram_s(shapes, device) + other_s(shapes, device)
    for row, measured, expected in zip(rows, seconds, gram, strict=True):
        name = f"{row['label']}: a solve without its factorisation"
        yield Check(name, "s", float(measured), float(expected), relative(_NEAR), why=_WHY_GRAM)
    for row, measured, expected in zip(rows, seconds, leave_one_out(shapes, seconds, device), strict=True):
        name = f"{row['label']}: a solve, Cholesky fitted on the other two"
        yield Check(name, "s", float(measured), float(expected), relative(_NEAR), why=_WHY_LEFT_OUT)
