"""How two activities that share a kernel add up: compute and memory overlap, but not perfectly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Values = float | NDArray[np.float64]  # one point or many; everything broadcasts


def overlap_s(a_s: Values, b_s: Values, exposed: float) -> Array:
    """Seconds of two overlapping activities: `max + exposed * min**2 / max`.

    At a == b it equals the p-norm with 2**(1/p) = 1 + exposed (0.41 is p = 2, 0.19 is p = 4), without a power; it is
    never below the longer of the two, so the speed of light survives it.
    """
    longer = np.maximum(a_s, b_s)
    shorter = np.minimum(a_s, b_s)
    return np.asarray(longer + exposed * shorter * (shorter / np.maximum(longer, np.finfo(float).tiny)), dtype=float)


def no_faster_than_light(expected_s: Values, light_compute_s: Values, light_memory_s: Values) -> Array:
    """`expected_s`, lifted to the speed-of-light bound where it falls below."""
    return np.maximum(expected_s, np.maximum(light_compute_s, light_memory_s))
