"""Seconds of operators that only move bytes: norms, elementwise arithmetic, rotary embedding, gathers, sampling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from waferline.arrays import FloatArray, Floats
from waferline.predict.efficiency.device import DeviceFacts, floor_s, memory_efficiency


def streaming_s(
    n_bytes: Floats,
    *,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
    kernels: Floats = 1.0,
) -> FloatArray:
    """Expected seconds of `kernels` launches that together move `n_bytes`: a floor each, then a share of the bandwidth.

    What fits a share of the last-level cache was just written by the operator before, and costs less.
    """
    n_bytes = np.asarray(n_bytes, dtype=float)
    cached = np.minimum(n_bytes, c["cache_share"] * device.l2_bytes)
    moved_s = np.maximum(light_memory_s, n_bytes / device.bandwidth_bytes_per_s)
    share = 1.0 - c["cache_gain"] * cached / np.maximum(n_bytes, 1.0)
    return np.asarray(np.asarray(kernels) * floor_s(device, c) + moved_s * share / memory_efficiency(device, c))
