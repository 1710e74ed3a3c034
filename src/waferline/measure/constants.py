"""From a few measured operators to the constants that predict uses for this machine.

measure knows nothing of the formulas: the caller hands over `time(operator, constants) -> seconds`, and the constants
are fitted through it. So the profile always fits the formula that will read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.fit import bounded, residual_quantiles
from waferline.workloads.operator import Operator

TimeOf = Callable[[Operator, Mapping[str, float]], float]

# What a CPU's matrix products need no fit for, and why; laid over the constants that predict starts from.
SETTLED: Mapping[str, float] = {
    "occupancy_loss": 0.0,  # rows are cut evenly over the threads
    "tile_m": 1.0,
    "tile_n": 16.0,  # rows in a tile of packed weights
    "quant_floor_s": 0.0,  # activations are quantised in the same call
    "quant_bandwidth_efficiency": 0.5,  # read once and written once, from cache
}
# Fitted constants with their bounds; searched in the logarithm.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "bandwidth_efficiency": (0.02, 1.0),  # of main memory
    "compute_efficiency": (0.01, 1.0),
    "exposed": (0.01, 1.5),
    "floor_s": (1e-7, 1e-3),
    "wide_compute_efficiency": (0.01, 1.0),
    "wide_unpack_s": (1e-13, 1e-8),  # a weight
}
_RESTARTS = (0.25, 0.5, 0.75)  # of the way between the bounds: the formulas have kinks that a search can stop at
_STEPS = 200
_SMALL = 0.02  # log ratios below this are as good as none
LEAST_RESIDUAL = 0.03  # an interval narrower than run-to-run spread would be a boast


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants of one operator kind and format; errors are |log(measured / fitted)| on the cases fitted to."""

    c: Mapping[str, float]
    errors: tuple[float, ...]
    residual: tuple[float, float, float, float]

    @property
    def median_error(self) -> float:
        return sorted(self.errors)[len(self.errors) // 2]

    @property
    def worst_error(self) -> float:
        return max(self.errors)


def fit(
    cases: Sequence[tuple[Operator, float]],
    time: TimeOf,
    start: Mapping[str, float],
    wider: Mapping[str, tuple[float, float]] | None = None,
) -> Fitted:
    """Constants that bring `time` nearest to the measured seconds of `cases`: least sum of |log ratio|, which one
    disturbed case cannot drag.

    start: every constant the formula needs; those in `SETTLED` are settled, those with bounds are fitted, the rest stay.
    wider: bounds that differ for this kind of operator.
    """
    fixed = {**start, **{key: value for key, value in SETTLED.items() if key in start}}
    bounds = {key: span for key, span in {**_BOUNDS, **(wider or {})}.items() if key in start}
    low, high = np.log(np.array(list(bounds.values()), dtype=float)).T

    def constants(x: FloatArray) -> dict[str, float]:
        return {**fixed, **dict(zip(bounds, np.exp(x).tolist(), strict=True))}

    def errors(x: FloatArray) -> FloatArray:
        c = constants(x)
        return np.array([math.log(time(op, c) / seconds) for op, seconds in cases])

    at = np.log([min(max(start[key], least), most) for key, (least, most) in bounds.items()])
    starts = [at, *(low + share * (high - low) for share in _RESTARTS)]
    found, _ = bounded(errors, starts, low, high, noise=_SMALL, steps=_STEPS)
    e = errors(found)
    return Fitted(constants(found), tuple(np.abs(e).tolist()), _at_least(residual_quantiles(e, "nearest")))


def _at_least(quantiles: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """(q05, q25, q75, q95) at least as wide as `LEAST_RESIDUAL` allows."""
    low, near_low, near_high, high = quantiles
    return (
        min(low, -LEAST_RESIDUAL),
        min(near_low, -LEAST_RESIDUAL / 3),
        max(near_high, LEAST_RESIDUAL / 3),
        max(high, LEAST_RESIDUAL),
    )
