"""Seconds of operators that only move bytes: norms, elementwise arithmetic, rotary embedding, gathers, sampling."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.overlap import Array


def streaming_s(
    n_bytes: ArrayLike,
    *,
    light_memory_s: ArrayLike,
    device: DeviceFacts,
    c: Mapping[str, float],
    kernels: ArrayLike = 1.0,
) -> Array:
    """Expected seconds of `kernels` launches that together move `n_bytes`: a floor each, then a share of the bandwidth."""
    moved_s = np.maximum(light_memory_s, np.divide(n_bytes, device.bandwidth_bytes_per_s))
    return np.asarray(np.asarray(kernels) * c["floor_s"] + moved_s / c["bandwidth_efficiency"])
