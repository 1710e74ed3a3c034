"""Seconds of operators that only move bytes: norms, elementwise arithmetic, rotary embedding, gathers, sampling."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import maximum, minimum
from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.kernel import Kernel
from waferline.workloads.operator import Operator


def streaming_s(
    n_bytes: Floats,
    *,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
    kernels: Floats = 1.0,
) -> Floats:
    """Expected seconds of `kernels` launches that together move `n_bytes`: a floor each, then a share of the bandwidth.

    What fits a share of the last-level cache was just written by the operator before, and costs less.
    """
    cached = minimum(n_bytes, c["cache_share"] * device.l2_bytes)
    moved_s = maximum(light_memory_s, n_bytes / device.bandwidth_bytes_per_s)
    share = 1.0 - c["cache_gain"] * cached / maximum(n_bytes, 1.0)
    return kernels * c["floor_s"] + moved_s * share / c["bandwidth_efficiency"]


def expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    moved_s = streaming_s(op.bytes, light_memory_s=memory_s, device=kernel.device, c=kernel.c)
    return maximum(moved_s, compute_s)
