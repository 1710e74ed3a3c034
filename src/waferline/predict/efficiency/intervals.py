"""Prediction intervals: how far measured times lay from predicted ones, on groups the constants had not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from waferline.arrays import Floats
from waferline.elementwise import where

QUANTILES = ("q05", "q25", "q75", "q95")


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

    low90: Floats
    low50: Floats
    high50: Floats
    high90: Floats


def shares(residual: Sequence[Regime], expected_s: Floats, weight_s: Floats) -> list[tuple[Regime, Floats]]:
    """`weight_s` under the regime of each point: every regime with the seconds that are its own, 0 elsewhere."""
    if len(residual) == 1:
        return [(residual[0], weight_s)]
    out, above = [], -np.inf
    for regime in residual:
        below = regime.below_s if regime is not residual[-1] else np.inf
        inside = (expected_s >= above) & (expected_s < below)
        out.append((regime, where(inside, weight_s, 0.0)))
        above = below
    return out


def log_quantiles(residual: Sequence[Regime], expected_s: Floats) -> tuple[Floats, ...]:
    """(q05, q25, q75, q95) of log(measured / predicted) at each expected time."""
    found = shares(residual, expected_s, 1.0)
    return tuple(sum(getattr(regime, q) * share for regime, share in found) for q in QUANTILES)


def interval(residual: Sequence[Regime], expected_s: Floats) -> Interval:
    """The 50 % and 90 % interval of one operator as multipliers of `expected_s`."""
    return Interval(*(np.exp(q) for q in log_quantiles(residual, expected_s)))
