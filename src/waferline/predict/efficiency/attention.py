"""Seconds of scaled-dot-product attention: decode (one query a sequence) and causal prefill."""

from __future__ import annotations

from collections.abc import Mapping

from waferline.arrays import Floats
from waferline.elementwise import ceil, maximum, minimum, where
from waferline.predict.efficiency.device import DeviceFacts
from waferline.predict.efficiency.kernel import Kernel
from waferline.predict.efficiency.overlap import no_faster_than_light, overlap_s
from waferline.workloads.operator import Operator

Q_BLOCK = 128.0  # query rows of one tile of a FlashAttention kernel
WIDE_GROUP = 32.0  # query heads a KV head that tensor-core decode kernels take together
REFERENCE_HEAD_DIM = 128.0  # head size that efficiencies are quoted at


def decode_attention_s(
    batch: Floats,
    kv_len: Floats,
    heads: Floats,
    kv_heads: Floats,
    head_dim: Floats,
    *,
    kv_bytes_per_element: float,
    light_compute_s: Floats,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
    cache_warm: bool = False,
) -> Floats:
    """Expected seconds of one layer's decode attention; every argument broadcasts.

    kv_len: keys each sequence attends to (the window, where one is shorter). Programs are (sequence, KV head, chunk of `kv_chunk`
    keys): memory time grows with the units they leave idle, and each (sequence, KV head) pair costs time of its own. Without
    grouping (heads == kv_heads) engines take another kernel, which some do not split along the keys: a chain of `kv_len`
    steps. Groups above 32 query heads fall to a kernel that works one query head at a time. `cache_warm` says the KV cache
    was left in the last-level cache by an earlier run, as in a microbenchmark; a served model's is not.
    """
    pairs = batch * kv_heads
    group = heads / kv_heads
    alone, wide = group <= 1.0, group > WIDE_GROUP
    idle = device.sm_count / pairs
    splits = minimum(maximum(idle * c["split_units"], 1.0), ceil(kv_len / c["kv_chunk"]))
    lack = maximum(idle / splits, 1.0)
    row_bytes = head_dim * kv_bytes_per_element
    shape = (1.0 + c["row_overhead_bytes"] / row_bytes) / c["bandwidth_efficiency"]
    memory_s = light_memory_s * ((1.0 + c["occupancy_loss"] * (lack - 1.0)) * shape)
    if cache_warm:
        kv_bytes = 2.0 * pairs * kv_len * row_bytes
        memory_s = memory_s * (1.0 - c["cache_gain"] * minimum(1.0, c["cache_share"] * device.l2_bytes / kv_bytes))
    time_s = overlap_s(light_compute_s / c["compute_efficiency"], memory_s, c["exposed"])
    if c["unsplit_step_s"]:
        chain_s = where(alone, c["unsplit_step_s"], 0.0) * kv_len * maximum(1.0, 1.0 / idle)
        time_s = overlap_s(time_s, chain_s, c["exposed"])
    per_pair_s = where(alone, c["pair_alone_s"], c["pair_s"]) + where(wide, c["wide_head_s"], 0.0) * group
    fixed_s = c["floor_s"] + where(alone | (kv_heads <= 1), 0.0, c["grouped_floor_s"])
    time_s = time_s + (fixed_s + per_pair_s * pairs + c["kv_step_s"] * kv_len / splits)
    if cache_warm:
        return time_s
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def prefill_attention_s(
    batch: Floats,
    q_len: Floats,
    kv_len: Floats,
    heads: Floats,
    kv_heads: Floats,
    head_dim: Floats,
    *,
    light_compute_s: Floats,
    light_memory_s: Floats,
    device: DeviceFacts,
    c: Mapping[str, float],
) -> Floats:
    """Expected seconds of one layer's causal prefill attention; q_len < kv_len is a chunk after `kv_len - q_len` cached tokens.

    Work comes in blocks of 128 query rows, one program a (sequence, head, block). Time is bounded by even work plus the
    longest program (Graham 1966): with few programs a unit, the last rows of the causal triangle are waited for. Diagonal
    blocks compute masked pairs too, and short or wide heads keep the tensor cores less busy. A window is the caller's: it
    shortens the speed-of-light terms.
    """
    programs = batch * heads * ceil(q_len / Q_BLOCK)
    load = 1.0 + c["wave_share"] * device.sm_count / programs
    padded = 1.0 + c["mask_loss"] * Q_BLOCK / q_len
    narrow = REFERENCE_HEAD_DIM / head_dim
    shape = 1.0 + c["head_dim_loss"] * narrow + c["wide_head_loss"] / narrow
    compute_s = light_compute_s * (load * padded * (shape / c["compute_efficiency"]))
    memory_s = light_memory_s / c["bandwidth_efficiency"]
    time_s = overlap_s(compute_s, memory_s, c["exposed"])
    kv_tokens = batch * kv_heads * kv_len
    time_s = time_s + (c["floor_s"] + c["program_s"] * programs + c["kv_token_s"] * kv_tokens + c["kv_step_s"] * kv_len)
    return no_faster_than_light(time_s, light_compute_s, light_memory_s)


def prefill_expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    s = op.shape
    shape = (s["batch"], s["q_len"], s["kv_len"], s["heads"], s["kv_heads"], s["head_dim"])
    roofs = {"light_compute_s": compute_s, "light_memory_s": memory_s}
    return prefill_attention_s(*shape, **roofs, device=kernel.device, c=kernel.c)


def decode_expected_s(op: Operator, kernel: Kernel, compute_s: Floats, memory_s: Floats) -> Floats:
    s = op.shape
    return decode_attention_s(
        s["batch"],
        s["kv_len"],
        s["heads"],
        s["kv_heads"],
        s["head_dim"],
        kv_bytes_per_element=kernel.kv_bits / 8,
        light_compute_s=compute_s,
        light_memory_s=memory_s,
        device=kernel.device,
        c=kernel.c,
        cache_warm="cache_warm" in s,
    )
