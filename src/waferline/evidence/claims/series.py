"""Measured series judged without knowing the machine: what grows in work must grow in time, as fast as silicon allows.

Lazy frameworks build a graph and return at once; timing them without forcing the result gives times that do not depend
on the work. Such a series implies arithmetic that no machine of its kind has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from waferline.arrays import FloatArray
from waferline.machines.hardware import hardware_names, load_hardware

_FLAT_GROWTH = 16.0  # times the work, over which a flat time is no longer start-up cost
_FLAT = 2.0  # times the time


@dataclass(frozen=True, slots=True)
class SeriesVerdict:
    """`accepted`, with the rate that the series implies and what it breaks."""

    accepted: bool
    implied_flops_per_s: float
    reasons: tuple[str, ...]


def fastest_flops(vendor: str) -> float:
    """The highest 16- or 32-bit peak of any machine of a vendor in the catalogue."""
    devices = [load_hardware(n) for n in hardware_names()]
    wide = [d.peak_flops.get(f, 0.0) for d in devices if d.vendor.lower() == vendor.lower() for f in ("fp16", "fp32")]
    return max(wide)


def judge_series(flops: FloatArray, times_s: FloatArray, peak_flops: float) -> SeriesVerdict:
    """A series of (work, time): reject it where a row outruns `peak_flops`, or where time ignores the work."""
    implied = float(np.max(flops / times_s))
    reasons = []
    if implied > peak_flops:
        reasons.append(f"implies {implied / 1e12:,.0f} TFLOP/s where the fastest machine has {peak_flops / 1e12:,.0f}")
    growth, slower = np.max(flops) / np.min(flops), np.max(times_s) / np.min(times_s)
    if growth >= _FLAT_GROWTH and slower < _FLAT:
        reasons.append(f"{growth:.0f} times the work takes {slower:.1f} times the time")
    return SeriesVerdict(not reasons, implied, tuple(reasons))
