"""Prediction intervals: how far measured times lay from predicted ones, on groups the constants had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray, Floats


@dataclass(frozen=True, slots=True)
class Regime:
    """Quantiles of log(measured / predicted) among predictions below `below_s` seconds (and above the regime before)."""

    below_s: float
    q05: float
    q25: float
    q75: float
    q95: float

    def wider(self, factor: float) -> Regime:
        """The same regime with every quantile `factor` times as far from no error."""
        return Regime(self.below_s, self.q05 * factor, self.q25 * factor, self.q75 * factor, self.q95 * factor)


@dataclass(frozen=True, slots=True)
class Interval:
    """Multipliers of the expected time: `low50 .. high50` should hold half of all measurements, `low90 .. high90` 90 %."""

    low90: FloatArray
    low50: FloatArray
    high50: FloatArray
    high90: FloatArray


def log_quantiles(
    residual: Sequence[Regime], expected_s: Floats
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(q05, q25, q75, q95) of log(measured / predicted) at each expected time; one regime broadcasts as scalars."""
    if len(residual) == 1:
        r = residual[0]
        return np.asarray(r.q05), np.asarray(r.q25), np.asarray(r.q75), np.asarray(r.q95)
    edges = np.array([r.below_s for r in residual[:-1]])
    index = np.searchsorted(edges, np.asarray(expected_s), side="right")
    table = np.array([[r.q05, r.q25, r.q75, r.q95] for r in residual])
    return table[:, 0][index], table[:, 1][index], table[:, 2][index], table[:, 3][index]


def interval(residual: Sequence[Regime], expected_s: Floats) -> Interval:
    """The 50 % and 90 % interval of one operator as multipliers of `expected_s`."""
    q05, q25, q75, q95 = log_quantiles(residual, expected_s)
    return Interval(np.exp(q05), np.exp(q25), np.exp(q75), np.exp(q95))
