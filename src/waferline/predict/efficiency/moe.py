"""Seconds of a fused mixture-of-experts layer (gate, up, down of the routed experts) on one rank of a tp × ep group."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from waferline.predict.efficiency.device import DeviceFacts, matrix_efficiency
from waferline.predict.efficiency.gemm import UNQUANTISED_BITS, quantise_s
from waferline.predict.efficiency.overlap import Array, no_faster_than_light, overlap_s


def distinct_experts(tokens: ArrayLike, topk: ArrayLike, experts: ArrayLike) -> Array:
    """Expected number of experts that `tokens` tokens touch under even routing: E·(1 − (1 − topk/E)^tokens)."""
    share = np.divide(topk, experts, dtype=float)
    missed = np.exp(np.asarray(tokens, dtype=float) * np.log1p(-np.minimum(share, 1.0 - 1e-12)))
    return np.asarray(np.asarray(experts) * (1.0 - missed))


def moe_s(
    tokens: ArrayLike,
    hidden: ArrayLike,
    inter: ArrayLike,
    topk: ArrayLike,
    experts: ArrayLike,
    tp: ArrayLike,
    ep: ArrayLike,
    *,
    weight_bits: float,
    activation_bits: float,
    light_compute_s: ArrayLike,
    light_memory_s: ArrayLike,
    device: DeviceFacts,
    c: Mapping[str, float],
    balanced: ArrayLike = False,
) -> Array:
    """Expected seconds on the rank that the group waits for; every argument broadcasts.

    tokens: before routing, over the whole group. The light terms are those of an even share: `tokens·topk/ep` expert rows
    and the distinct experts they touch (`distinct_experts(...)/ep`). Routing that is not `balanced` makes the slowest rank
    wait longer as `ep` grows. Each expert's rows are padded to the kernel's row tile.
    """
    tokens, ep = np.asarray(tokens, dtype=float), np.asarray(ep, dtype=float)
    rows = tokens * topk / ep
    touched = np.maximum(distinct_experts(tokens, topk, experts) / ep, 1.0)
    per_expert = np.maximum(rows / touched, 1.0)
    padded = 1.0 + c["row_padding"] * c["tile_m"] / per_expert
    tiles = touched * np.ceil(per_expert / c["tile_m"]) * np.ceil(np.divide(inter, tp) / c["tile_n"])
    lack = np.maximum(device.sm_count / tiles, 1.0)
    skew = 1.0 + np.where(balanced, 0.0, c["skew"]) * (1.0 - 1.0 / ep)
    compute_s = light_compute_s * (
        padded * skew * (1.0 + c["wave_share"] * (lack - 1.0)) / matrix_efficiency(device, c)
    )
    memory_s = light_memory_s * ((1.0 + c["occupancy_loss"] * (lack - 1.0)) / c["bandwidth_efficiency"])
    time_s = overlap_s(compute_s, memory_s, c["exposed"])
    time_s = time_s + (c["floor_s"] + c["expert_s"] * touched + c["row_s"] * rows * hidden)
    if activation_bits < UNQUANTISED_BITS:
        time_s = time_s + quantise_s(rows, hidden, activation_bits=activation_bits, device=device, c=c)
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)
