"""Cost of matrix products by table look-up on CPUs: linear in the bits of a weight, where dequantisation is flat.

Source: T-MAC, arXiv:2407.00088v2, section 3. The kernel itself is `waferline.kernels.cpu.lut`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from waferline.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class LutToken:
    """Time of a generated token on one machine with one model: `layers_s` once, `bit_s` for every bit of a weight."""

    layers_s: float
    bit_s: float

    def time_s(self, bits: float, layers: float = 1.0, parameters: float = 1.0) -> float:
        """For a model with so many times the layers and the parameters of the fitted one."""
        return self.layers_s * layers + self.bit_s * bits * parameters


def fit(tokens_per_s: dict[float, float]) -> LutToken:
    """The two constants from the rates at two widths, `{bits: tokens/s}`."""
    (one, rate_one), (two, rate_two) = sorted(tokens_per_s.items())
    bit_s = (1 / rate_two - 1 / rate_one) / (two - one)
    return LutToken(1 / rate_one - one * bit_s, bit_s)


def thread_times_s(threads: npt.ArrayLike, first_s: float, most: float, most_s: float) -> FloatArray:
    """Times at other thread counts from those at one and at `most` threads: a shared part and one that divides."""
    divides = (first_s - most_s) / (1 - 1 / most)
    return np.asarray(first_s - divides + divides / np.asarray(threads, dtype=np.float64))


def relative_energy(power_ratio: float, speed_ratio: float) -> float:
    """Energy of the same tokens over that of the baseline."""
    return power_ratio / speed_ratio
