"""GELU from a small table: gelu(x) = relu(x) - delta(|x|), where delta is even and fades by 5.5.

Source: Edge-MoE, arXiv:2305.18691, section III-C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray

_STEEPEST_BEND = 2.0 / math.sqrt(2.0 * math.pi)  # largest |gelu''|, at zero


def gelu(x: npt.ArrayLike) -> FloatArray:
    """x times the normal distribution's cumulative, in double precision."""
    values = np.asarray(x, np.float64)
    return values * 0.5 * (1.0 + _erf(values / math.sqrt(2.0)))


@dataclass(frozen=True, slots=True)
class GeluTable:
    """delta at 0, step, 2 step, ...; linear between, plain ReLU beyond the last entry."""

    step: float
    deltas: FloatArray

    @classmethod
    def build(cls, step: float, entries: int) -> GeluTable:
        points = step * np.arange(entries)
        return cls(step, np.maximum(points, 0.0) - gelu(points))

    @property
    def error_bound(self) -> float:
        """Of linear interpolation, step² / 8 times the largest curvature, plus what is dropped beyond the table."""
        return self.step**2 / 8 * _STEEPEST_BEND + float(abs(self.deltas[-1]))

    def __call__(self, x: npt.ArrayLike) -> FloatArray:
        values = np.asarray(x, np.float64)
        place = np.abs(values) / self.step
        left = np.minimum(place.astype(np.int64), len(self.deltas) - 2)
        between = place - left
        delta = self.deltas[left] + between * (self.deltas[left + 1] - self.deltas[left])
        return np.maximum(values, 0.0) - np.where(place > len(self.deltas) - 1, 0.0, delta)


_erf = np.vectorize(math.erf, otypes=[np.float64])
