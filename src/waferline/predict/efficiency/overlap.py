"""How two activities that share a kernel add up: compute and memory overlap, but not perfectly."""

from __future__ import annotations

import sys

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum

_TINY = sys.float_info.min


def overlap_s(a_s: Floats, b_s: Floats, exposed: float) -> Floats:
    """Seconds of two overlapping activities: `max + exposed * min**2 / max`.

    At a == b it equals the p-norm with 2**(1/p) = 1 + exposed (0.41 is p = 2, 0.19 is p = 4), without a power; it is
    never below the longer of the two, so the speed of light survives it.
    """
    longer = maximum(a_s, b_s)
    shorter = minimum(a_s, b_s)
    return longer + exposed * shorter * (shorter / maximum(longer, _TINY))


def no_faster_than_light(expected_s: Floats, light_compute_s: Floats, light_memory_s: Floats) -> Floats:
    """`expected_s`, lifted to the speed-of-light bound where it falls below."""
    return maximum(expected_s, maximum(light_compute_s, light_memory_s))
