"""From a few measured operators to the constants that predict uses for this machine.

measure knows nothing of the formulas: the caller hands over `time(operator, constants) -> seconds`, and the constants
are fitted through it. So the profile always fits the formula that will read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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
_ROUNDS, _POINTS, _SHRINK = 24, 9, 0.7
_SMALL = 0.02  # log ratios below this are as good as none
QUANTILES = (0.05, 0.25, 0.75, 0.95)
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
    A search one constant at a time over shrinking ranges: four constants and a handful of cases need no more.
    """
    fixed = {**start, **{key: value for key, value in SETTLED.items() if key in start}}
    bounds = {key: span for key, span in {**_BOUNDS, **(wider or {})}.items() if key in start}
    best = {key: min(max(start[key], low), high) for key, (low, high) in bounds.items()}
    score = _score(cases, time, {**fixed, **best})
    width = dict.fromkeys(bounds, 3.0)
    for _ in range(_ROUNDS):
        for key, (low, high) in bounds.items():
            centre = math.log(best[key])
            for i in range(_POINTS):
                value = math.exp(centre + width[key] * (2 * i / (_POINTS - 1) - 1))
                tried = {**best, key: min(max(value, low), high)}
                error = _score(cases, time, {**fixed, **tried})
                if error < score:
                    best, score = tried, error
            width[key] *= _SHRINK
    c = {**fixed, **best}
    ratios = [_log_ratio(op, seconds, time, c) for op, seconds in cases]
    return Fitted(c, tuple(abs(r) for r in ratios), _quantiles(ratios))


def _score(cases: Sequence[tuple[Operator, float]], time: TimeOf, c: Mapping[str, float]) -> float:
    return sum(math.hypot(_log_ratio(op, seconds, time, c), _SMALL) for op, seconds in cases)


def _log_ratio(op: Operator, seconds: float, time: TimeOf, c: Mapping[str, float]) -> float:
    return math.log(seconds / time(op, c))


def _quantiles(ratios: Sequence[float]) -> tuple[float, float, float, float]:
    """(q05, q25, q75, q95) of log ratios, at least as wide as `LEAST_RESIDUAL` allows."""
    ordered = sorted(ratios)
    picks = [ordered[round(q * (len(ordered) - 1))] for q in QUANTILES]
    low, near_low, near_high, high = picks
    return (
        min(low, -LEAST_RESIDUAL),
        min(near_low, -LEAST_RESIDUAL / 3),
        max(near_high, LEAST_RESIDUAL / 3),
        max(high, LEAST_RESIDUAL),
    )
