"""Operators that go over vectors once: norm, swiglu, softmax. The kernels run them on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from waferline.errors import UnsupportedError
from waferline.kernels.cpu.elementwise import rms_norm_rows, swiglu_row
from waferline.kernels.cpu.softmax import ALGORITHMS
from waferline.measure.contract import Check, Outcome, relative_error
from waferline.measure.engine import Cpu, Plan, foresee_memory, measure
from waferline.measure.operators.request import OperatorRequest

_TOLERANCE = 1e-5  # f32 sums of up to some 10**5 terms
_EPS = 1e-5
_SEED = 20260103


@dataclass(frozen=True, slots=True)
class Vector:
    """passes: f32 vectors read or written. make: (run, reference) for (rows, shape, random)."""

    passes: float
    make: Callable[[int, tuple[int, ...], np.random.Generator], tuple[Callable[[], Any], Any]]


def _norm(rows: int, shape: tuple[int, ...], random: np.random.Generator) -> tuple[Callable[[], Any], Any]:
    (d,) = shape
    x, weight = random.standard_normal((rows, d)).astype(np.float32), random.standard_normal(d).astype(np.float32)
    y = np.empty_like(x)

    def run() -> Any:
        rms_norm_rows(x, weight, _EPS, y, 0, rows)
        return y

    wide = x.astype(np.float64)
    return run, wide / np.sqrt((wide**2).mean(-1, keepdims=True) + _EPS) * weight


def _swiglu(rows: int, shape: tuple[int, ...], random: np.random.Generator) -> tuple[Callable[[], Any], Any]:
    (n,) = shape
    gate, up = (random.standard_normal(rows * n).astype(np.float32) for _ in range(2))
    y = np.empty_like(gate)

    def run() -> Any:
        swiglu_row(gate, up, y)
        return y

    return run, gate.astype(np.float64) / (1 + np.exp(-gate.astype(np.float64))) * up


def _softmax(
    kernel: Callable[[Any, Any], None], rows: int, shape: tuple[int, ...], random: np.random.Generator
) -> tuple[Callable[[], Any], Any]:
    (n,) = shape
    x = random.standard_normal((rows, n)).astype(np.float32)
    y = np.empty_like(x)

    def run() -> Any:
        for r in range(rows):
            kernel(x[r], y[r])
        return y

    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return run, e / e.sum(-1, keepdims=True)


SOFTMAXES: Mapping[str, Vector] = {  # of each the traffic that predict counts, so that rates of all stand side by side
    name.removeprefix("three-pass-"): Vector(3, partial(_softmax, kernel)) for name, kernel in ALGORITHMS.items()
}
VECTORS: Mapping[str, Vector] = {
    "norm": Vector(2, _norm),
    "swiglu": Vector(3, _swiglu),
    "softmax": SOFTMAXES["reload"],
}


def measure_vector(request: OperatorRequest, plan: Plan) -> Outcome:
    """Time one pass over `batch` rows. Raises: UnsupportedError for more than one thread."""
    if request.threads != 1:
        raise UnsupportedError(f"{request.operator} runs on one thread", where="threads", hint="--threads 1")
    elements = request.batch * int(np.prod(request.shape))
    kind = SOFTMAXES[request.kernel] if request.kernel else VECTORS[request.operator]
    foresee_memory(8.0 * (kind.passes + 4) * elements, request.label)
    run, wanted = kind.make(request.batch, request.shape, np.random.default_rng(_SEED))

    def check(got: Any) -> Check:
        error = relative_error(got, wanted)
        got.fill(np.nan)  # the next pass has to write it anew
        return Check("the formula in f64", error, _TOLERANCE)

    return measure(
        run,
        name=request.label,
        check=check,
        device=Cpu(1),
        plan=plan,
        work={"bytes": 4.0 * kind.passes * elements, "elements": float(elements)},
        detail=request.detail(),
    )
