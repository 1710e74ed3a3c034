"""How two activities that share a kernel add up: compute and memory overlap, but not perfectly."""

from __future__ import annotations

import numpy as np

from waferline.arrays import FloatArray, Floats


def overlap_s(a_s: Floats, b_s: Floats, exposed: float) -> FloatArray:
    """Seconds of two overlapping activities: `max + exposed * min**2 / max`.

    At a == b it equals the p-norm with 2**(1/p) = 1 + exposed (0.41 is p = 2, 0.19 is p = 4), without a power; it is
    never below the longer of the two, so the speed of light survives it.
    """
    longer = np.maximum(a_s, b_s)
    shorter = np.minimum(a_s, b_s)
    return np.asarray(longer + exposed * shorter * (shorter / np.maximum(longer, np.finfo(float).tiny)), dtype=float)


def no_faster_than_light(expected_s: Floats, light_compute_s: Floats, light_memory_s: Floats) -> FloatArray:
    """`expected_s`, lifted to the speed-of-light bound where it falls below."""
    return np.maximum(expected_s, np.maximum(light_compute_s, light_memory_s))
