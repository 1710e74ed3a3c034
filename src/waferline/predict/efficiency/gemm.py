"""Seconds of one GEMM, y[m, n] = x[m, k] · W[n, k]ᵀ, on one device."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import ceil, maximum, minimum, where
from waferline.predict.efficiency import streaming
from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.kernel import Kernel
from waferline.predict.efficiency.overlap import no_faster_than_light, overlap_s
from waferline.workloads.operator import Operator

SPLIT_K = 256.0  # the shortest run of k worth a split of its own: two 128-deep pipeline stages
K_BLOCK = 64.0  # depth of one k step of a tensor-core tile
CHANNELS = (
    64.0  # output channels of the narrowest tile of a convolution on matrix units: fewer leave columns of it empty
)
_TENSOR_UNITS = ("gpu", "soc")
UNQUANTISED_BITS = 16.0  # activations arrive as bf16; anything narrower is quantised first


def gemm_s(
    m: Floats,
    n: Floats,
    k: Floats,
    *,
    light_compute_s: Floats,
    light_memory_s: Floats,
    weight_bits: float,
    activation_bits: float,
    device: DeviceFacts,
    c: Mapping[str, float],
    cache_warm: bool = False,
) -> Floats:
    """Expected seconds; every argument broadcasts.

    The work is `tiles` output tiles, split along k when there are fewer tiles than units; compute slows down by the last,
    partly filled wave and by the k ramp, memory by the units left without work. Activations narrower than 16 bits pay a
    quantisation pass first (read 16 bits, write `activation_bits`, one program a row). `cache_warm` says that weights which
    fit the last-level cache were left there by an earlier run, as in a microbenchmark; a served model's are not.
    """
    tiles = ceil(m / c["tile_m"]) * ceil(n / c["tile_n"])
    idle = device.sm_count / tiles  # units per tile: above 1, some have none
    splits = minimum(maximum(idle, 1.0), 1.0 + k / (SPLIT_K * c["split_k"]))
    lack = maximum(idle / splits, 1.0)  # 1 when every unit has a tile or a split of one
    waves = ceil(tiles * (1.0 / device.sm_count)) * idle  # last wave, partly filled: above 1
    load = where(idle > 1.0, lack, 1.0 + c["wave_share"] * (waves - 1.0))
    share, unpack_s = _kernel(m, n, k, c["compute_efficiency"], c)
    compute_s = light_compute_s * load * ((1.0 + c["k_ramp"] * K_BLOCK / k) / share) + unpack_s
    memory_s = light_memory_s * ((1.0 + c["occupancy_loss"] * (lack - 1.0)) / c["bandwidth_efficiency"])
    if cache_warm and device.l2_bytes:
        weight_bytes = n * k * (weight_bits / 8.0)
        memory_s = memory_s * (
            1.0 - c["cache_gain"] / (1.0 + (weight_bytes / (c["cache_share"] * device.l2_bytes)) ** 4)
        )
    tile_step_s = 2.0 * c["tile_m"] * c["tile_n"] * device.sm_count / device.peak_flops  # one tile, one k, one unit
    k_step_s = c["k_step_share"] * tile_step_s
    time_s = overlap_s(compute_s, memory_s, c["exposed"]) + (c["floor_s"] + k_step_s * k / splits)
    if activation_bits < UNQUANTISED_BITS:
        time_s = time_s + quantise_s(m, k, activation_bits=activation_bits, device=device, c=c)
    if cache_warm:
        return time_s
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def _kernel(m: Floats, n: Floats, k: Floats, share: float, c: Mapping[str, float]) -> tuple[Floats, Floats]:
    """(share of the arithmetic peak, seconds to unpack the weights) of the kernel that runs at m rows of activations.

    CPU kernels change with m: below `wide_from_m`, vectors that unpack as they multiply; from there on, tiles whose
    weights are unpacked first, once for all rows. Records without that key have one kernel, which hides its unpacking.
    """
    if "wide_from_m" not in c:
        return share, 0.0
    wide = m >= c["wide_from_m"]
    weights = n * k
    return where(wide, c["wide_compute_efficiency"], share), where(wide, c["wide_unpack_s"] * weights, 0.0)


def quantise_s(
    rows: Floats, columns: Floats, *, activation_bits: float, device: DeviceFacts, c: Mapping[str, float]
) -> Floats:
    """Seconds to turn bf16 activations (rows, columns) into `activation_bits` with a scale a row or block.

    A floor, a program per row, the longest row's own latency, and the traffic.
    """
    per_element_s = (
        (UNQUANTISED_BITS + activation_bits) / 8.0 / (device.bandwidth_bytes_per_s * c["quant_bandwidth_efficiency"])
    )
    return rows * (c["quant_row_s"] + per_element_s * columns) + (c["quant_floor_s"] + c["quant_column_s"] * columns)


def expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    """A matrix product, or a convolution as one over patches (im2col)."""
    s = op.shape
    if "m" not in s:  # a stem given only by its totals
        return streaming.expected_s(op, kernel, compute_s, memory_s)
    if op.kind == "conv" and kernel.device.kind in _TENSOR_UNITS and s.get("groups", 1) == 1:
        compute_s = compute_s * maximum(CHANNELS / s["n"], 1.0)
    return gemm_s(
        s["m"],
        s["n"],
        s["k"],
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        weight_bits=kernel.weight_bits,
        activation_bits=UNQUANTISED_BITS if "narrow" in s else kernel.door_bits,
        device=kernel.device,
        c=kernel.c,
        cache_warm="cache_warm" in s,
    )
